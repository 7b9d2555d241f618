import type { Adapter } from 'lowdb';
import { JobTrackerError, messageOf, systemCodeOf } from '../errors.js';
import type { Logger } from '../logger.js';
import type { JournalEntry } from './journal-line.js';
import { JournalWriter } from './journal-writer.js';
import type { JobMap } from './kept-job.js';
import { recover } from './recovery.js';
import { SnapshotKeeper } from './snapshot-keeper.js';
import { StoreFiles } from './store-files.js';

const RETRY_MS = 3_000;

/** A change that has been made in memory and waits for the disk. */
export interface Change {
  readonly entry: JournalEntry;
  /** Called, before anything else happens, if the change cannot be made durable. */
  readonly onRejected?: () => void;
}

interface Batch {
  readonly changes: Change[];
  readonly written: Promise<void>;
  settle(error?: JobTrackerError): void;
}

/**
 * lowdb's adapter for records that must not get lost. lowdb's own adapters write the whole file at each change and never
 * sync it; this one appends each change to a journal and writes the whole file only now and then, beside it.
 *
 * `record` a change, then `write` (through `Low`). All the changes that come while a write and its sync are under way
 * share the next one, which begins as soon as that has ended.
 */
export class JournalAdapter implements Adapter<JobMap> {
  readonly #files: StoreFiles;
  readonly #logger: Logger;
  readonly #writer: JournalWriter;
  readonly #snapshots: SnapshotKeeper;
  #jobs: JobMap = new Map();
  #batch: Batch | undefined;
  #work: Promise<void> | undefined;
  #retryTimer: NodeJS.Timeout | undefined;
  #isRetryDue = false;

  constructor(folder: string, logger: Logger) {
    this.#files = new StoreFiles(folder);
    this.#logger = logger;
    this.#writer = new JournalWriter(this.#files, logger);
    this.#snapshots = new SnapshotKeeper(this.#files, logger, () => this.#startWork());
  }

  /** The last failure to write, while it lasts. */
  get failure(): unknown {
    return this.#writer.failure ?? this.#snapshots.failure;
  }

  /**
   * Puts the records together from the files, and the files in order. Rejects with the system's error; a full disk is
   * none, because what is there can be read all the same.
   */
  async read(): Promise<JobMap> {
    const found = await recover(this.#files, this.#logger);
    this.#jobs = found.jobs;
    this.#snapshots.begin(found.snapshotBytes, found.evidence);
    try {
      await this.#writer.resume(found.journalBytes, found.pendingBytes);
    } catch (error) {
      if (!isDiskFull(error)) throw error;
      this.#retryLater(error);
    }
    if (found.needsSnapshot) await this.#makeSnapshot();
    else if (this.#writer.sizeBytes > 0) this.#snapshots.changed(found.jobs.size);
    if (this.failure !== undefined && !isDiskFull(this.failure)) throw this.failure;
    return this.#jobs;
  }

  /** Takes a change that has just been made in memory. `write` must follow in the same turn. */
  record(change: Change): void {
    this.#batch ??= newBatch();
    this.#batch.changes.push(change);
  }

  /** Resolves once the changes recorded just before are durable; rejects with `JobTrackerError` `NOT_STORED`. */
  async write(jobs: JobMap): Promise<void> {
    this.#jobs = jobs;
    const written = this.#batch?.written;
    this.#startWork();
    await written;
  }

  /** Makes everything durable, brings jobs.json up to date and closes the files. Rejects where changes get lost. */
  async close(): Promise<void> {
    await this.#idle();
    if (this.#writer.isBehind || !this.#writer.canAppend) {
      this.#isRetryDue = true;
      this.#startWork();
      await this.#idle();
    }
    if (this.#writer.sizeBytes > 0) await this.#makeSnapshot();
    this.#snapshots.stop();
    clearTimeout(this.#retryTimer);
    await this.#writer.close();
    if (this.#writer.isBehind) throw this.#notStored(this.#writer.failure);
  }

  /** Lets go of everything after a failed `read`. */
  async abandon(): Promise<void> {
    this.#snapshots.stop();
    clearTimeout(this.#retryTimer);
    await this.#idle();
    await this.#writer.close();
  }

  async #makeSnapshot(): Promise<void> {
    this.#snapshots.request();
    this.#startWork();
    await this.#idle();
  }

  async #idle(): Promise<void> {
    while (this.#work !== undefined || this.#snapshots.running !== undefined) {
      await this.#work;
      await this.#snapshots.running;
    }
  }

  #startWork(): void {
    if (this.#work === undefined && this.#hasWork()) this.#work = this.#doWork();
  }

  #hasWork(): boolean {
    return this.#batch !== undefined || this.#isRetryDue || this.#isSnapshotDue();
  }

  #isSnapshotDue(): boolean {
    return this.#writer.canAppend && this.#snapshots.isDue(this.#writer.sizeBytes);
  }

  async #doWork(): Promise<void> {
    // Changes that are made in this turn share the first write.
    await null;
    while (this.#hasWork()) {
      const batch = this.#batch;
      this.#batch = undefined;
      // Taken in one turn with the changes: what is in the snapshot is then exactly what is in the journals so far.
      const jobs = this.#isSnapshotDue() ? [...this.#jobs.values()] : undefined;
      if (batch !== undefined || this.#isRetryDue) await this.#append(batch);
      if (jobs === undefined || !this.#writer.canAppend) continue;
      try {
        const upTo = await this.#writer.rotate();
        const { pendingBytes } = this.#writer;
        this.#snapshots.start(jobs, upTo, () => this.#writer.forget(pendingBytes));
      } catch (error) {
        this.#snapshots.failed(error);
        this.#retryLater(error);
      }
    }
    this.#work = undefined;
  }

  async #append(batch: Batch | undefined): Promise<void> {
    this.#isRetryDue = false;
    const changes = batch?.changes ?? [];
    const wasFailing = this.#retryTimer !== undefined;
    try {
      const startedOver = await this.#writer.append(
        changes.map(({ entry }) => entry),
        this.#jobs,
      );
      if (startedOver) this.#snapshots.request();
      clearTimeout(this.#retryTimer);
      this.#retryTimer = undefined;
      if (wasFailing) this.#logger.info(`Records are written to ${this.#files.folder} again.`);
      this.#snapshots.changed(this.#jobs.size);
      batch?.settle();
    } catch (error) {
      for (const change of changes) change.onRejected?.();
      this.#retryLater(error);
      batch?.settle(this.#notStored(error));
    }
  }

  #retryLater(error: unknown): void {
    if (this.#retryTimer !== undefined) return;
    this.#logger.error(`Records cannot be written to ${this.#files.folder}: ${messageOf(error)}`);
    this.#retryTimer = setInterval(() => {
      this.#isRetryDue = true;
      this.#startWork();
    }, RETRY_MS).unref();
  }

  #notStored(cause: unknown): JobTrackerError {
    const message = `A change could not be written to ${this.#files.folder}: ${messageOf(cause)}`;
    return new JobTrackerError('NOT_STORED', message, { cause });
  }
}

function newBatch(): Batch {
  let settle: Batch['settle'] = () => {};
  const written = new Promise<void>((resolve, reject) => {
    settle = (error) => (error === undefined ? resolve() : reject(error));
  });
  return { changes: [], written, settle };
}

function isDiskFull(error: unknown): boolean {
  return ['ENOSPC', 'EDQUOT'].includes(systemCodeOf(error) ?? '');
}
