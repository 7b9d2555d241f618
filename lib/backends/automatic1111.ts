import { canonicalPath } from '../http/canonical-path.js';
import type { RequestFields } from '../job.js';
import { applyEdits } from '../json/text-edits.js';
import type { TopLevelMembers } from '../json/top-level-members.js';
import { AnswerMembers } from './answer-members.js';
import { Automatic1111Answer } from './automatic1111-answer.js';
import { automatic1111Progress } from './automatic1111-progress.js';
import { automatic1111Tasks } from './automatic1111-tasks.js';
import type { Backend, RequestFacts } from './backend.js';
import {
  jsonOf,
  MAX_FIELD_LENGTH,
  MAX_PROMPT_LENGTH,
  scalarOf,
  shortened,
  textOf,
} from './request-values.js';

const GENERATION_PATHS = new Set(['/sdapi/v1/txt2img', '/sdapi/v1/img2img']);
/** What its API has beside `/sdapi/`. */
const OTHER_API_PATHS = new Set(['/internal/progress', '/internal/ping', '/internal/pending-tasks']);
/** Both hit whatever runs, whoever asks. */
const DISTURBANCES = new Map<string, 'interrupt' | 'skip'>([
  ['/sdapi/v1/interrupt', 'interrupt'],
  ['/sdapi/v1/skip', 'skip'],
]);

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
/** SillyTavern sends its login for A1111, and the address, inside the body, too. */
const SECRET_MEMBERS = ['auth', 'url'];
const NOTHING = ['null', '""'];
const FALSE_WORDS = /^(?:0|off|f|false|n|no)$/i;

/** Automatic1111 from 1.6 on, Forge, reForge and SD.Next: whatever has `/sdapi/v1/txt2img`. */
export const automatic1111: Backend = {
  name: 'a1111',
  title: 'Automatic1111',
  hint: 'Check that it runs, was started with --api, and that this is its address.',
  answers: 'result',
  maxMemberBytes: 64 * 1024,
  // The API's own paths, such as the progress, need a login where there is `--api-auth`.
  pingPath: '/internal/ping',
  loginPath: '/sdapi/v1/progress?skip_current_image=true',

  matches: (method, path) => method === 'POST' && GENERATION_PATHS.has(canonicalPath(path)),
  owns(path) {
    const canonical = canonicalPath(path);
    return canonical.startsWith('/sdapi/') || OTHER_API_PATHS.has(canonical);
  },
  disturbance: (method, path) => (method === 'POST' ? DISTURBANCES.get(canonicalPath(path)) : undefined),
  tasks: automatic1111Tasks,
  progress: automatic1111Progress,

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
      imagesUnwanted: isUnwanted(members),
      hasSecrets: SECRET_MEMBERS.some((name) => !NOTHING.includes(members.get(name)?.text ?? 'null')),
    };
  },

  changesTo(members, { jobId, forwards }) {
    const changes: Record<string, string | boolean> = {};
    // What is no object is the backend's to refuse, and its answer may quote it.
    if (!members.whole) return changes;
    // The images are in the answer or nowhere: what A1111 saves on its own disk cannot be fetched from it.
    if (isUnwanted(members)) changes.send_images = true;
    // With a task id of ours, A1111's progress can be asked for this very job.
    if (forwards && namesNoTask(members)) changes.force_task_id = jobId;
    return changes;
  },

  taskOf(members, { jobId, forwards }) {
    if (!members.whole) return undefined;
    if (namesNoTask(members)) return forwards ? jobId : undefined;
    // An empty one makes A1111 take one of its own.
    return textOf(members, 'force_task_id') || undefined;
  },

  captureAnswer: (options) => new Automatic1111Answer(options),

  async answerAgain(kept, { imagesUnwanted }) {
    if (!imagesUnwanted) return kept;
    const members = new AnswerMembers();
    for await (const chunk of kept.text()) members.write(chunk);
    return { sizeBytes: undefined, chunks: () => applyEdits(kept.text(), members.editsWithoutImages) };
  },

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
    const text = (parts.length > 0 ? parts.join(': ') : body).replace(/\s+/g, ' ').trim();
    return shortened(text || `The backend answered ${status} without a word`, MAX_FIELD_LENGTH);
  },

  advise(status, body) {
    const unknownRoute = status === 404 && body.replace(/\s/g, '') === '{"detail":"NotFound"}';
    return unknownRoute ? 'It does not know its own API: start it with --api.' : undefined;
  },
};

function namesNoTask(members: TopLevelMembers): boolean {
  const taskId = members.get('force_task_id');
  return !taskId || taskId.text === 'null';
}

/** A fault as FastAPI lists it: `{loc: ["body", "steps"], msg: "value is not a valid integer"}`. */
function faultText(fault: unknown): string {
  const { loc, msg } = (fault ?? {}) as { loc?: unknown; msg?: unknown };
  return Array.isArray(loc) && typeof msg === 'string' ? `${loc.join('.')}: ${msg}` : JSON.stringify(fault);
}

/** Whether the client asks for an answer without images, in any of the ways in which pydantic takes a value for false. */
function isUnwanted(members: TopLevelMembers): boolean {
  const value = members.whole ? jsonOf(members.get('send_images')?.text) : undefined;
  return value === false || value === 0 || (typeof value === 'string' && FALSE_WORDS.test(value));
}
