import { rm } from 'node:fs/promises';
import type { IncomingMessage } from 'node:http';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import express, { type Router } from 'express';
import { automatic1111 } from './backends/automatic1111.js';
import { Forwarder } from './http/forward.js';
import { FileImageStore } from './images/file-image-store.js';
import { createJobEvents, type JobEvents } from './job-events.js';
import { generateJobId } from './job-id.js';
import { JobQueue } from './job-queue.js';
import { JobRecorder } from './job-recorder.js';
import { createJobs, type Jobs } from './jobs.js';
import { type JobTrackerOptions, resolveOptions } from './options.js';
import { Readiness } from './readiness.js';
import { jobRoutes } from './routes/job-routes.js';
import { LowdbJobStore } from './stores/lowdb-job-store.js';
import { REQUEST_FOLDER, SPOOL_FOLDER, trackGeneration } from './track-generation.js';

/** An Express router to mount in front of whatever forwards to the backend, with what the host's code may need on it. */
export interface JobTracker extends Router {
  /**
   * Resolves when jobs can be recorded. Rejects with `FOLDER_UNUSABLE` or `FOLDER_LOCKED` when the first attempt fails;
   * the tracker then lets generations pass untracked and goes on trying. Nobody has to handle the rejection.
   */
  readonly ready: Promise<void>;
  readonly jobs: Jobs;
  readonly events: JobEvents;
  /**
   * For `server.on('upgrade', ...)`: Express never sees WebSockets. In forward mode it forwards the upgrade and returns
   * false; in wrap mode it returns true, and forwarding is up to the host.
   */
  upgrade(req: IncomingMessage, socket: Duplex, head: Buffer): boolean;
  /** Takes no more jobs, waits for those that run, makes everything durable and frees the folder. May be called twice. */
  close(): Promise<void>;
}

/**
 * Gives every generation request a job id before it starts, and hands its images back by that id.
 *
 * @throws JobTrackerError `INVALID_OPTION` that names the option, what was expected and what came.
 */
export function jobTracker(options?: JobTrackerOptions): JobTracker {
  const resolved = resolveOptions(options);
  const { logger, dir } = resolved;
  const store = resolved.store ?? new LowdbJobStore({ folder: dir, logger });
  const images = resolved.images ?? new FileImageStore({ folder: join(dir, 'output'), logger });
  const events = createJobEvents();
  const recorder = new JobRecorder({ store, events, logger, generateId: generateJobId });
  const queue = new JobQueue(resolved.concurrency);
  const jobs = createJobs(store, images, events);

  const readiness = new Readiness(async () => {
    // What has been opened stays so when a later step fails: the next attempt goes on from there.
    await store.open();
    // What a process that was killed has left of bodies; on most systems such files have no name.
    for (const folder of [SPOOL_FOLDER, REQUEST_FOLDER])
      await rm(join(dir, folder), { recursive: true, force: true });
    await images.open();
    await recorder.failInterrupted();
  }, logger);

  const router = express.Router();
  router.use(
    jobRoutes({
      jobs,
      images,
      queuePosition: (id) => queue.positionOf(id),
      logger,
      failure: () => readiness.failure,
    }),
  );
  router.use(
    trackGeneration({
      backends: [automatic1111],
      recorder,
      queue,
      images,
      logger,
      dir,
      earlyHead: resolved,
      jobTimeoutMs: resolved.jobTimeoutMs,
      forwards: resolved.forward,
      canRecord: () => readiness.whenDecided(),
    }),
  );
  const forwarder =
    resolved.forward && resolved.a1111
      ? new Forwarder({ target: resolved.a1111, backend: automatic1111 })
      : undefined;
  if (forwarder) router.use((req, res) => forwarder.handle(req, res));

  let closing: Promise<void> | undefined;
  return Object.assign(router, {
    ready: readiness.ready,
    jobs,
    events,
    upgrade(req: IncomingMessage, socket: Duplex, head: Buffer): boolean {
      forwarder?.upgrade(req, socket, head);
      return forwarder === undefined;
    },
    close(): Promise<void> {
      closing ??= (async () => {
        await readiness.close();
        await recorder.idle();
        await store.close();
      })();
      return closing;
    },
  });
}
