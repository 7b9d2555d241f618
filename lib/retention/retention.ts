import { setImmediate as nextTurn } from 'node:timers/promises';
import { JobTrackerError, messageOf } from '../errors.js';
import type { ImageStore } from '../images/image-store.js';
import { inParallel } from '../in-parallel.js';
import { isFinished, type Job } from '../job.js';
import type { JobEvents } from '../jobs/job-events.js';
import type { Jobs } from '../jobs/jobs.js';
import type { Logger } from '../logger.js';
import type { Settings } from '../settings.js';
import type { JobStore } from '../stores/job-store.js';
import { endOf, KeptBytes, type KeptJob } from './kept-bytes.js';
import { RemovalTally } from './removal-tally.js';
import { RetentionClock } from './retention-clock.js';

/** So many jobs are removed at once, so that they share the store's syncs. */
const AT_ONCE = 32;

export interface RetentionOptions {
  readonly store: JobStore;
  readonly images: ImageStore;
  readonly jobs: Pick<Jobs, 'remove'>;
  readonly events: JobEvents;
  readonly settings: Pick<Settings, 'retentionMs'>;
  /** How much the jobs' files may take together; `Infinity` for no limit. */
  readonly maxBytes: number;
  readonly purgeEveryMs: number;
  /** Holds last-sweep.json. */
  readonly folder: string;
  readonly logger: Logger;
}

export interface PurgeOptions {
  /** Only jobs that ended longer ago than that. By the setting where it is absent, which may say "for ever". */
  readonly olderThanMs?: number | undefined;
  /** Only tells what would go. */
  readonly dryRun?: boolean | undefined;
}

/** What was removed, or would be. */
export interface Purged {
  readonly jobs: number;
  /** The size of their files. */
  readonly bytes: number;
}

/**
 * Removes jobs that have ended, with their images: those that have outlived the retention time, and the oldest where all
 * together take more than `maxBytes`. A job that cannot be removed stops no other, and is tried again.
 *
 * It does so by itself at the start and every `purgeEveryMs`, and when a job that ends exceeds `maxBytes`. While the
 * clock is more than a year ahead of the last sweep, no job goes for its age by itself; a `purge` confirms the clock.
 */
export class Retention {
  readonly #options: RetentionOptions;
  readonly #clock: RetentionClock;
  readonly #kept: KeptBytes;
  #opening: Promise<void> | undefined;
  #isClosed = false;
  #timer: NodeJS.Timeout | undefined;
  #last: Promise<unknown> = Promise.resolve();
  #isTrimDue = false;

  constructor(options: RetentionOptions) {
    this.#options = options;
    this.#clock = new RetentionClock(options.folder, options.logger);
    this.#kept = new KeptBytes(options);
    this.#kept.onGrown = () => this.#trimSoon();
  }

  /** How many bytes the files of all jobs take together. Known once `open` has resolved. */
  get keptBytes(): number {
    return this.#kept.total;
  }

  /**
   * Learns what is kept and begins the first sweep. To be called when both stores are open, and before the jobs that an
   * earlier process left running are ended: where no sweep is known, the newest end is what the clock is judged by.
   * Rejects with the store's error, and may be called again then.
   */
  open(): Promise<void> {
    if (this.#isClosed) return Promise.reject(closed());
    this.#opening ??= this.#open().catch((error: unknown) => {
      this.#opening = undefined;
      throw error;
    });
    return this.#opening;
  }

  /** Resolves once a sweep that is under way has stopped, at the next job. May be called twice. */
  async close(): Promise<void> {
    this.#isClosed = true;
    clearInterval(this.#timer);
    this.#kept.close();
    // Whoever called `open` hears of its failure.
    await this.#opening?.catch(() => {});
    await this.#last;
  }

  /**
   * Removes jobs that ended longer ago than that, by the clock as it is. One purge or sweep at a time; others wait.
   * Rejects with `INVALID_PARAMETER`, with `CLOSED` where it could not go on, and with the store's error.
   */
  async purge({ olderThanMs, dryRun = false }: PurgeOptions = {}): Promise<Purged> {
    if (olderThanMs !== undefined && !(typeof olderThanMs === 'number' && olderThanMs > 0)) {
      const message = `Expected \`olderThanMs\` to be a number above 0, got ${String(olderThanMs)}`;
      throw new JobTrackerError('INVALID_PARAMETER', message);
    }
    return await this.#inTurn(async () => {
      const now = Date.now();
      const tally = await this.#removeOld(
        now,
        () => olderThanMs ?? this.#options.settings.retentionMs,
        dryRun,
      );
      if (this.#isClosed) throw closed();
      if (!dryRun) await this.#clock.confirm(now);
      return { jobs: tally.jobs, bytes: tally.bytes };
    });
  }

  async #open(): Promise<void> {
    await this.#clock.open(await this.#kept.open());
    if (this.#isClosed) return;
    this.#inBackground(() => this.#sweep());
    this.#timer = setInterval(() => {
      this.#inBackground(() => this.#sweep());
    }, this.#options.purgeEveryMs).unref();
  }

  async #sweep(): Promise<void> {
    const { settings } = this.#options;
    const now = Date.now();
    if (await this.#clock.isTrusted(now, settings.retentionMs > 0)) {
      await this.#removeOld(now, () => settings.retentionMs);
      if (!this.#isClosed) await this.#clock.confirm(now);
    }
    await this.#trim();
  }

  /** @param ageMs asked before each job, because the setting may change meanwhile. 0: for ever. */
  async #removeOld(now: number, ageMs: () => number, dryRun = false): Promise<RemovalTally> {
    const tally = new RemovalTally();
    const isOld = (job: Job) => ageMs() > 0 && isFinished(job) && endOf(job) < now - ageMs();
    for await (const page of this.#options.store.walk()) {
      await inParallel(page.filter(isOld), AT_ONCE, async (job) => {
        if (this.#isClosed || !isOld(job)) return;
        await tally.add(job.id, async () => {
          const sizeBytes = await this.#kept.sizeOf(job);
          return dryRun || (await this.#remove(job.id)) ? sizeBytes : undefined;
        });
      });
      if (this.#isClosed) break;
      await nextTurn();
    }
    if (!dryRun) tally.report(this.#options.logger, 'that had outlived their time');
    return tally;
  }

  #trimSoon(): void {
    if (this.#isTrimDue || this.keptBytes <= this.#options.maxBytes) return;
    this.#isTrimDue = true;
    this.#inBackground(async () => {
      this.#isTrimDue = false;
      await this.#trim();
    });
  }

  /** Removes the oldest jobs until the rest fits into `maxBytes`. The one that ended last stays in any case. */
  async #trim(): Promise<void> {
    const tally = new RemovalTally();
    const candidates = this.#kept.allButNewest();
    for (;;) {
      const batch = this.#isClosed ? [] : this.#excess(candidates);
      if (batch.length === 0) break;
      await inParallel(batch, AT_ONCE, ({ id, sizeBytes }) =>
        tally.add(id, async () => ((await this.#remove(id)) ? sizeBytes : undefined)),
      );
      await nextTurn();
    }
    tally.report(this.#options.logger, 'to keep within `maxBytes`');
  }

  /** The next jobs that have to go, and no more than can go at once. */
  #excess(candidates: Iterator<KeptJob, void>): KeptJob[] {
    const jobs: KeptJob[] = [];
    let excessBytes = this.keptBytes - this.#options.maxBytes;
    while (excessBytes > 0 && jobs.length < AT_ONCE) {
      const job = candidates.next().value;
      if (!job) break;
      jobs.push(job);
      excessBytes -= job.sizeBytes;
    }
    return jobs;
  }

  async #remove(id: string): Promise<boolean> {
    const removed = await this.#options.jobs.remove(id);
    // Where it had gone already, its files no longer count either.
    this.#kept.remove(id);
    return removed;
  }

  #inBackground(step: () => Promise<void>): void {
    this.#inTurn(step).catch((error: unknown) => {
      if (!this.#isClosed) this.#options.logger.error(`The sweep for old jobs failed: ${messageOf(error)}`);
    });
  }

  #inTurn<T>(step: () => Promise<T>): Promise<T> {
    const result = this.#last.then(async () => {
      if (this.#isClosed) throw closed();
      return await step();
    });
    // Whoever asked for this step hears of its failure.
    this.#last = result.catch(() => {});
    return result;
  }
}

function closed(): JobTrackerError {
  return new JobTrackerError('CLOSED', 'The job tracker has been closed');
}
