import { EventEmitter } from 'node:events';
import type { Job } from './job.js';
import type { Logger } from './logger.js';

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

/** Tells an event; a listener of the host's that throws is the log's affair and nobody else's. */
export function tell(events: JobEvents, name: keyof JobEventMap, job: Job, logger: Logger): void {
  try {
    events.emit(name, job);
  } catch (error) {
    logger.error(`A listener for "${name}" threw`, error);
  }
}
