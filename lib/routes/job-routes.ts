import express, { type ErrorRequestHandler, type Request, type Response, type Router } from 'express';
import type { Identity } from '../auth/identity.js';
import type { Throttle } from '../auth/throttle.js';
import type { Reruns } from '../generation/reruns.js';
import { answerError } from '../http/error-answer.js';
import type { ImageStore } from '../images/image-store.js';
import type { Thumbnails } from '../images/thumbnails.js';
import { isFinished } from '../job.js';
import type { JobCanceller } from '../jobs/job-canceller.js';
import { type JobState, jobJson, jobUrl } from '../jobs/job-json.js';
import type { Jobs } from '../jobs/jobs.js';
import type { LiveEvents } from '../live/live-events.js';
import { eventRoutes } from './event-routes.js';
import { imageRoutes } from './image-routes.js';
import { oneOf, parseListQuery } from './list-query.js';
import { sendJob } from './send-job.js';
import { type TrackerRouteOptions, trackerRoute } from './tracker-route.js';
import type { JobEnds } from './wait-for-end.js';
import { parseWaitTime } from './wait-time.js';
import { jobAccess, sendNotFound } from './with-job.js';

export interface JobRoutesOptions extends TrackerRouteOptions {
  readonly jobs: Jobs;
  readonly images: ImageStore;
  readonly thumbnails: Pick<Thumbnails, 'open'>;
  readonly stateOf: (id: string) => JobState;
  readonly canceller: Pick<JobCanceller, 'cancel'>;
  readonly ends: Pick<JobEnds, 'wait'>;
  readonly reruns: Pick<Reruns, 'retry'>;
  readonly live: LiveEvents;
  /** Who asks for too many jobs that are not there is guessing. */
  readonly unknownIds: Throttle;
}

/** The routes under which jobs and their images are found again: those of the A1111 extension, and ours beside them. */
export function jobRoutes(options: JobRoutesOptions): Router {
  const { jobs, images, thumbnails, stateOf, unknownIds, canceller, ends, reruns, live } = options;
  const route = trackerRoute(options);
  const router = express.Router();

  const withJob = jobAccess({ route, jobs, unknownIds });

  router.use(eventRoutes({ route, withJob, live }), imageRoutes({ withJob, images, thumbnails }));

  router.get(
    '/sdapi/v1/job/:id',
    withJob(async (job, req, res) => {
      const imagesAs = oneOf(req.query, 'images', ['base64', 'url', 'none'] as const) ?? 'base64';
      const time = parseWaitTime(req.query, req.headers);
      if (time?.applied !== undefined) res.setHeader('Preference-Applied', time.applied);
      const shown = time ? await ends.wait(job.id, time.waitMs, lossOf(res)) : job;
      // It may have been removed in the meantime.
      if (!shown) {
        sendNotFound(res);
        return;
      }
      if (time && res.destroyed) return;
      await sendJob(res, images, shown, {
        imagesAs,
        mountPath: req.baseUrl,
        state: stateOf(job.id),
      });
    }),
  );

  router.post(
    '/sdapi/v1/job/:id/cancel',
    withJob(async ({ id }, req, res) => {
      const cancelled = await canceller.cancel(id);
      const job = cancelled && (await jobs.get(id));
      if (!job) {
        sendNotFound(res);
        return;
      }
      res.setHeader('Cache-Control', 'no-store');
      res.status(cancelled === 'ending' ? 202 : 200);
      res.json(jobJson(job, req.baseUrl, stateOf(id)));
    }),
  );

  router.post(
    '/sdapi/v1/job/:id/retry',
    withJob(async (job, req, res) => {
      const again = await reruns.retry(job);
      res.setHeader('Location', jobUrl(again.id, req.baseUrl));
      res.setHeader('Cache-Control', 'no-store');
      res.status(202).json(jobJson(again, req.baseUrl, stateOf(again.id)));
    }),
  );

  router.delete(
    '/sdapi/v1/job/:id',
    withJob(async (job, _req, res) => {
      if (!isFinished(job)) {
        answerError(res, 409, `Expected a job that has ended, got one that is ${job.status}`);
        return;
      }
      if (await jobs.remove(job.id)) res.status(204).end();
      else sendNotFound(res);
    }),
  );

  router.get(
    '/sdapi/v1/jobs',
    route('user', async (req, res, identity) => {
      const query = { ...parseListQuery(req.query), ...ownJobsOf(identity) };
      // One more than is shown tells whether there is a next page.
      const { jobs: found, total } = await jobs.list({ ...query, limit: query.limit + 1 });
      const shown = found.slice(0, query.limit);
      res.setHeader('X-Total-Count', total);
      res.setHeader('Cache-Control', 'no-store');
      const last = shown.at(-1);
      if (last && found.length > shown.length) {
        const next = new URLSearchParams(textParameters(req.query));
        next.set('before', last.id);
        res.setHeader('Link', `<${req.baseUrl}/sdapi/v1/jobs?${next}>; rel="next"`);
      }
      res.json(shown.map((job) => jobJson(job, req.baseUrl, stateOf(job.id))));
    }),
  );

  // The router itself stumbles over an id that is no text at all, such as `%zz`.
  router.use('/sdapi/v1/job', ((error: unknown, _req, res, next) => {
    if (error instanceof URIError) sendNotFound(res);
    else next(error);
  }) as ErrorRequestHandler);

  return router;
}

/** Aborted when the client leaves before it has its answer. */
function lossOf(res: Response): AbortSignal {
  const loss = new AbortController();
  res.once('close', () => loss.abort());
  return loss.signal;
}

/** What of the list somebody may see. */
function ownJobsOf({ isAdmin, name }: Identity): { user?: string } {
  // A name that is not there has no jobs.
  return isAdmin ? {} : { user: name ?? '' };
}

function textParameters(query: Request['query']): Record<string, string> {
  return Object.fromEntries(
    Object.entries(query).filter((entry): entry is [string, string] => typeof entry[1] === 'string'),
  );
}
