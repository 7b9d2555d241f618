import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Authenticator } from './auth/authenticate.js';
import { createPrompts, type Prompts } from './comfyui/prompts.js';
import { createBackends } from './create-backends.js';
import { messageOf } from './errors.js';
import type { GatewayBackends } from './gateway-backends.js';
import type { GenerationOptions } from './generation/generation.js';
import { Reruns } from './generation/reruns.js';
import { Health } from './health.js';
import { basicAuthorization } from './http/backend-call.js';
import { FileImageStore } from './images/file-image-store.js';
import type { ImageStore } from './images/image-store.js';
import { Thumbnails } from './images/thumbnails.js';
import type { Job } from './job.js';
import { generateJobId } from './job-id.js';
import { Deliveries } from './jobs/deliveries.js';
import { JobCanceller } from './jobs/job-canceller.js';
import { createJobEvents, type JobEvents } from './jobs/job-events.js';
import { JobRecorder } from './jobs/job-recorder.js';
import { createJobs, type Jobs } from './jobs/jobs.js';
import { leftImages } from './jobs/left-images.js';
import { WaitingJobs } from './jobs/waiting-jobs.js';
import { createLive, type Live } from './live/live.js';
import type { ResolvedOptions } from './options.js';
import { Readiness } from './readiness.js';
import { Retention } from './retention/retention.js';
import { Settings } from './settings.js';
import { KeptRequests } from './stores/kept-requests.js';
import { LowdbJobStore } from './stores/lowdb-job-store.js';

/** The parts of one tracker, connected with each other; what is missing is the way in, by HTTP. */
export interface TrackerParts {
  readonly backends: GatewayBackends;
  readonly images: ImageStore;
  readonly events: JobEvents;
  readonly jobs: Jobs;
  readonly recorder: JobRecorder;
  readonly canceller: JobCanceller;
  readonly thumbnails: Thumbnails;
  /** Absent where ComfyUI's address is not known. */
  readonly prompts: Prompts | undefined;
  readonly live: Live;
  readonly settings: Settings;
  readonly retention: Retention;
  readonly generation: GenerationOptions;
  readonly reruns: Reruns;
  readonly readiness: Readiness;
  readonly health: Health;
}

/** Makes the parts, which open their files by themselves; `readiness` tells when they have. */
export function createParts(options: ResolvedOptions, authenticator: Authenticator): TrackerParts {
  const { logger, dir, a1111, jobTimeoutMs, retryWindowMs } = options;
  const onQueueMoved = () => live.streams.queueMoved();
  const backends = createBackends(options, authenticator, {
    onQueueMoved,
    onComfyUIMessage: (text) => prompts?.receive(text),
  });
  const store = options.store ?? new LowdbJobStore({ folder: dir, logger });
  const images = options.images ?? new FileImageStore({ folder: join(dir, 'output'), logger });
  const events = createJobEvents();
  const recorder = new JobRecorder({ store, events, logger, generateId: generateJobId });
  const thumbnails = new Thumbnails({ folder: join(dir, 'thumbnails'), images, logger });
  const jobs = createJobs({ store, images, thumbnails, events, logger });
  const canceller = new JobCanceller({ jobs, recorder, backends, logger });
  const comfyuiUrl = backends.get('comfyui')?.url;
  const prompts =
    comfyuiUrl &&
    createPrompts({
      url: comfyuiUrl,
      store,
      images,
      events,
      recorder,
      jobTimeoutMs,
      logger,
      onMoved: onQueueMoved,
      onProgress: (id, progress) => live.progress.report(id, progress),
    });
  const queue = new WaitingJobs([
    ...backends.all.map((one) => one.queue),
    ...(prompts ? [prompts.follower] : []),
  ]);
  const live = createLive({ events, queue, jobs, recorder, backends: backends.all, logger });
  const settings = new Settings({ ...options, folder: dir });
  const retention = new Retention({ ...options, store, images, jobs, events, settings, folder: dir });
  const onDelivered = (id: string) => recorder.noteDelivery(id);
  const deliveries =
    retryWindowMs === false
      ? undefined
      : new Deliveries({ store, events, windowMs: retryWindowMs, onDelivered, logger });
  const requestFolder = join(dir, 'requests');
  const spoolFolder = join(dir, 'spool');
  const requests = new KeptRequests({ folder: requestFolder, logger });
  const removeRequest = ({ id }: Pick<Job, 'id'>) =>
    requests.remove(id).catch((error: unknown) => {
      logger.warn(`The request of job ${id} could not be removed: ${messageOf(error)}`);
    });
  events.on('removed', (job) => void removeRequest(job));
  /** The backend's own logins count: it gets to see them. */
  const isBackendLogin = options.auth === 'backend';
  const generation: GenerationOptions = {
    recorder,
    store,
    images,
    deliveries,
    requests,
    logger,
    requestFolder,
    spoolFolder,
    earlyHead: options,
    jobTimeoutMs,
    // Only once the folder is open is it known whether somebody has switched the tracking off.
    canRecord: async () => (await readiness.whenDecided()) && settings.trackingEnabled,
    follow: (job) => prompts?.follow(job),
    onClientLost: (job) => options.onDisconnect === 'cancel' && canceller.clientLeft(job),
  };
  const authorization = a1111 && isBackendLogin ? basicAuthorization(a1111) : null;
  const reruns = new Reruns({ store, requests, backends, generation, authorization, logger });
  const readiness = new Readiness(async () => {
    // What has been opened stays so when a later step fails: the next attempt goes on from there.
    await store.open();
    // What a process that was killed has left of answers; on most systems such files have no name.
    await rm(spoolFolder, { recursive: true, force: true });
    await images.open();
    await settings.open();
    // It judges the clock by when jobs ended, so that none may end by that clock before.
    await retention.open();
    const resumable = await reruns.open();
    const followable = prompts?.followable(await store.unfinished()) ?? [];
    await recorder.failInterrupted((left) => leftImages(images, left, logger), [...resumable, ...followable]);
    await deliveries?.open();
    await prompts?.kept.index.open();
    const adopted = new Set(followable.map(({ id }) => id));
    // Whoever has kept the request of such a job is gone.
    events.on('completed', (job) => adopted.delete(job.id) && recorder.hold(removeRequest(job)));
    for (const job of followable) if (job.status === 'Processing') live.progress.begin(job);
    prompts?.follower.adopt(followable);
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
  return {
    backends,
    images,
    events,
    jobs,
    recorder,
    canceller,
    thumbnails,
    prompts,
    live,
    settings,
    retention,
    generation,
    reruns,
    readiness,
    health,
  };
}
