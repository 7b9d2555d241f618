import { JobTrackerError } from '../errors.js';
import { callBackend } from '../http/backend-call.js';
import type { BackendTasks } from './backend.js';
import { readHistoryEntry } from './comfyui-history.js';
import { readQueue } from './comfyui-queue.js';

const ANSWER_WITHIN_MS = 5_000;

/** The prompts of ComfyUI. */
export const comfyuiTasks: BackendTasks = {
  // Older ones do, too, but an interrupted prompt says so in the history.
  interruptsAnything: false,

  async look(url, taskId) {
    const { running, pending } = await readQueue(url);
    if (running.has(taskId)) return 'running';
    if (pending.includes(taskId)) return 'queued';
    return (await readHistoryEntry(url, taskId)) ? 'finished' : 'unknown';
  },

  interrupt: (url, taskId) => change(url, '/interrupt', { prompt_id: taskId }),
  drop: (url, taskId) => change(url, '/queue', { delete: [taskId] }),
};

async function change(url: URL, path: string, body: unknown): Promise<void> {
  const { status } = await callBackend(url, {
    method: 'POST',
    path,
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
    timeoutMs: ANSWER_WITHIN_MS,
  });
  if (status >= 200 && status <= 299) return;
  throw new JobTrackerError('NOT_CANCELLABLE', `${url.origin} answered ${status} to POST ${path}`);
}
