import { messageOf } from '../errors.js';
import type { Job } from '../job.js';
import type { Logger } from '../logger.js';
import { writeSnapshot } from './snapshot-writer.js';
import type { Evidence, StoreFiles } from './store-files.js';

/** jobs.json is brought up to date once the journals are larger than it and than this. */
const JOURNAL_LIMIT_BYTES = 8 * 1024 * 1024;
/** With so many jobs or fewer, a snapshot is cheap enough to be made after every burst of changes. */
const SMALL_STORE_JOBS = 1000;
/** How long nothing may have changed for that. Leaves half a second for the writing. */
const REST_MS = 500;
const FIRST_RETRY_MS = 5_000;
const LONGEST_RETRY_MS = 10 * 60_000;

/** Knows when a snapshot is due and makes it beside the changes that go on. */
export class SnapshotKeeper {
  readonly #files: StoreFiles;
  readonly #logger: Logger;
  readonly #onDue: () => void;
  #evidence: Evidence = { keep: [] };
  #snapshotBytes = 0;
  #isWanted = false;
  #running: Promise<void> | undefined;
  #restTimer: NodeJS.Timeout | undefined;
  #retryTimer: NodeJS.Timeout | undefined;
  #retryMs = FIRST_RETRY_MS;
  #failure: unknown;

  /** `onDue` is called when a snapshot may have become due. */
  constructor(files: StoreFiles, logger: Logger, onDue: () => void) {
    this.#files = files;
    this.#logger = logger;
    this.#onDue = onDue;
  }

  /** Why the last snapshot could not be written; undefined if it could. */
  get failure(): unknown {
    return this.#failure;
  }

  /** Resolves when the snapshot that is being made is done, well or not. */
  get running(): Promise<void> | undefined {
    return this.#running;
  }

  /** Tells what there is when the store opens. The evidence is kept together with the next snapshot. */
  begin(snapshotBytes: number, evidence: Evidence): void {
    this.#snapshotBytes = snapshotBytes;
    this.#evidence = evidence;
  }

  /** Makes a snapshot due. */
  request(): void {
    this.#isWanted = true;
  }

  isDue(journalBytes: number): boolean {
    if (this.#running !== undefined) return false;
    if (this.#isWanted) return true;
    const hasGrown = journalBytes > Math.max(JOURNAL_LIMIT_BYTES, this.#snapshotBytes);
    return hasGrown && this.#retryTimer === undefined;
  }

  /** Tells that something has changed, and how many jobs there are. */
  changed(jobCount: number): void {
    if (jobCount > SMALL_STORE_JOBS) return;
    if (this.#restTimer !== undefined) this.#restTimer.refresh();
    else this.#restTimer = setTimeout(() => this.#requestNow(), REST_MS).unref();
  }

  /** Writes the jobs, which hold the pending journals up to number `upTo`. `onInstalled` is called once that has worked. */
  start(jobs: readonly Job[], upTo: number, onInstalled: () => void): void {
    this.#isWanted = false;
    this.#running = this.#write(jobs, upTo, onInstalled).finally(() => {
      this.#running = undefined;
      this.#onDue();
    });
  }

  /** Takes note that a snapshot could not be made; another try follows. */
  failed(error: unknown): void {
    if (this.#failure === undefined) {
      this.#logger.error(`${this.#files.snapshot} could not be brought up to date: ${messageOf(error)}`);
    }
    this.#failure = error;
    this.#isWanted = false;
    this.#retryTimer ??= setTimeout(() => {
      this.#retryTimer = undefined;
      this.#requestNow();
    }, this.#retryMs).unref();
    this.#retryMs = Math.min(this.#retryMs * 2, LONGEST_RETRY_MS);
  }

  stop(): void {
    clearTimeout(this.#restTimer);
    clearTimeout(this.#retryTimer);
  }

  async #write(jobs: readonly Job[], upTo: number, onInstalled: () => void): Promise<void> {
    try {
      const sizeBytes = await writeSnapshot(this.#files.temporary, jobs);
      await this.#files.install(upTo, this.#evidence);
      this.#snapshotBytes = sizeBytes;
      this.#evidence = { keep: [] };
      if (this.#failure !== undefined) this.#logger.info(`${this.#files.snapshot} is up to date again.`);
      this.#failure = undefined;
      this.#retryMs = FIRST_RETRY_MS;
      onInstalled();
    } catch (error) {
      this.failed(error);
    }
  }

  #requestNow(): void {
    this.request();
    this.#onDue();
  }
}
