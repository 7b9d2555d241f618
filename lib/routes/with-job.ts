import type { Request, RequestHandler, Response } from 'express';
import { type Identity, mayTouch } from '../auth/identity.js';
import type { Throttle } from '../auth/throttle.js';
import { isForeign } from '../http/cross-origin.js';
import { answerError } from '../http/error-answer.js';
import type { Job } from '../job.js';
import { isJobId } from '../job-id.js';
import type { Jobs } from '../jobs/jobs.js';
import type { MakeTrackerRoute } from './tracker-route.js';

export interface WithJobOptions {
  readonly route: MakeTrackerRoute;
  readonly jobs: Pick<Jobs, 'get'>;
  /** Who asks for too many jobs that are not there is guessing. */
  readonly unknownIds: Throttle;
}

/** Makes the handler of a route below `/sdapi/v1/job/:id`. */
export type WithJob = (
  behave: (job: Job, req: Request, res: Response, identity: Identity) => Promise<void>,
) => RequestHandler;

/** What all routes of one job have in common: a job that is not the caller's is answered like one that is not there. */
export function jobAccess({ route, jobs, unknownIds }: WithJobOptions): WithJob {
  return (behave) =>
    route('user', async (req, res, identity) => {
      const asker = askerOf(req, identity);
      const blockedMs = unknownIds.blockedFor(asker);
      if (blockedMs > 0) {
        const headers = { 'Retry-After': Math.ceil(blockedMs / 1000) };
        answerError(res, 429, 'Too many requests for jobs that are not there', headers);
        return;
      }
      const id = String(req.params.id);
      const job = isJobId(id) ? await jobs.get(id) : undefined;
      if (job && mayTouch(identity, job)) {
        await behave(job, req, res, identity);
      } else {
        // Who polls for a job that has been purged asks for the same one, again and again.
        // And a page of another site may make its visitor's browser ask, but learns nothing by it.
        if (!isForeign(req)) unknownIds.count(asker, id.slice(0, 64));
        sendNotFound(res);
      }
    });
}

/** Who asks, for counting: who has logged in shares no count with others of the same address. */
function askerOf(req: Request, { name }: Identity): string | undefined {
  return name === undefined ? req.ip : `user ${name}`;
}

export function sendNotFound(res: Response): void {
  answerError(res, 404, 'Job not found');
}
