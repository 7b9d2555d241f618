import type { DetachedResponse } from '../http/detached-response.js';
import type { Job } from '../job.js';
import type { Delivery } from '../jobs/deliveries.js';
import type { JobRecorder } from '../jobs/job-recorder.js';
import type { JobStore } from '../stores/job-store.js';

export interface EarlierTicketOptions {
  readonly job: Job;
  readonly delivery: Delivery;
  readonly response: DetachedResponse;
  readonly recorder: Pick<JobRecorder, 'find'>;
  readonly store: Pick<JobStore, 'get'>;
}

/**
 * Gives a client the ticket of a job that was made for an earlier, same request; of one that the backend has not answered
 * yet, once it has. Resolves to false where there is none after all, and nothing has been sent.
 */
export async function giveEarlierTicket(options: EarlierTicketOptions): Promise<boolean> {
  const { delivery, response, recorder, store } = options;
  let { job } = options;
  if (job.ticket === undefined) {
    const lost = new Promise<void>((resolve) => response.onLost(resolve));
    await Promise.race([recorder.find(job.id)?.ticketed, lost]);
    job = (await store.get(job.id).catch(() => undefined)) ?? job;
  }
  if (response.lost) {
    delivery.lost();
    response.abandon();
    return true;
  }
  // Somebody in front, who lost patience, may have answered.
  if (response.answered) {
    delivery.lost();
    return true;
  }
  if (job.ticket === undefined) {
    delivery.unavailable();
    return false;
  }
  response.setHeader('Content-Type', 'application/json; charset=utf-8');
  response.setHeader('Content-Length', String(Buffer.byteLength(job.ticket)));
  response.sendHead(200);
  response.write(job.ticket);
  response.finish();
  return true;
}
