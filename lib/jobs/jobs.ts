import type { ImageStore } from '../images/image-store.js';
import type { Thumbnails } from '../images/thumbnails.js';
import { isFinished, type Job } from '../job.js';
import type { Logger } from '../logger.js';
import type { JobPage, JobQuery, JobStore } from '../stores/job-store.js';
import { type JobEvents, tell } from './job-events.js';

/** The jobs that are kept, for the host's own code and for the routes. */
export interface Jobs {
  /** The job with this id, or undefined. */
  get(id: string): Promise<Job | undefined>;
  /** The newest jobs that match, 50 of them unless `limit` says otherwise. */
  list(query?: Partial<JobQuery>): Promise<JobPage>;
  /**
   * Forgets a job and removes its images. Resolves to false where there is no such job, or it is still running. Images
   * that the A1111 extension left outside of the output folder stay where they are.
   */
  remove(id: string): Promise<boolean>;
}

export interface JobsOptions {
  readonly store: JobStore;
  readonly images: ImageStore;
  readonly thumbnails?: Pick<Thumbnails, 'forget'>;
  readonly events: JobEvents;
  readonly logger: Logger;
}

export function createJobs({ store, images, thumbnails, events, logger }: JobsOptions): Jobs {
  return {
    get: (id) => store.get(id),
    list: (query = {}) => store.list({ ...query, limit: query.limit ?? 50 }),
    async remove(id) {
      const job = await store.get(id);
      if (!job || !isFinished(job)) return false;
      // The record goes last: if we are stopped in between, the job can be removed again.
      for (const path of [...job.output_paths, ...(job.sidecar ? [job.sidecar] : [])])
        await images.remove(path);
      // Without the images they cannot be made again meanwhile.
      await thumbnails?.forget(job);
      const removed = await store.remove(id);
      if (removed) tell(events, 'removed', job, logger);
      return removed;
    },
  };
}
