import type { Ticket } from '../backends/backend.js';
import {
  type BackendName,
  type ComfyUIFile,
  type Job,
  type JobChange,
  type JobError,
  type RequestFields,
  unixSeconds,
} from '../job.js';

/** Outcomes of an answer: where somebody has stopped the backend in the middle, they say no more than that. */
const OUTCOMES_OF_ANSWER: readonly JobError['code'][] = ['backend', 'unreachable', 'not_stored', 'empty'];

/** What was kept of a job's answer. */
export interface KeptAnswer {
  readonly output_paths: readonly string[];
  readonly sidecar?: string;
  readonly bytes?: number;
  readonly comfyui_files?: readonly ComfyUIFile[];
}

/**
 * `waiting` for a slot; `running` at the backend; `answered`: the backend is through with it, its answer is passing.
 * `followed`: the backend has queued it, and works on it when it likes.
 */
export type JobStage = 'waiting' | 'running' | 'answered' | 'followed';

/** One job from its record to its end. The first end counts; what comes after it changes nothing. */
export class RunningJob {
  readonly id: string;
  readonly backend: BackendName;
  readonly createdAt: Date;
  /** What is on record of its request. */
  readonly request: RequestFields;
  /** Resolves when it is on record, or will never be, what the backend calls the job; or when the job is over. */
  readonly ticketed: Promise<void>;
  /** Resolves when the job's end is durable, or could not be made so. */
  readonly over: Promise<void>;
  /** Resolves to whether the change is durable. */
  readonly #change: (change: JobChange) => Promise<boolean>;
  readonly #hold: (work: Promise<void>) => void;
  /** Changes are asked for one after the other: a store may not keep the order of those that are under way at once. */
  #last: Promise<unknown> = Promise.resolve();
  #ended: Promise<void> | undefined;
  #failed = false;
  #isParked = false;
  /** The request of this job is kept, and the next process would run it if this one has not begun to. */
  isResumable = false;
  #resolveOver: () => void = () => {};
  #resolveTicketed: () => void = () => {};
  /** Resolves once it is on record that the backend works on the job; undefined while that is not known. */
  #processing: Promise<unknown> | undefined;
  #stage: JobStage = 'waiting';
  #taskId: string | undefined;
  #brokenOffBy: JobError | undefined;
  #breakOff: ((error: JobError) => void) | undefined;
  #cancellation: JobError | undefined;
  #disturbedBy: Job['disturbed_by'];

  /**
   * @param change resolves to whether the change is durable.
   * @param hold is given what has to be waited for before the gateway ends.
   */
  constructor(
    job: Job,
    change: (change: JobChange) => Promise<boolean>,
    hold: (work: Promise<void>) => void = () => {},
  ) {
    this.#hold = hold;
    this.id = job.id;
    this.backend = job.backend;
    this.createdAt = new Date(job.timestamp * 1000);
    this.request = job.request ?? {};
    this.#change = change;
    this.over = new Promise((resolve) => {
      this.#resolveOver = resolve;
    });
    this.ticketed = new Promise((resolve) => {
      this.#resolveTicketed = resolve;
    });
    void this.over.then(this.#resolveTicketed);
    if (job.prompt_id !== undefined) this.#isFollowedAs(job.prompt_id);
    if (job.status === 'Processing') this.#processing = Promise.resolve();
  }

  /** True from the moment an end was asked for, or the job was broken off. */
  get ended(): boolean {
    return this.#ended !== undefined || this.#brokenOffBy !== undefined || this.#isParked;
  }

  /** True once the job is to end Failed. */
  get failed(): boolean {
    return this.#failed;
  }

  /** True while the backend is known to work on a job that it has queued. */
  get isProcessing(): boolean {
    return this.#processing !== undefined && !this.ended;
  }

  /** How far the job has come, until it has ended. */
  get stage(): JobStage {
    return this.#stage;
  }

  /** The id under which the backend has the job among its tasks, where that is known. */
  get taskId(): string | undefined {
    return this.#taskId;
  }

  /** Why the job is to end before its time, once that is so. */
  get brokenOffBy(): JobError | undefined {
    return this.#brokenOffBy;
  }

  /**
   * The backend has the job.
   *
   * @param taskId what the backend calls it, where that is known.
   * @returns whether that is on record, durably.
   */
  async start(taskId?: string): Promise<boolean> {
    if (this.ended) return false;
    this.#stage = 'running';
    this.#taskId = taskId;
    const started = this.#change({ status: 'Processing', started_at: unixSeconds() });
    this.#last = started;
    return await started;
  }

  /**
   * A backend that queues by itself gets the job, which waits there.
   *
   * @returns whether that is on record, durably.
   */
  async handOver(): Promise<boolean> {
    if (this.ended) return false;
    this.#stage = 'running';
    const handed = this.#change({ started_at: unixSeconds() });
    this.#last = handed;
    return await handed;
  }

  /** The backend has queued the job. Resolves when it is on record what it calls it. Never rejects. */
  async queued({ promptId, text }: Ticket): Promise<void> {
    this.#isFollowedAs(promptId);
    this.#last = this.#last.then(() => this.#change({ prompt_id: promptId, ticket: text }));
    await this.#last;
    this.#resolveTicketed();
  }

  /** The backend works on the job now. Resolves once that is on record, or cannot be. Never rejects. */
  async processing(): Promise<void> {
    if (!this.ended && !this.#processing) {
      const change: JobChange = { status: 'Processing', started_at: unixSeconds() };
      this.#processing = this.#last.then(() => this.#change(change));
      this.#last = this.#processing;
    }
    await this.#processing;
  }

  /**
   * What is to be done once the job's end is on record; `ifLeft` where the next process goes on with it instead. Neither may
   * reject.
   */
  afterwards(step: () => Promise<void>, ifLeft: () => Promise<void>): void {
    this.#hold(this.over.then(() => (this.#isParked ? ifLeft() : step())));
  }

  /** The head of the backend's answer is there: the backend works on something else now. */
  answered(): void {
    this.#stage = 'answered';
  }

  /** Something is on its way to the backend that may make it end this job early. Nobody has to wait for the note. */
  disturb(by: NonNullable<Job['disturbed_by']>): void {
    if (this.ended) return;
    // An interrupt says more than a skip.
    if (this.#disturbedBy === by || this.#disturbedBy === 'interrupt') return;
    this.#disturbedBy = by;
    this.#last = this.#last.then(() => this.#change({ disturbed_by: by }));
  }

  /**
   * Leaves it to whoever runs the job to end it when it is broken off, with what is whole of it; without that it just
   * fails. `breakOff` is called at most once, also where the job has been broken off already.
   */
  onBrokenOff(breakOff: (error: JobError) => void): void {
    this.#breakOff = breakOff;
    if (this.#brokenOffBy) breakOff(this.#brokenOffBy);
  }

  /** The job is to end now, whatever the backend makes of it. One that has ended stays as it is. */
  breakOff(error: JobError): void {
    if (this.ended) return;
    this.#brokenOffBy = error;
    if (this.#breakOff) this.#breakOff(error);
    else void this.fail(error);
  }

  /** The gateway is about to end. */
  interrupt(): void {
    const message =
      this.#stage === 'waiting'
        ? 'The gateway was stopped while this job was waiting; the backend did not get it'
        : 'The gateway was stopped while this job was running; what the backend made of it is not known';
    this.breakOff({ code: 'interrupted', message });
  }

  /** The job stays as it is, for the next process to run. */
  park(): void {
    this.#isParked = true;
    this.#resolveOver();
  }

  /**
   * The backend is told to stop: whatever it answers from now on, the job ends Failed with this error, and with what is
   * whole of the answer.
   *
   * @returns a function that takes it back.
   */
  expectCancelled(error: JobError): () => void {
    this.#cancellation = error;
    return () => {
      if (this.#cancellation === error) this.#cancellation = undefined;
    };
  }

  /** Resolves once the job's end is durable: Completed, unless the backend has been told to stop. Never rejects. */
  complete(kept: KeptAnswer): Promise<void> {
    const error = this.#cancellation;
    return this.#end(error ? { status: 'Failed', error, ...kept } : { status: 'Completed', ...kept });
  }

  /** Resolves once the job is durably Failed. Never rejects. */
  fail(error: JobError, kept?: KeptAnswer): Promise<void> {
    return this.#end({ status: 'Failed', error: this.#explain(error), ...kept });
  }

  #isFollowedAs(promptId: string): void {
    this.#stage = 'followed';
    this.#taskId = promptId;
  }

  #explain(error: JobError): JobError {
    if (!this.#cancellation || !OUTCOMES_OF_ANSWER.includes(error.code)) return error;
    const { code, message } = this.#cancellation;
    const status = error.status === undefined ? {} : { status: error.status };
    // A generation that is stopped before its first image ends without one; that explains nothing further.
    return { code, message: error.code === 'empty' ? message : `${message}: ${error.message}`, ...status };
  }

  #end(change: JobChange): Promise<void> {
    if (!this.#ended) {
      this.#failed = change.status === 'Failed';
      this.#ended = this.#last.then(async () => {
        await this.#change({ ...change, finished_at: unixSeconds() });
      });
      void this.#ended.then(this.#resolveOver);
    }
    return this.#ended;
  }
}
