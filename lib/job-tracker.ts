import express, { type Express, type Request, type RequestHandler } from 'express';
import { addressGroup } from './auth/address-group.js';
import { isRefusal } from './auth/identity.js';
import { Throttle } from './auth/throttle.js';
import { isHistoryPath } from './comfyui/history-paths.js';
import { createAuthenticator, isKnown } from './logins.js';
import { guardedUpgrade } from './middleware/guarded-upgrade.js';
import { inOrder } from './middleware/in-order.js';
import { noteDisturbances } from './middleware/note-disturbances.js';
import { notePromptChanges } from './middleware/note-prompt-changes.js';
import { requireLogin } from './middleware/require-login.js';
import { trackGeneration } from './middleware/track-generation.js';
import { warnOfUntrackedPrompts } from './middleware/warn-of-untracked-prompts.js';
import { duration, retention as retentionTime } from './option-checks.js';
import { type JobTrackerOptions, resolveOptions } from './options.js';
import { comfyuiRoutes } from './routes/comfyui-routes.js';
import { healthRoutes } from './routes/health-routes.js';
import { jobRoutes } from './routes/job-routes.js';
import { pageRoutes } from './routes/page-routes.js';
import { settingsRoutes } from './routes/settings-routes.js';
import { JobEnds } from './routes/wait-for-end.js';
import type { CloseOptions, JobTracker, TrackedJobs } from './tracker-interface.js';
import { createParts } from './tracker-parts.js';

/** Ids are too many to be guessed; who tries all the same is slowed down. */
const UNKNOWN_IDS = { limit: 100, windowMs: 60_000 };

/** No other request has to be held against each of the tracker's routes. */
const OWN_PATH = /^\/(?:sdapi\/v1\/jobs?|job-tracker)(?:\/|$)/i;

/**
 * Gives every generation request a job id before it starts, and hands its images back by that id.
 *
 * @throws JobTrackerError `INVALID_OPTION` that names the option, what was expected and what came.
 */
export function jobTracker(options?: JobTrackerOptions): JobTracker {
  const resolved = resolveOptions(options);
  const { logger } = resolved;
  const authenticator = createAuthenticator(resolved);
  const parts = createParts(resolved, authenticator);
  const { backends, jobs, events, recorder, canceller, prompts, live, settings, retention, reruns } = parts;
  const { readiness, thumbnails } = parts;
  const store = parts.generation.store;
  const ends = new JobEnds({ jobs, events });
  const identify = (req: Request) => authenticator.identify(req);
  const failure = () => readiness.failure;

  let app: Express | undefined;
  const ownRoutes = [
    healthRoutes({ ...parts, logger, isKnown: (req, res) => isKnown(req, res, authenticator) }),
    jobRoutes({
      ...parts,
      stateOf: live.stateOf,
      live: live.streams,
      ends,
      // Who has logged in shares no count with others of the same address.
      unknownIds: new Throttle({
        ...UNKNOWN_IDS,
        groupOf: (asker) => (asker?.startsWith('user ') ? asker : addressGroup(asker)),
      }),
      logger,
      identify,
      failure,
    }),
    settingsRoutes({ settings, retention, logger, identify, failure }),
    pageRoutes({ logger, identify }),
  ];
  const handlers: RequestHandler[] = [];
  if (authenticator.required) {
    handlers.push(
      requireLogin({
        identify,
        covers: (req) =>
          backends.forwards ||
          backends.matching(req.method, req.path) !== undefined ||
          (prompts !== undefined && isHistoryPath(req.path)),
        // Where the backend judges logins it gets to see them.
        withdrawsLogin: resolved.auth !== 'backend',
      }),
    );
  }
  handlers.push(
    noteDisturbances({ backends: backends.all.map(({ backend }) => backend), recorder }),
    prompts ? notePromptChanges(prompts.follower) : warnOfUntrackedPrompts(logger),
  );
  const comfyui = backends.get('comfyui');
  if (prompts && comfyui?.url && comfyui.ownForwarder) {
    handlers.push(
      comfyuiRoutes({
        ...prompts.kept,
        url: comfyui.url,
        backend: comfyui.backend,
        forwarder: comfyui.ownForwarder,
        logger,
        identify,
        canAnswer: () => readiness.whenDecided(),
      }),
    );
  }
  handlers.push(
    trackGeneration({
      ...parts.generation,
      backends,
      isOn: () => settings.trackingEnabled,
      userOf: async (req) => {
        const who = await identify(req);
        // Who could not be identified has passed all the same: in front of the host's own handler that is the host's to say.
        return isRefusal(who) ? undefined : who.name;
      },
    }),
  );
  if (backends.forwards) handlers.push((req, res) => backends.forwarderFor(req.path)?.handle(req, res));
  const passing = inOrder(handlers);
  const router = express.Router();
  router.use((req, res, next) => {
    app ??= req.app as Express;
    if (OWN_PATH.test(req.path)) next();
    else passing(req, res, (error?: unknown) => next(error ?? 'router'));
  });
  router.use(...ownRoutes, passing);

  let closing: Promise<void> | undefined;
  return Object.assign(router, {
    ready: readiness.ready,
    jobs: Object.assign(jobs, {
      cancel: (id: string) => canceller.cancel(id),
      async retry(id: string) {
        const job = await jobs.get(id);
        return job && (await reruns.retry(job));
      },
      purge: async ({ olderThan, dryRun }: Parameters<TrackedJobs['purge']>[0] = {}) =>
        retention.purge({
          dryRun,
          ...(olderThan !== undefined && { olderThanMs: retentionTime('olderThan', olderThan) }),
        }),
    }),
    events,
    upgrade: guardedUpgrade({
      identify: authenticator.knowsNames ? (req) => authenticator.identify(req) : undefined,
      forwarderFor: (path) => backends.forwarderFor(path),
      app: () => app,
      logger,
    }),
    close({ within }: CloseOptions = {}): Promise<void> {
      const withinMs = within === undefined || within === 0 ? within : duration('within', within, ', or 0');
      closing ??= (async () => {
        await readiness.close();
        await reruns.close();
        await prompts?.follower.close();
        await recorder.idle();
        await ends.close();
        live.close();
        await retention.close();
        await thumbnails.close();
        await store.close();
      })();
      if (withinMs !== undefined) {
        const impatient = setTimeout(() => recorder.interruptAll(), withinMs).unref();
        const stop = () => clearTimeout(impatient);
        closing.then(stop, stop);
      }
      return closing;
    },
  });
}
