import { JobTrackerError } from '../errors.js';
import { callBackend } from '../http/backend-call.js';
import type { ComfyUIFile, JobError } from '../job.js';
import { arrayElements, type ValuePlace } from '../json/array-elements.js';
import { memberRemovals } from '../json/member-edits.js';
import { asPlainJson } from '../json/python-json.js';
import { editedText, type TextEdit } from '../json/text-edits.js';
import { type TopLevelMembers, topLevelMembersOf } from '../json/top-level-members.js';
import { SECRET_NAMES } from './comfyui-secrets.js';
import { jsonOf, MAX_FIELD_LENGTH, objectOf, shortened } from './request-values.js';

const ANSWER_WITHIN_MS = 30_000;
const MAX_ENTRY_BYTES = 256 * 1024 * 1024;
/** Files that a node shows but has not made stay where they are. */
const FETCHED_TYPES = ['output', 'temp'];

/** What ComfyUI's history says of one prompt. */
export interface HistoryEntry {
  /** The entry as ComfyUI wrote it, less what is secret in it. */
  readonly text: Buffer;
  /** The place of the workflow in it. */
  readonly workflow: ValuePlace | undefined;
  /** Why the prompt has failed; undefined where it has not. */
  readonly error: JobError | undefined;
  /** The files that it has made, each once. */
  readonly files: readonly ComfyUIFile[];
}

/** Asks for the entry of one prompt; undefined where there is none. Rejects with `BACKEND_UNANSWERED`. */
export async function readHistoryEntry(
  url: URL,
  promptId: string,
  signal?: AbortSignal,
): Promise<HistoryEntry | undefined> {
  const path = `/history/${encodeURIComponent(promptId)}`;
  const { status, body } = await callBackend(url, {
    path,
    timeoutMs: ANSWER_WITHIN_MS,
    maxBytes: MAX_ENTRY_BYTES,
    signal,
  });
  const members = topLevelMembersOf(body, { maxValueBytes: 0 });
  if (status !== 200 || !members.whole) {
    const what = status === 200 ? 'something else than a history' : status;
    throw new JobTrackerError('BACKEND_UNANSWERED', `${url.origin} answered ${what} to ${path}`);
  }
  const place = members.get(promptId);
  return place && parseHistoryEntry(body.subarray(place.start, place.end));
}

/** Reads `{"prompt": […], "outputs": {…}, "status": {…}, "meta": {…}}`. What it does not know says nothing. */
export function parseHistoryEntry(raw: Buffer): HistoryEntry {
  const text = withoutSecrets(raw);
  const members = topLevelMembersOf(text, { maxValueBytes: MAX_ENTRY_BYTES, maxTotalBytes: MAX_ENTRY_BYTES });
  const prompt = members.get('prompt');
  return {
    text,
    workflow: prompt && trimmed(text, arrayElements(text, prompt)?.[2]),
    error: errorOf(objectIn(members, 'status')),
    files: filesOf(objectIn(members, 'outputs')),
  };
}

/** A node may show numbers that are none, such as the loss of a training, and ComfyUI writes them as Python does. */
function objectIn(members: TopLevelMembers, name: string): Readonly<Record<string, unknown>> {
  const text = members.get(name)?.text;
  return objectOf(jsonOf(text === undefined ? undefined : asPlainJson(text)));
}

/** The sixth element of `prompt` is secret, and so are two members of `extra_data`, the fourth. */
function withoutSecrets(entry: Buffer): Buffer {
  const members = topLevelMembersOf(entry, { maxValueBytes: 0 });
  const prompt = members.get('prompt');
  const elements = prompt && arrayElements(entry, prompt);
  if (!elements) return entry;
  const edits: TextEdit[] = [];
  const extra = elements[3];
  if (extra) edits.push(...secretsIn(entry, extra));
  const fifth = elements[4];
  const last = elements.at(-1);
  if (fifth && last && elements.length > 5) edits.push({ start: fifth.end, end: last.end, text: '' });
  return edits.length > 0 ? editedText(entry, edits) : entry;
}

function secretsIn(text: Buffer, { start, end }: ValuePlace): TextEdit[] {
  const object = text.subarray(start, end);
  const members = topLevelMembersOf(object, { maxValueBytes: 0 });
  return memberRemovals(object, object.indexOf('{'), members, SECRET_NAMES).map((edit) => ({
    ...edit,
    start: start + edit.start,
    end: start + edit.end,
  }));
}

function errorOf(status: Readonly<Record<string, unknown>>): JobError | undefined {
  if (status.status_str !== 'error' && status.completed !== false) return undefined;
  const messages = Array.isArray(status.messages) ? status.messages : [];
  const [kind, data] = (messages.findLast(
    (one) => Array.isArray(one) && /^execution_(error|interrupted)$/.test(String(one[0])),
  ) ?? []) as [unknown?, unknown?];
  const { node_id, node_type, exception_type, exception_message } = objectOf(data);
  const node = typeof node_type === 'string' ? `${node_type} (node ${String(node_id)})` : undefined;
  if (kind === 'execution_interrupted') {
    return { code: 'cancelled', message: `ComfyUI was interrupted${node ? ` at ${node}` : ''}` };
  }
  const what = [exception_type, exception_message].filter((part) => typeof part === 'string' && part !== '');
  const message = [node, ...what]
    .filter((part) => part !== undefined)
    .join(': ')
    .replace(/\s+/g, ' ')
    .trim();
  return {
    code: 'backend',
    message: shortened(message || 'ComfyUI says only that it failed', MAX_FIELD_LENGTH),
  };
}

/**
 * Whatever has a `filename` in the lists of a node's output is a file, under whichever name the node has listed it:
 * `images`, `gifs`, `video`, `audio`, `3d`. Two nodes may name the same one.
 */
function filesOf(outputs: Readonly<Record<string, unknown>>): ComfyUIFile[] {
  const files = new Map<string, ComfyUIFile>();
  for (const output of Object.values(outputs)) {
    for (const list of Object.values(objectOf(output))) {
      for (const item of Array.isArray(list) ? list : []) {
        const { filename, subfolder = '', type = 'output' } = objectOf(item);
        if (typeof filename !== 'string' || filename === '' || typeof subfolder !== 'string') continue;
        if (typeof type !== 'string' || !FETCHED_TYPES.includes(type)) continue;
        files.set(JSON.stringify([type, subfolder, filename]), { filename, subfolder, type });
      }
    }
  }
  return [...files.values()];
}

function trimmed(text: Buffer, place: ValuePlace | undefined): ValuePlace | undefined {
  if (!place) return undefined;
  let { start, end } = place;
  const isBlank = (at: number) => /\s/.test(String.fromCharCode(text[at] as number));
  while (start < end && isBlank(start)) start += 1;
  while (end > start && isBlank(end - 1)) end -= 1;
  return start < end ? { start, end } : undefined;
}
