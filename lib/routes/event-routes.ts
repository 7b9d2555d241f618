import express, { type Request, type Response, type Router } from 'express';
import { addressGroup } from '../auth/address-group.js';
import type { Identity } from '../auth/identity.js';
import { answerError } from '../http/error-answer.js';
import type { LiveEvents } from '../live/live-events.js';
import type { MakeTrackerRoute } from './tracker-route.js';
import type { WithJob } from './with-job.js';

export interface EventRoutesOptions {
  readonly route: MakeTrackerRoute;
  readonly withJob: WithJob;
  readonly live: LiveEvents;
}

/** The streams of what happens to jobs, or to one of them, as server-sent events. */
export function eventRoutes({ route, withJob, live }: EventRoutesOptions): Router {
  const router = express.Router();

  function follow(req: Request, res: Response, identity: Identity, jobId?: string): void {
    const refusal = live.open(res, {
      identity,
      mountPath: req.baseUrl,
      jobId,
      name: identity.name === undefined ? addressGroup(req.ip) : `user ${identity.name}`,
      lastEventId: lastEventIdOf(req),
    });
    if (!refusal) return;
    answerError(res, refusal.status, refusal.error, {
      'Cache-Control': 'no-store',
      'Retry-After': refusal.retryAfterSeconds,
    });
  }

  router.get(
    '/sdapi/v1/jobs/events',
    route('user', async (req, res, identity) => follow(req, res, identity)),
  );

  router.get(
    '/sdapi/v1/job/:id/events',
    withJob(async (job, req, res, identity) => {
      // An EventSource comes again whenever a stream ends, and only this keeps it from doing so (HTML standard).
      if (live.knowsEnd(job, lastEventIdOf(req)))
        res.setHeader('Cache-Control', 'no-store').status(204).end();
      else follow(req, res, identity, job.id);
    }),
  );

  return router;
}

function lastEventIdOf({ headers }: Request): string | undefined {
  const id = headers['last-event-id'];
  return typeof id === 'string' && id !== '' ? id : undefined;
}
