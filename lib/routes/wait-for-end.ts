import { isFinished, type Job } from '../job.js';
import type { JobEvents } from '../jobs/job-events.js';
import type { Jobs } from '../jobs/jobs.js';

export interface JobEndsOptions {
  readonly jobs: Pick<Jobs, 'get'>;
  readonly events: JobEvents;
}

/** Waits for the ends of jobs, on behalf of any number of clients with one listener each for what happens to jobs. */
export class JobEnds {
  readonly #jobs: Pick<Jobs, 'get'>;
  readonly #wakersOf = new Map<string, Set<() => void>>();
  readonly #waits = new Set<Promise<unknown>>();
  #isClosed = false;

  constructor({ jobs, events }: JobEndsOptions) {
    this.#jobs = jobs;
    const wake = ({ id }: Job) => this.#wake(id);
    events.on('completed', wake);
    events.on('failed', wake);
    events.on('removed', wake);
  }

  /**
   * Resolves to the job as the store has it once it has ended, or else after `waitMs`, or at once when `signal` is aborted
   * or nobody may wait any more. To undefined where there is no such job, or no longer.
   */
  async wait(id: string, waitMs: number, signal: AbortSignal): Promise<Job | undefined> {
    const waiting = this.#wait(id, waitMs, signal);
    this.#waits.add(waiting);
    try {
      return await waiting;
    } finally {
      this.#waits.delete(waiting);
    }
  }

  /** Ends all waiting; resolves when all who waited have their job. */
  async close(): Promise<void> {
    this.#isClosed = true;
    for (const id of this.#wakersOf.keys()) this.#wake(id);
    await Promise.allSettled(this.#waits);
  }

  async #wait(id: string, waitMs: number, signal: AbortSignal): Promise<Job | undefined> {
    let wake = () => {};
    const woken = new Promise<void>((resolve) => {
      wake = resolve;
    });
    // Before the job is looked at: it may end just then.
    const wakers = this.#wakersOf.get(id) ?? new Set();
    this.#wakersOf.set(id, wakers.add(wake));
    const timer = setTimeout(wake, waitMs).unref();
    signal.addEventListener('abort', wake);
    try {
      const job = await this.#jobs.get(id);
      if (!job || isFinished(job) || signal.aborted || this.#isClosed) return job;
      await woken;
      return signal.aborted ? job : await this.#jobs.get(id);
    } finally {
      clearTimeout(timer);
      signal.removeEventListener('abort', wake);
      wakers.delete(wake);
      if (wakers.size === 0) this.#wakersOf.delete(id);
    }
  }

  #wake(id: string): void {
    for (const wake of this.#wakersOf.get(id) ?? []) wake();
  }
}
