import type { RequestHandler } from 'express';
import type { Backend } from '../backends/backend.js';
import type { JobRecorder } from '../jobs/job-recorder.js';

export interface NoteDisturbancesOptions {
  readonly backends: readonly Pick<Backend, 'name' | 'disturbance'>[];
  readonly recorder: Pick<JobRecorder, 'processing'>;
}

/**
 * The middleware in front of what is passed on: an interrupt or skip on its way to a backend hits whatever runs there, so
 * it is written down with every job that the backend has. It waits for nothing.
 */
export function noteDisturbances({ backends, recorder }: NoteDisturbancesOptions): RequestHandler {
  return (req, _res, next) => {
    for (const backend of backends) {
      const disturbance = backend.disturbance(req.method, req.path);
      if (disturbance === undefined) continue;
      for (const job of recorder.processing(backend.name)) job.disturb(disturbance);
    }
    next();
  };
}
