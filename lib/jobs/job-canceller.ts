import { atMost } from '../at-most.js';
import type { Backend } from '../backends/backend.js';
import { JobTrackerError, messageOf } from '../errors.js';
import { type BackendName, isFinished, type JobError } from '../job.js';
import type { Logger } from '../logger.js';
import type { JobQueue } from './job-queue.js';
import type { JobRecorder } from './job-recorder.js';
import type { Jobs } from './jobs.js';
import type { RunningJob } from './running-job.js';

/** A job that has been stopped is over so soon, unless the backend takes its time to let go of it. */
const OVER_WITHIN_MS = 2_000;

/** What has become of a job: it has ended, or the backend has been told to stop and has not answered yet. */
export type Cancelled = 'cancelled' | 'ending';

export interface JobCancellerOptions {
  readonly jobs: Pick<Jobs, 'get'>;
  readonly recorder: Pick<JobRecorder, 'find' | 'processing'>;
  readonly backends: {
    get(name: BackendName):
      | {
          readonly backend: Pick<Backend, 'title' | 'tasks'>;
          readonly url: URL | undefined;
          readonly queue: Pick<JobQueue, 'pause'>;
        }
      | undefined;
  };
  readonly logger: Logger;
}

/** Why a job is stopped, as the middle of a sentence. */
const BY_REQUEST = '';
const BY_LOSS = ', because its client left';

/**
 * Stops jobs. One that waits just leaves the queue. One that runs is interrupted at its backend, but only where it is
 * surely the one that the backend is working on: an interrupt hits whatever runs there, be it somebody else's.
 */
export class JobCanceller {
  readonly #options: JobCancellerOptions;
  /** Asking twice at once is asking once. */
  readonly #stopping = new Map<string, Promise<void>>();

  constructor(options: JobCancellerOptions) {
    this.#options = options;
  }

  /**
   * Stops a job: it ends Failed (`cancelled`), with the images that the backend had made by then. Resolves once it has
   * ended, or after 2 s; to undefined where there is no such job.
   *
   * @throws JobTrackerError `NOT_CANCELLABLE` with the reason, where the job goes on as it was.
   */
  async cancel(id: string): Promise<Cancelled | undefined> {
    const job = this.#options.recorder.find(id);
    if (!job) {
      const record = await this.#options.jobs.get(id);
      if (!record) return undefined;
      throw notCancellable(
        isFinished(record)
          ? `Expected a job that waits or runs, got one that is ${record.status}`
          : `Job ${id} is not run by this gateway`,
      );
    }
    await this.#stop(job, BY_REQUEST);
    return (await atMost(OVER_WITHIN_MS, job.over)) ? 'cancelled' : 'ending';
  }

  /**
   * Stops a job that nobody waits for any more. Where it is not surely the one that would be hit, it goes on and is kept
   * as with `onDisconnect: 'continue'`: a picture too many harms nobody, somebody else's lost one does.
   */
  clientLeft(job: RunningJob): void {
    if (job.ended) return;
    this.#stop(job, BY_LOSS).catch((error: unknown) => {
      this.#options.logger.info(`Job ${job.id} goes on although its client has left: ${messageOf(error)}`);
    });
  }

  #stop(job: RunningJob, why: string): Promise<void> {
    let stopping = this.#stopping.get(job.id);
    if (!stopping) {
      stopping = this.#stopNow(job, why).finally(() => this.#stopping.delete(job.id));
      this.#stopping.set(job.id, stopping);
    }
    return stopping;
  }

  async #stopNow(job: RunningJob, why: string): Promise<void> {
    if (job.brokenOffBy?.code === 'cancelled') return;
    if (job.ended) throw aboutToEnd(job);
    if (job.stage === 'waiting') {
      const message = `The job was cancelled while it was waiting${why}; the backend did not get it`;
      job.breakOff({ code: 'cancelled', message });
    } else {
      await this.#interrupt(job, {
        code: 'cancelled',
        message: `The job was cancelled while it was running${why}`,
      });
    }
  }

  /** Takes a job out of the backend's own queue. */
  async #drop(job: RunningJob, tasks: Backend['tasks'], url: URL, taskId: string): Promise<void> {
    if (!tasks.drop) throw notCancellable(`Job ${job.id} waits at the backend; another one is running`);
    await tasks.drop(url, taskId);
    // It may have begun just before; whoever follows it finds it running then, and not gone.
    if ((await tasks.look(url, taskId)) !== 'unknown') {
      throw notCancellable(`The backend has begun with job ${job.id} meanwhile: cancel it once more`);
    }
    job.breakOff({ code: 'cancelled', message: "The job was cancelled while it was in the backend's queue" });
  }

  async #interrupt(job: RunningJob, error: JobError): Promise<void> {
    const { tasks, url, queue, taskId } = this.#taskOf(job);
    // Whoever is let in while we ask could be the one that runs when the interrupt arrives.
    const goOn = queue.pause();
    try {
      const state = await tasks.look(url, taskId);
      if (job.ended || job.stage === 'answered' || state === 'finished') throw aboutToEnd(job);
      if (state === 'queued') {
        await this.#drop(job, tasks, url, taskId);
        return;
      }
      if (state !== 'running')
        throw notCancellable(`The backend does not say that it is running job ${job.id}`);
      // They may be on their way to the same backend, which is done with this job when it likes.
      for (const other of tasks.interruptsAnything ? this.#options.recorder.processing(job.backend) : []) {
        if (other !== job) other.disturb('interrupt');
      }
      await this.#sendInterrupt(job, error, () => tasks.interrupt(url, taskId));
    } catch (cause) {
      if (isRefusal(cause)) throw cause;
      throw notCancellable(`Job ${job.id} cannot be stopped: ${messageOf(cause)}`, cause);
    } finally {
      goOn();
    }
  }

  async #sendInterrupt(job: RunningJob, error: JobError, send: () => Promise<void>): Promise<void> {
    const takeBack = job.expectCancelled(error);
    try {
      await send();
    } catch (cause) {
      // The job's answer has come before that of the interrupt.
      if (job.ended) return;
      takeBack();
      // Without an answer, the backend may have heard it all the same.
      if (!isRefusal(cause)) job.disturb('interrupt');
      throw cause;
    }
  }

  /** What is needed to be sure. */
  #taskOf(job: RunningJob): {
    tasks: Backend['tasks'];
    url: URL;
    queue: Pick<JobQueue, 'pause'>;
    taskId: string;
  } {
    const { id, taskId } = job;
    if (job.stage === 'answered') throw aboutToEnd(job);
    const known = this.#options.backends.get(job.backend);
    if (!known?.url) {
      const option = `\`${job.backend}\``;
      throw notCancellable(`Job ${id} runs at a backend whose address is not known: give it as ${option}`);
    }
    if (taskId === undefined) {
      throw notCancellable(
        `Job ${id} cannot be told from what else ${known.backend.title} runs: its request names no task (\`force_task_id\`)`,
      );
    }
    const others = this.#options.recorder.processing(job.backend).filter((other) => other !== job);
    if (others.some((other) => other.taskId === taskId)) {
      throw notCancellable(
        `Job ${id} cannot be told from another one that runs under the same \`force_task_id\``,
      );
    }
    return { tasks: known.backend.tasks, url: known.url, queue: known.queue, taskId };
  }
}

function aboutToEnd({ id }: RunningJob): JobTrackerError {
  return notCancellable(`Job ${id} is about to end`);
}

function isRefusal(error: unknown): boolean {
  return error instanceof JobTrackerError && error.code === 'NOT_CANCELLABLE';
}

function notCancellable(message: string, cause?: unknown): JobTrackerError {
  return new JobTrackerError('NOT_CANCELLABLE', message, cause === undefined ? undefined : { cause });
}
