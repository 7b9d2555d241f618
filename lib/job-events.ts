import { EventEmitter } from 'node:events';
import type { Job } from './job.js';

/** What happens to jobs, each event with the job as it is then. */
export interface JobEventMap {
  /** A job has been recorded; its id may be shown from now on. */
  created: [job: Job];
  /** A job's status has changed; also at its end, before `completed` or `failed`. */
  status: [job: Job];
  completed: [job: Job];
  failed: [job: Job];
  /** A job has been forgotten, with its images. */
  removed: [job: Job];
}

export type JobEvents = EventEmitter<JobEventMap>;

export function createJobEvents(): JobEvents {
  return new EventEmitter<JobEventMap>();
}
