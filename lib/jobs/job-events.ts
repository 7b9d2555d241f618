import { EventEmitter } from 'node:events';
import type { Job, JobProgress } from '../job.js';
import type { Logger } from '../logger.js';

/** What happens to jobs, each event with the job as it is then. */
export interface JobEventMap {
  /** A job has been recorded; its id may be shown from now on. */
  created: [job: Job];
  /** A job's status has changed; also at its end, before `completed` or `failed`. */
  status: [job: Job];
  /**
   * A job that is Processing has come further; at most four times a second for each. A backend that has to be asked is
   * asked only while somebody listens to this, or has a stream of events open.
   */
  progress: [job: Job, progress: JobProgress];
  completed: [job: Job];
  failed: [job: Job];
  /** A job has been forgotten, with its images. */
  removed: [job: Job];
}

export type JobEvents = EventEmitter<JobEventMap>;

/** The events that tell of a job's record. */
export type RecordEvent = Exclude<keyof JobEventMap, 'progress'>;

export function createJobEvents(): JobEvents {
  // The tracker's own parts listen, too: Node's warning of a leak is to count the host's listeners only.
  return new EventEmitter<JobEventMap>().setMaxListeners(30);
}

/** Tells an event; a listener of the host's that throws is the log's affair and nobody else's. */
export function tell(events: JobEvents, name: RecordEvent, job: Job, logger: Logger): void {
  try {
    events.emit(name, job);
  } catch (error) {
    logger.error(`A listener for "${name}" threw`, error);
  }
}
