import { JobTrackerError, messageOf } from './errors.js';
import {
  type BackendName,
  type Job,
  type JobChange,
  type JobError,
  type RequestFields,
  unixSeconds,
} from './job.js';
import { type JobEventMap, type JobEvents, tell } from './job-events.js';
import type { Logger } from './logger.js';
import type { JobStore } from './stores/job-store.js';

/** A request that cannot be recorded within this time goes on without an id. */
const RECORD_WITHIN_MS = 2_000;
/** So many ids in a row that are all taken mean that the generator is broken. */
const ID_ATTEMPTS = 100;
/** Jobs that are broken off have so long to keep what is whole of them. */
const BREAK_OFF_WITHIN_MS = 4_000;
/** And the store then so long to take their ends. */
const LAST_WORD_WITHIN_MS = 1_000;

/** What is known of a job before it begins. */
export interface NewJob {
  readonly prompt: string;
  readonly ip: string;
  readonly backend: BackendName;
  readonly path: string;
  readonly user?: string;
  readonly request?: RequestFields;
}

/** What was kept of a job's answer. */
export interface KeptAnswer {
  readonly output_paths: readonly string[];
  readonly sidecar?: string;
  readonly bytes?: number;
}

export interface JobRecorderOptions {
  readonly store: JobStore;
  readonly events: JobEvents;
  readonly logger: Logger;
  readonly generateId: () => string;
}

/** Keeps the records of running jobs. Nothing else on a request's path writes to the store. */
export class JobRecorder {
  readonly #store: JobStore;
  readonly #events: JobEvents;
  readonly #logger: Logger;
  readonly #generateId: () => string;
  readonly #running = new Set<RunningJob>();
  /** Jobs that are being recorded. */
  #beginning = 0;
  readonly #idleWaiters: (() => void)[] = [];
  #storeFails = false;
  #isInterrupting = false;
  #gaveUp = false;

  constructor(options: JobRecorderOptions) {
    this.#store = options.store;
    this.#events = options.events;
    this.#logger = options.logger;
    this.#generateId = options.generateId;
  }

  /**
   * Records a job as Pending. Resolves once the record is durable, so that the id may be shown; or to undefined where
   * the record cannot be kept, or not in time.
   */
  async begin(facts: NewJob): Promise<RunningJob | undefined> {
    const deadline = new Deadline(RECORD_WITHIN_MS);
    this.#beginning += 1;
    try {
      for (let attempt = 0; attempt < ID_ATTEMPTS; attempt += 1) {
        const { prompt, ip, ...others } = facts;
        const job: Job = {
          id: this.#generateId(),
          prompt,
          ip,
          timestamp: Math.floor(Date.now() / 1000),
          status: 'Pending',
          output_paths: [],
          ...others,
        };
        const inserting = this.#store.insert(job);
        const inserted = await deadline.race(inserting);
        if (inserted === 'late') {
          // Nobody has seen this id and nobody will.
          inserting.then((done) => done && this.#store.remove(job.id)).catch(() => {});
          throw new JobTrackerError('NOT_STORED', `The store did not answer within ${RECORD_WITHIN_MS} ms`);
        }
        if (inserted) {
          this.#storeFails = false;
          this.#tell('created', job);
          const running: RunningJob = new RunningJob(job, (change) => this.#change(running, change));
          this.#running.add(running);
          if (this.#isInterrupting) running.interrupt();
          return running;
        }
      }
      throw new JobTrackerError('NOT_STORED', `The last ${ID_ATTEMPTS} job ids are all taken`);
    } catch (error) {
      this.#complain('A generation goes on without a job id, because it could not be recorded', error);
      return undefined;
    } finally {
      deadline.cancel();
      this.#beginning -= 1;
      this.#wakeWhenIdle();
    }
  }

  /** Ends what an earlier process left running: nothing of it can be told any more. */
  async failInterrupted(): Promise<void> {
    const left = await this.#store.unfinished();
    if (left.length === 0) return;
    const error: JobError = {
      code: 'interrupted',
      message: 'The gateway ended while this job was running; what the backend made of it is not known',
    };
    const change: JobChange = { status: 'Failed', finished_at: unixSeconds(), error };
    await Promise.all(left.map((job) => this.#store.update(job.id, change)));
    this.#logger.warn(
      `${left.length} job(s) that were running when the gateway ended are now Failed (interrupted)`,
    );
  }

  /** Resolves once no job is running, or about to; after `interruptAll` within 5 s in any case. */
  async idle(): Promise<void> {
    if (this.#isBusy) await new Promise<void>((resolve) => this.#idleWaiters.push(resolve));
  }

  /**
   * Ends every job as Failed (`interrupted`), also those that are just being recorded. One whose answer is whole, and is
   * being kept, may still complete. May be called twice.
   */
  interruptAll(): void {
    this.#isInterrupting = true;
    const left = [...this.#running].filter((job) => !job.ended);
    if (left.length > 0)
      this.#logger.warn(`${left.length} job(s) are broken off, because the gateway is being stopped`);
    for (const job of left) job.interrupt();
    setTimeout(() => this.#press(), BREAK_OFF_WITHIN_MS).unref();
  }

  /** A disk that is stuck must not keep a record from its end. */
  #press(): void {
    for (const job of this.#running) if (job.interruption) void job.fail(job.interruption);
    setTimeout(() => this.#giveUp(), LAST_WORD_WITHIN_MS).unref();
  }

  #giveUp(): void {
    if (this.#isBusy) {
      const left = this.#running.size + this.#beginning;
      this.#logger.error(`The store has not taken the ends of ${left} interrupted job(s) in time`);
    }
    this.#gaveUp = true;
    this.#wakeWhenIdle();
  }

  get #isBusy(): boolean {
    return !this.#gaveUp && (this.#running.size > 0 || this.#beginning > 0);
  }

  async #change(running: RunningJob, change: JobChange): Promise<void> {
    const { id } = running;
    try {
      const job = await this.#store.update(id, change);
      this.#storeFails = false;
      if (!job || !change.status) return;
      this.#tell('status', job);
      if (job.status === 'Completed') this.#tell('completed', job);
      if (job.status === 'Failed') this.#tell('failed', job);
    } catch (error) {
      this.#complain(`The change of job ${id} to ${change.status} is not durable`, error);
    } finally {
      if (change.finished_at !== undefined) {
        this.#running.delete(running);
        this.#wakeWhenIdle();
      }
    }
  }

  #wakeWhenIdle(): void {
    if (this.#isBusy) return;
    for (const resolve of this.#idleWaiters.splice(0)) resolve();
  }

  #complain(what: string, error: unknown): void {
    // A full disk fails every request; it is said once until it has been well again.
    if (!this.#storeFails) this.#logger.error(`${what}: ${messageOf(error)}`);
    this.#storeFails = true;
  }

  #tell(name: keyof JobEventMap, job: Job): void {
    tell(this.#events, name, job, this.#logger);
  }
}

/** One job from its record to its end. The first end counts; what comes after it changes nothing. */
export class RunningJob {
  readonly id: string;
  readonly createdAt: Date;
  readonly #change: (change: JobChange) => Promise<void>;
  /** Changes are asked for one after the other: a store may not keep the order of those that are under way at once. */
  #last: Promise<void> = Promise.resolve();
  #ended: Promise<void> | undefined;
  #hasStarted = false;
  #interruption: JobError | undefined;
  #breakOff: ((error: JobError) => void) | undefined;

  constructor(job: Job, change: (change: JobChange) => Promise<void>) {
    this.id = job.id;
    this.createdAt = new Date(job.timestamp * 1000);
    this.#change = change;
  }

  /** True from the moment an end was asked for, or the job was interrupted. */
  get ended(): boolean {
    return this.#ended !== undefined || this.#interruption !== undefined;
  }

  /** Why the job is to end before its time, once that is so. */
  get interruption(): JobError | undefined {
    return this.#interruption;
  }

  /** The backend has the job. */
  start(): void {
    if (this.ended) return;
    this.#hasStarted = true;
    this.#last = this.#change({ status: 'Processing', started_at: unixSeconds() });
  }

  /**
   * Leaves it to whoever runs the job to end it when it is interrupted, with what is whole of it; without that it just
   * fails. `breakOff` is called at most once, also where the job has been interrupted already.
   */
  onInterrupted(breakOff: (error: JobError) => void): void {
    this.#breakOff = breakOff;
    if (this.#interruption) breakOff(this.#interruption);
  }

  /** The gateway is about to end, and this job has not. */
  interrupt(): void {
    const message = this.#hasStarted
      ? 'The gateway was stopped while this job was running; what the backend made of it is not known'
      : 'The gateway was stopped while this job was waiting; the backend did not get it';
    const error: JobError = { code: 'interrupted', message };
    this.#interruption = error;
    if (this.#breakOff) this.#breakOff(error);
    else void this.fail(error);
  }

  /** Resolves once the job is durably Completed. Never rejects. */
  complete(kept: KeptAnswer): Promise<void> {
    return this.#end({ status: 'Completed', ...kept });
  }

  /** Resolves once the job is durably Failed. Never rejects. */
  fail(error: JobError, kept?: KeptAnswer): Promise<void> {
    return this.#end({ status: 'Failed', error, ...kept });
  }

  #end(change: JobChange): Promise<void> {
    this.#ended ??= this.#last.then(() => this.#change({ ...change, finished_at: unixSeconds() }));
    return this.#ended;
  }
}

class Deadline {
  readonly #late: Promise<'late'>;
  #timer: NodeJS.Timeout | undefined;

  constructor(timeoutMs: number) {
    this.#late = new Promise((resolve) => {
      this.#timer = setTimeout(resolve, timeoutMs, 'late' as const).unref();
    });
  }

  race<T>(promise: Promise<T>): Promise<T | 'late'> {
    return Promise.race([promise, this.#late]);
  }

  cancel(): void {
    clearTimeout(this.#timer);
  }
}
