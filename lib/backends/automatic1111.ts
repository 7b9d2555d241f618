import type { RequestFields } from '../job.js';
import type { TopLevelMembers } from '../json/top-level-members.js';
import { Automatic1111Answer } from './automatic1111-answer.js';
import type { Backend, RequestFacts } from './backend.js';

const GENERATION_PATHS = new Set(['/sdapi/v1/txt2img', '/sdapi/v1/img2img']);

/** What of a request stands in the record; the whole of it is in the answer's `parameters`. */
const RECORDED_FIELDS = [
  'negative_prompt',
  'seed',
  'steps',
  'width',
  'height',
  'cfg_scale',
  'sampler_name',
  'scheduler',
  'batch_size',
  'n_iter',
  'denoising_strength',
  'send_images',
];
const MAX_PROMPT_LENGTH = 10_000;
const MAX_FIELD_LENGTH = 1_000;

/** Automatic1111 from 1.6 on, Forge, reForge and SD.Next: whatever has `/sdapi/v1/txt2img`. */
export const automatic1111: Backend = {
  name: 'a1111',
  title: 'Automatic1111',
  hint: 'Check that it runs, was started with --api, and that this is its address.',

  matches: (method, path) => method === 'POST' && GENERATION_PATHS.has(path),

  readRequest(members): RequestFacts {
    const prompt = textOf(members, 'prompt') ?? '';
    const fields: Record<string, string | number | boolean> = {};
    for (const name of RECORDED_FIELDS) {
      const value = scalarOf(members.get(name)?.text);
      if (value !== undefined) fields[name] = value;
    }
    return {
      prompt: shortened(prompt, MAX_PROMPT_LENGTH),
      fields: fields as RequestFields,
      imagesUnwanted: isFalse(members),
    };
  },

  changesTo(members, { jobId, forwards }) {
    const changes: Record<string, string | boolean> = {};
    // The images are in the answer or nowhere: what A1111 saves on its own disk cannot be fetched from it.
    if (isFalse(members)) changes.send_images = true;
    // With a task id of ours, A1111's progress can be asked for this very job.
    const taskId = members.get('force_task_id')?.text;
    if (forwards && (taskId === undefined || taskId === 'null')) changes.force_task_id = jobId;
    return changes;
  },

  captureAnswer: (options) => new Automatic1111Answer(options),

  /** A1111's own errors are `{error, detail, errors}`; FastAPI's have a `detail` that is a text or a list of faults. */
  explainError(status, body) {
    const said = jsonOf(body);
    const parts: string[] = [];
    if (typeof said === 'object' && said !== null) {
      const { error, detail, errors } = said as Record<string, unknown>;
      for (const part of [error, detail, errors]) {
        if (typeof part === 'string' && part) parts.push(part);
        else if (Array.isArray(part)) parts.push(...part.map(faultText));
      }
    }
    const text = parts.length > 0 ? parts.join(': ') : body.trim();
    return shortened(text || `The backend answered ${status} without a word`, MAX_FIELD_LENGTH);
  },

  advise(status, body) {
    const unknownRoute = status === 404 && body.replace(/\s/g, '') === '{"detail":"NotFound"}';
    return unknownRoute ? 'It does not know its own API: start it with --api.' : undefined;
  },
};

/** A fault as FastAPI lists it: `{loc: ["body", "steps"], msg: "value is not a valid integer"}`. */
function faultText(fault: unknown): string {
  const { loc, msg } = (fault ?? {}) as { loc?: unknown; msg?: unknown };
  return Array.isArray(loc) && typeof msg === 'string' ? `${loc.join('.')}: ${msg}` : JSON.stringify(fault);
}

/** pydantic takes all of these for false. */
function isFalse(members: TopLevelMembers): boolean {
  return /^(false|0|"(false|off|no|n|f|0)")$/i.test(members.get('send_images')?.text ?? '');
}

function textOf(members: TopLevelMembers, name: string): string | undefined {
  const value = jsonOf(members.get(name)?.text);
  return typeof value === 'string' ? value : undefined;
}

function scalarOf(text: string | undefined): string | number | boolean | undefined {
  const value = jsonOf(text);
  if (typeof value === 'number')
    return Number.isInteger(value) && !Number.isSafeInteger(value) ? text : value;
  if (typeof value === 'boolean') return value;
  return typeof value === 'string' && value ? shortened(value, MAX_FIELD_LENGTH) : undefined;
}

function jsonOf(text: string | undefined): unknown {
  if (text === undefined) return undefined;
  try {
    return JSON.parse(text);
  } catch {
    // Not JSON: it is the backend's to judge, and says nothing to us.
    return undefined;
  }
}

function shortened(text: string, maxLength: number): string {
  return text.length <= maxLength ? text : `${text.slice(0, maxLength - 1)}…`;
}
