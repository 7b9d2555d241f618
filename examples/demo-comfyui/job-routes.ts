import type { ComfyProcess } from './comfy-process.js';
import {
  createTimeOf,
  describeJob,
  describeWholeJob,
  durationOf,
  JOB_STATUSES,
  type Job,
  type JobStatus,
  statusOf,
  workflowIdOf,
} from './job-description.js';
import { jsonReply, type Reply } from './reply.js';
import { readIds, readObject } from './request-json.js';
import { type Call, get, post, type Route } from './router.js';

/** The newest way to see what the queue and the history hold; only below `/api`. */
export function jobRoutes(current: () => ComfyProcess): Route[] {
  return [
    get('/api/jobs', (call) => listJobs(call, current())),
    get('/api/jobs/{id}', ({ name }) => {
      const job = allJobs(current()).find(({ prompt }) => prompt.id === name);
      return job ? jsonReply(describeWholeJob(job)) : jsonReply({ error: 'Job not found' }, 404);
    }),
    post('/api/jobs/{id}/cancel', ({ name }) => jsonReply({ cancelled: cancel(current(), [name]) })),
    post('/api/jobs/cancel', ({ request }) => {
      const ids = readIds(readObject(request).get('job_ids'));
      return jsonReply({ cancelled: cancel(current(), ids) });
    }),
  ];
}

function allJobs({ queue, history }: ComfyProcess): Job[] {
  return [
    ...queue.pending.map((prompt): Job => ({ prompt, status: 'pending' })),
    ...(queue.running ? [{ prompt: queue.running, status: 'in_progress' } as const] : []),
    ...history.entries.map((entry): Job => ({ prompt: entry.prompt, status: statusOf(entry), entry })),
  ];
}

function listJobs({ query }: Call, process: ComfyProcess): Reply {
  const statuses = query.get('status')?.split(',') ?? JOB_STATUSES;
  const unknown = statuses.find((status) => !JOB_STATUSES.includes(status as JobStatus));
  if (unknown !== undefined) return refuse(`Invalid status value: ${unknown}`);
  const sortBy = query.get('sort_by') ?? 'created_at';
  if (!['created_at', 'execution_duration'].includes(sortBy)) return refuse(`Invalid sort_by: ${sortBy}`);
  const order = query.get('sort_order') ?? 'desc';
  if (!['asc', 'desc'].includes(order)) return refuse(`Invalid sort_order: ${order}`);
  const limit = readCount(query.get('limit'), 1);
  if (Number.isNaN(limit)) return refuse('limit must be a positive integer');
  const offset = readCount(query.get('offset'), 0) ?? 0;
  if (Number.isNaN(offset)) return refuse('offset must be a non-negative integer');
  const workflowId = query.get('workflow_id');
  const sortKey = sortBy === 'created_at' ? (job: Job) => Number(createTimeOf(job) ?? 0n) : durationOf;
  const jobs = allJobs(process)
    .filter((job) => statuses.includes(job.status))
    .filter((job) => workflowId === null || workflowIdOf(job) === workflowId)
    .sort((a, b) => (order === 'asc' ? 1 : -1) * (sortKey(a) - sortKey(b)));
  const page = jobs.slice(offset, limit === undefined ? undefined : offset + limit);
  return jsonReply({
    jobs: page.map(describeJob),
    pagination: {
      offset: BigInt(offset),
      limit: limit === undefined ? null : BigInt(limit),
      total: BigInt(jobs.length),
      has_more: offset + page.length < jobs.length,
    },
  });
}

/** NaN for what is no whole number from `min`; undefined where there is none. */
function readCount(text: string | null, min: number): number | undefined {
  if (text === null) return undefined;
  return /^\d+$/.test(text) && Number(text) >= min ? Number(text) : Number.NaN;
}

function cancel(process: ComfyProcess, ids: readonly string[]): boolean {
  const isInterrupted = ids.map((id) => process.interrupt(id)).includes(true);
  return process.remove(({ id }) => ids.includes(id)) > 0 || isInterrupted;
}

function refuse(error: string): Reply {
  return jsonReply({ error }, 400);
}
