import { JobTrackerError } from '../errors.js';
import { type BackendAnswer, callBackend } from '../http/backend-call.js';
import type { BackendTasks } from './backend.js';

const ANSWER_WITHIN_MS = 5_000;
/** It knows a request by its `force_task_id`, and needs no login. SD.Next does not have it. */
const PROGRESS_PATH = '/internal/progress';
/** For whatever runs; there is none for one task. */
const INTERRUPT_PATH = '/sdapi/v1/interrupt';

/** The tasks of Automatic1111. */
export const automatic1111Tasks: BackendTasks = {
  interruptsAnything: true,

  async look(url, taskId) {
    const answer = await askForTask(url, taskId);
    const said = answer.status === 200 ? jsonObject(answer.body) : undefined;
    if (typeof said?.active !== 'boolean' || typeof said.queued !== 'boolean') {
      const what = answer.status === 200 ? 'something else than a progress' : answer.status;
      const message = `${url.origin} cannot say what it is running: it answered ${what} to ${PROGRESS_PATH}`;
      throw new JobTrackerError('BACKEND_UNANSWERED', message);
    }
    // One that has failed stays active until the next one starts, also where that waits under the same id.
    if (said.queued) return 'queued';
    if (said.active) return 'running';
    return said.completed === true ? 'finished' : 'unknown';
  },

  async interrupt(url) {
    const { status } = await callBackend(url, {
      method: 'POST',
      path: INTERRUPT_PATH,
      timeoutMs: ANSWER_WITHIN_MS,
    });
    if (status >= 200 && status <= 299) return;
    const advice = status === 401 ? ': its address needs the name and password of its --api-auth' : '';
    const message = `${url.origin} did not take the interrupt: it answered ${status}${advice}`;
    throw new JobTrackerError('NOT_CANCELLABLE', message);
  },
};

/** Asks what has become of a task, and how far it is. */
export function askForTask(url: URL, taskId: string, signal?: AbortSignal): Promise<BackendAnswer> {
  return callBackend(url, {
    method: 'POST',
    path: PROGRESS_PATH,
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ id_task: taskId, id_live_preview: -1, live_preview: false }),
    timeoutMs: ANSWER_WITHIN_MS,
    signal,
  });
}

/** The JSON object of an answer; undefined where it is something else. */
export function jsonObject(body: Buffer): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(body.toString());
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    // An HTML page of whatever answers in its place.
    return undefined;
  }
}
