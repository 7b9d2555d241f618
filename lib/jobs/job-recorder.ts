import { JobTrackerError, messageOf } from '../errors.js';
import {
  type BackendName,
  type Job,
  type JobChange,
  type JobError,
  type RequestFields,
  unixSeconds,
} from '../job.js';
import type { Logger } from '../logger.js';
import type { JobStore } from '../stores/job-store.js';
import { type JobEvents, type RecordEvent, tell } from './job-events.js';
import { RunningJob } from './running-job.js';

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
  readonly fingerprint?: string;
  readonly idempotency?: string;
  readonly accepted?: true;
  readonly delivered?: true;
  readonly retry_of?: string;
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
  readonly #running = new Map<string, RunningJob>();
  /** Jobs that are being recorded. */
  #beginning = 0;
  /** What ended jobs have still to do. */
  #settling = 0;
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
          const running = this.#run(job);
          this.#tell('created', job);
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

  /** The job with this id, from its record until its end is durable. */
  find(id: string): RunningJob | undefined {
    return this.#running.get(id);
  }

  /** The jobs that a backend has now. */
  processing(backend: BackendName): RunningJob[] {
    return [...this.#running.values()].filter(
      (job) => job.backend === backend && job.stage !== 'waiting' && !job.ended,
    );
  }

  /**
   * Ends what an earlier process left running: nothing of it can be told any more.
   *
   * @param keptOf finds what of each job is in the image store, by id.
   * @param spared those that go on.
   */
  async failInterrupted(
    keptOf: (jobs: readonly Job[]) => Promise<ReadonlyMap<string, JobChange>> = async () => new Map(),
    spared: readonly Job[] = [],
  ): Promise<void> {
    const goOn = new Set(spared.map(({ id }) => id));
    const left = (await this.#store.unfinished()).filter(({ id }) => !goOn.has(id));
    if (left.length === 0) return;
    const error: JobError = {
      code: 'interrupted',
      message: 'The gateway ended while this job was running; what the backend made of it is not known',
    };
    const change: JobChange = { status: 'Failed', finished_at: unixSeconds(), error };
    const kept = await keptOf(left);
    const ended = await Promise.all(
      left.map(({ id }) => this.#store.update(id, { ...change, ...kept.get(id) })),
    );
    for (const job of ended) {
      if (!job) continue;
      this.#tell('status', job);
      this.#tell('failed', job);
    }
    this.#logger.warn(
      `${left.length} job(s) that were running when the gateway ended are now Failed (interrupted)`,
    );
  }

  /** Goes on with a job that is on record and has not begun. */
  resume(job: Job): RunningJob {
    const running = this.#run(job);
    running.isResumable = true;
    if (this.#isInterrupting) this.#park(running);
    return running;
  }

  /** Goes on with a job that is on record and that its backend has: it is followed to its end. */
  adopt(job: Job): RunningJob {
    return this.#run(job);
  }

  /** The job stays as it is on record: the next process goes on with it. */
  leave(job: RunningJob): void {
    if (!job.ended) this.#park(job);
  }

  /** Has `idle` wait for what follows from a job. */
  hold(work: Promise<unknown>): void {
    this.#settling += 1;
    const settled = () => {
      this.#settling -= 1;
      this.#wakeWhenIdle();
    };
    // Whoever does the work hears of its failure.
    work.then(settled, settled);
  }

  /** Writes down that a client has been handed the job's answer. What cannot be written is only forgotten by a restart. */
  noteDelivery(id: string): void {
    this.#store.update(id, { delivered: true }).catch((error: unknown) => {
      // The gateway has ended under the client's last bytes.
      if (error instanceof JobTrackerError && error.code === 'CLOSED') return;
      this.#complain(`The delivery of job ${id} is not on record`, error);
    });
  }

  /** Resolves once no job is running, or about to; after `interruptAll` within 5 s in any case. */
  async idle(): Promise<void> {
    if (this.#isBusy) await new Promise<void>((resolve) => this.#idleWaiters.push(resolve));
  }

  /**
   * Ends every job as Failed (`interrupted`), also those that are just being recorded. One whose answer is whole, and is
   * being kept, may still complete; one that waits and that the next process can run stays as it is. May be called twice.
   */
  interruptAll(): void {
    this.#isInterrupting = true;
    const left = [...this.#running.values()].filter((job) => !job.ended);
    if (left.length > 0)
      this.#logger.warn(`${left.length} job(s) are broken off, because the gateway is being stopped`);
    for (const job of left) {
      if (job.stage === 'waiting' && job.isResumable) this.#park(job);
      else job.interrupt();
    }
    setTimeout(() => this.#press(), BREAK_OFF_WITHIN_MS).unref();
  }

  /** A disk that is stuck must not keep a record from its end. */
  #press(): void {
    for (const job of this.#running.values()) if (job.brokenOffBy) void job.fail(job.brokenOffBy);
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
    return !this.#gaveUp && this.#running.size + this.#beginning + this.#settling > 0;
  }

  /** Resolves to whether the change is durable. */
  async #change(id: string, change: JobChange): Promise<boolean> {
    try {
      const job = await this.#store.update(id, change);
      this.#storeFails = false;
      if (job && change.status) this.#tellStatus(job);
      return true;
    } catch (error) {
      const what = change.status ? `to ${change.status}` : `in ${Object.keys(change).join(', ')}`;
      this.#complain(`The change of job ${id} ${what} is not durable`, error);
      // It may be in force all the same, until the gateway ends: whoever waits for it is to hear of it.
      const job = await this.#store.get(id).catch(() => undefined);
      if (job && change.status && job.status === change.status) this.#tellStatus(job);
      return false;
    } finally {
      if (change.finished_at !== undefined) {
        this.#running.delete(id);
        this.#wakeWhenIdle();
      }
    }
  }

  #tellStatus(job: Job): void {
    this.#tell('status', job);
    if (job.status === 'Completed') this.#tell('completed', job);
    if (job.status === 'Failed') this.#tell('failed', job);
  }

  #park(job: RunningJob): void {
    this.#running.delete(job.id);
    job.park();
    this.#wakeWhenIdle();
  }

  #run(job: Job): RunningJob {
    const running = new RunningJob(
      job,
      (change) => this.#change(job.id, change),
      (work) => this.hold(work),
    );
    this.#running.set(job.id, running);
    return running;
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

  #tell(name: RecordEvent, job: Job): void {
    tell(this.#events, name, job, this.#logger);
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
