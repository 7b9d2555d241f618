import type { Router } from 'express';
import type { Job } from './job.js';
import type { Cancelled } from './jobs/job-canceller.js';
import type { JobEvents } from './jobs/job-events.js';
import type { Jobs } from './jobs/jobs.js';
import type { Upgrade } from './middleware/guarded-upgrade.js';
import type { Duration } from './options.js';
import type { Purged } from './retention/retention.js';

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
