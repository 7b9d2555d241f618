import type { BackendName, Job, JobChange, JobStatus } from '../job.js';

/** Which jobs to list. Every filter that is absent lets all jobs through. */
export interface JobQuery {
  readonly ip?: string;
  readonly status?: JobStatus;
  readonly backend?: BackendName;
  /** Only jobs of this user. A `before` of somebody else's counts as unknown then. */
  readonly user?: string;
  /** Only jobs with this text in their prompt, in any case. */
  readonly text?: string;
  /** Only jobs whose backend knows them by this id. */
  readonly prompt_id?: string;
  /** Only jobs with a `timestamp` strictly later than this (unix seconds). */
  readonly after?: number;
  /** Only jobs with a `timestamp` not later than this (unix seconds). */
  readonly until?: number;
  /** Only jobs that were created before the job with this id; an unknown id gives no jobs. */
  readonly before?: string;
  /** At most so many jobs. */
  readonly limit: number;
}

export interface JobPage {
  /** Newest first. */
  readonly jobs: readonly Job[];
  /** How many jobs match the filters, `before` and `limit` left aside. */
  readonly total: number;
}

/**
 * Where records are kept. Every method is atomic; "not found" is `undefined` or `false`, never a throw. A change that
 * could not be made durable rejects with `JobTrackerError` `NOT_STORED`.
 */
export interface JobStore {
  /**
   * Loads what was kept. Rejects with `FOLDER_UNUSABLE` or `FOLDER_LOCKED`, and may be called again then. Until it has
   * resolved, nothing else may be called but `close`.
   */
  open(): Promise<void>;
  /** Resolves once the job is durable: true, or false where the id is taken and nothing was changed. */
  insert(job: Job): Promise<boolean>;
  /** Resolves once the change is durable: the job as it is now, or undefined where there is none with this id. */
  update(id: string, change: JobChange): Promise<Job | undefined>;
  get(id: string): Promise<Job | undefined>;
  list(query: JobQuery): Promise<JobPage>;
  /**
   * Every job, oldest first, in pages. Jobs may come and go while they are walked through; those that do may be among
   * them or not.
   */
  walk(): AsyncIterable<readonly Job[]>;
  /** Resolves once the job is durably gone: true, or false where there was none. */
  remove(id: string): Promise<boolean>;
  /** Every job that is Pending or Processing, oldest first. */
  unfinished(): Promise<readonly Job[]>;
  /** Rejects with the reason while changes cannot be made durable. A store that cannot tell does without. */
  check?(): Promise<void>;
  /** Makes everything durable and lets go of files and locks. May be called twice. */
  close(): Promise<void>;
}
