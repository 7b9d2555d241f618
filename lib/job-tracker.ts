import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import express, { type Express, type Request, type Router } from 'express';
import { addressGroup } from './auth/address-group.js';
import { isRefusal } from './auth/identity.js';
import { Throttle } from './auth/throttle.js';
import { ComfyUIFollower } from './comfyui/follower.js';
import { ComfyUIMessages } from './comfyui/messages.js';
import { OwnSocket } from './comfyui/own-socket.js';
import { createBackends } from './create-backends.js';
import { Deliveries } from './deliveries.js';
import { messageOf } from './errors.js';
import { type GenerationOptions, REQUEST_FOLDER, SPOOL_FOLDER } from './generation.js';
import { guardedUpgrade, type Upgrade } from './guarded-upgrade.js';
import { Health } from './health.js';
import { basicAuthorization } from './http/backend-call.js';
import { FileImageStore } from './images/file-image-store.js';
import { Thumbnails } from './images/thumbnails.js';
import type { Job } from './job.js';
import { type Cancelled, JobCanceller } from './job-canceller.js';
import { createJobEvents, type JobEvents } from './job-events.js';
import { generateJobId } from './job-id.js';
import { JobRecorder } from './job-recorder.js';
import { createJobs, type Jobs } from './jobs.js';
import { leftImages } from './left-images.js';
import { createLive } from './live/live.js';
import { createAuthenticator, isKnown } from './logins.js';
import { noteDisturbances } from './note-disturbances.js';
import { notePromptChanges } from './note-prompt-changes.js';
import { duration, retention as retentionTime } from './option-checks.js';
import { type Duration, type JobTrackerOptions, resolveOptions } from './options.js';
import { Readiness } from './readiness.js';
import { requireLogin } from './require-login.js';
import { Reruns } from './reruns.js';
import { type Purged, Retention } from './retention/retention.js';
import { healthRoutes } from './routes/health-routes.js';
import { jobRoutes } from './routes/job-routes.js';
import { pageRoutes } from './routes/page-routes.js';
import { settingsRoutes } from './routes/settings-routes.js';
import { JobEnds } from './routes/wait-for-end.js';
import { Settings } from './settings.js';
import { KeptRequests } from './stores/kept-requests.js';
import { LowdbJobStore } from './stores/lowdb-job-store.js';
import { trackGeneration } from './track-generation.js';
import { WaitingJobs } from './waiting-jobs.js';

/** Ids are too many to be guessed; who tries all the same is slowed down. */
const UNKNOWN_IDS = { limit: 100, windowMs: 60_000 };

/** The jobs that are kept and run, and the broom. */
export interface TrackedJobs extends Jobs {
  /**
   * Stops a job: one that waits leaves the queue, one that runs is interrupted at its backend, and keeps the images that
   * it has by then. Resolves to `'cancelled'` once it has ended, Failed; to `'ending'` where the backend has been told to
   * stop and has not answered within 2 s; to undefined where there is no such job.
   *
   * @throws JobTrackerError `NOT_CANCELLABLE` with the reason, where the job has ended, or is not surely the one that an
   * interrupt would hit.
   */
  cancel(id: string): Promise<Cancelled | undefined>;
  /**
   * Runs the request of a failed job again. Resolves to the new job, which waits or runs; to undefined where there is no
   * such job.
   *
   * @throws JobTrackerError `NOT_RETRYABLE` with the reason.
   */
  retry(id: string): Promise<Job | undefined>;
  /**
   * Removes jobs that have ended, with their images.
   *
   * @param options.olderThan how long ago, a number being days; by the retention time where it is absent.
   * @param options.dryRun only tells what would go.
   * @throws JobTrackerError `INVALID_OPTION`.
   */
  purge(options?: { readonly olderThan?: number | Duration; readonly dryRun?: boolean }): Promise<Purged>;
}

export interface CloseOptions {
  /** Jobs that still run after this time are broken off and Failed (`interrupted`). Default: they are waited for. */
  readonly within?: Duration | 0;
}

/** An Express router to mount in front of whatever forwards to the backend, with what the host's code may need on it. */
export interface JobTracker extends Router {
  /**
   * Resolves when jobs can be recorded. Rejects with `FOLDER_UNUSABLE` or `FOLDER_LOCKED` when the first attempt fails;
   * the tracker then lets generations pass untracked and goes on trying. Nobody has to handle the rejection.
   */
  readonly ready: Promise<void>;
  readonly jobs: TrackedJobs;
  readonly events: JobEvents;
  /**
   * For `server.on('upgrade', ...)`: Express never sees WebSockets. Checks the login, then forwards in forward mode; in
   * wrap mode it returns true where the host is to forward, for a login once that has been checked: the server emits
   * `upgrade` once more then.
   *
   * ComfyUI tells only the client itself, over `/ws`, how its prompt gets on. What passes through here is read along, so
   * that jobs show their progress; compression is not offered to ComfyUI for that. In wrap mode the messages do not pass
   * through here: jobs are followed all the same, without progress for those that have a client id.
   */
  readonly upgrade: Upgrade;
  /**
   * Takes no more jobs, waits for those that run, makes everything durable and frees the folder. May be called again, to
   * lose patience.
   *
   * @throws JobTrackerError `INVALID_OPTION`.
   */
  close(options?: CloseOptions): Promise<void>;
}

/**
 * Gives every generation request a job id before it starts, and hands its images back by that id.
 *
 * @throws JobTrackerError `INVALID_OPTION` that names the option, what was expected and what came.
 */
export function jobTracker(options?: JobTrackerOptions): JobTracker {
  const resolved = resolveOptions(options);
  const { logger, dir, a1111 } = resolved;
  const authenticator = createAuthenticator(resolved);
  const backends = createBackends(resolved, authenticator, {
    onQueueMoved: () => live.streams.queueMoved(),
    onComfyUIMessage: (text) => messages?.receive(text),
  });
  const store = resolved.store ?? new LowdbJobStore({ folder: dir, logger });
  const images = resolved.images ?? new FileImageStore({ folder: join(dir, 'output'), logger });
  const events = createJobEvents();
  const recorder = new JobRecorder({ store, events, logger, generateId: generateJobId });
  const thumbnails = new Thumbnails({ folder: join(dir, 'thumbnails'), images, logger });
  const kept = createJobs({ store, images, thumbnails, events, logger });
  const canceller = new JobCanceller({ jobs: kept, recorder, backends, logger });
  const ends = new JobEnds({ jobs: kept, events });
  const comfyuiUrl = backends.get('comfyui')?.url;
  const follower =
    comfyuiUrl &&
    new ComfyUIFollower({
      url: comfyuiUrl,
      images,
      recorder,
      jobTimeoutMs: resolved.jobTimeoutMs,
      logger,
      onMoved: () => live.streams.queueMoved(),
      onFollowed: (job) => ownSocket?.serve(job),
    });
  const waiting = new WaitingJobs([backends, ...(follower ? [follower] : [])]);
  const live = createLive({ events, queue: waiting, jobs: kept, recorder, backends: backends.all, logger });
  const messages =
    follower &&
    new ComfyUIMessages({ follower, onProgress: (id, report) => live.progress.report(id, report) });
  const ownSocket =
    comfyuiUrl && new OwnSocket({ url: comfyuiUrl, onText: (text) => messages?.receive(text) });
  const { enabled, retentionMs, maxBytes, purgeEveryMs } = resolved;
  const settings = new Settings({ folder: dir, enabled, retentionMs, logger });
  const retention = new Retention({
    store,
    images,
    jobs: kept,
    events,
    settings,
    maxBytes,
    purgeEveryMs,
    folder: dir,
    logger,
  });

  const deliveries =
    resolved.retryWindowMs === false
      ? undefined
      : new Deliveries({
          store,
          events,
          windowMs: resolved.retryWindowMs,
          onDelivered: (id) => recorder.noteDelivery(id),
          logger,
        });

  const identify = (req: Request) => authenticator.identify(req);
  /** The backend's own logins count: it gets to see them. */
  const isBackendLogin = resolved.auth === 'backend';
  const requests = new KeptRequests({ folder: join(dir, REQUEST_FOLDER), logger });
  events.on('removed', ({ id }) => {
    requests.remove(id).catch((error: unknown) => {
      logger.warn(`The request of job ${id} could not be removed: ${messageOf(error)}`);
    });
  });
  const generation: GenerationOptions = {
    recorder,
    store,
    images,
    deliveries,
    requests,
    logger,
    dir,
    earlyHead: resolved,
    jobTimeoutMs: resolved.jobTimeoutMs,
    // Only once the folder is open is it known whether somebody has switched the tracking off.
    canRecord: async () => (await readiness.whenDecided()) && settings.trackingEnabled,
    follow: (job) => follower?.follow(job),
    onClientLost: (job) => resolved.onDisconnect === 'cancel' && canceller.clientLeft(job),
  };
  const reruns = new Reruns({
    store,
    requests,
    backends,
    generation,
    authorization: a1111 && isBackendLogin ? basicAuthorization(a1111) : null,
    logger,
  });
  const readiness = new Readiness(async () => {
    // What has been opened stays so when a later step fails: the next attempt goes on from there.
    await store.open();
    // What a process that was killed has left of answers; on most systems such files have no name.
    await rm(join(dir, SPOOL_FOLDER), { recursive: true, force: true });
    await images.open();
    await settings.open();
    // It judges the clock by when jobs ended, so that none may end by that clock before.
    await retention.open();
    const resumable = await reruns.open();
    const followable = follower ? (await store.unfinished()).filter(isFollowable) : [];
    await recorder.failInterrupted((jobs) => leftImages(images, jobs, logger), [...resumable, ...followable]);
    await deliveries?.open();
    for (const job of followable) if (job.status === 'Processing') live.progress.begin(job);
    follower?.adopt(followable);
    void reruns.resume(resumable);
  }, logger);

  const health = new Health({
    store,
    images,
    backends,
    failure: () => readiness.failure,
    folder: dir,
    keptBytes: () => retention.keptBytes,
  });

  const router = express.Router();
  let app: Express | undefined;
  router.use((req, _res, next) => {
    app ??= req.app as Express;
    next();
  });
  router.use(
    healthRoutes({ health, logger, isKnown: (req, res) => isKnown(req, res, authenticator) }),
    jobRoutes({
      jobs: kept,
      images,
      thumbnails,
      stateOf: live.stateOf,
      canceller,
      ends,
      reruns,
      live: live.streams,
      // Who has logged in shares no count with others of the same address.
      unknownIds: new Throttle({
        ...UNKNOWN_IDS,
        groupOf: (asker) => (asker?.startsWith('user ') ? asker : addressGroup(asker)),
      }),
      logger,
      identify,
      failure: () => readiness.failure,
    }),
    settingsRoutes({ settings, retention, logger, identify, failure: () => readiness.failure }),
    pageRoutes({ logger, identify }),
  );
  if (authenticator.required) {
    router.use(
      requireLogin({
        identify,
        covers: (req) => backends.forwards || backends.matching(req.method, req.path) !== undefined,
        withdrawsLogin: !isBackendLogin,
      }),
    );
  }
  router.use(noteDisturbances({ backends: backends.all.map(({ backend }) => backend), recorder }));
  if (follower) router.use(notePromptChanges(follower));
  router.use(
    trackGeneration({
      ...generation,
      backends,
      isOn: () => settings.trackingEnabled,
      userOf: async (req) => {
        const who = await identify(req);
        // Who could not be identified has passed all the same: in front of the host's own handler that is the host's to say.
        return isRefusal(who) ? undefined : who.name;
      },
    }),
  );
  if (backends.forwards) router.use((req, res) => backends.forwarderFor(req.path)?.handle(req, res));

  let closing: Promise<void> | undefined;
  return Object.assign(router, {
    ready: readiness.ready,
    jobs: Object.assign(kept, {
      cancel: (id: string) => canceller.cancel(id),
      async retry(id: string) {
        const job = await kept.get(id);
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
        await follower?.close();
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

/** ComfyUI has it, and knows it by an id that is on record. */
function isFollowable({ backend, prompt_id }: Job): boolean {
  return backend === 'comfyui' && prompt_id !== undefined;
}
