import { JobTrackerError } from '../errors.js';
import { callBackend } from '../http/backend-call.js';
import { arrayElements, type ValuePlace } from '../json/array-elements.js';
import { topLevelMembersOf } from '../json/top-level-members.js';
import { jsonOf } from './request-values.js';

const ANSWER_WITHIN_MS = 30_000;
/** Every prompt in the queue comes with its whole workflow. */
const MAX_QUEUE_BYTES = 256 * 1024 * 1024;

/** The ids of the prompts that ComfyUI has before it. */
export interface ComfyUIQueue {
  readonly running: ReadonlySet<string>;
  /** The next one first. */
  readonly pending: readonly string[];
}

/** Asks ComfyUI for its queue. Rejects with `BACKEND_UNANSWERED`. */
export async function readQueue(url: URL, signal?: AbortSignal): Promise<ComfyUIQueue> {
  const { status, body } = await callBackend(url, {
    path: '/queue',
    timeoutMs: ANSWER_WITHIN_MS,
    maxBytes: MAX_QUEUE_BYTES,
    signal,
  });
  const queue = status === 200 ? parseQueue(body) : undefined;
  if (queue) return queue;
  const what = status === 200 ? 'something else than a queue' : status;
  throw new JobTrackerError('BACKEND_UNANSWERED', `${url.origin} answered ${what} to /queue`);
}

/** `{"queue_running": [[number, id, workflow, …]], "queue_pending": […]}`, the latter in the order of a heap. */
export function parseQueue(body: Buffer): ComfyUIQueue | undefined {
  const members = topLevelMembersOf(body, { maxValueBytes: 0 });
  const running = itemsOf(body, members.get('queue_running'));
  const pending = itemsOf(body, members.get('queue_pending'));
  if (!members.whole || !running || !pending) return undefined;
  pending.sort((a, b) => a.number - b.number);
  return { running: new Set(running.map(({ id }) => id)), pending: pending.map(({ id }) => id) };
}

function itemsOf(body: Buffer, place: ValuePlace | undefined): { number: number; id: string }[] | undefined {
  const items = place && arrayElements(body, place);
  return items?.flatMap((item) => {
    const [number, id] = (arrayElements(body, item) ?? []).map(({ start, end }) =>
      // A workflow is not looked at.
      end - start <= 1024 ? jsonOf(body.toString('utf8', start, end)) : undefined,
    );
    return typeof id === 'string' ? [{ number: typeof number === 'number' ? number : 0, id }] : [];
  });
}
