import { setImmediate as nextTurn } from 'node:timers/promises';
import { JobTrackerError, messageOf } from '../errors.js';
import type { ImageStore } from '../images/image-store.js';
import { isStoredPath } from '../images/stored-path.js';
import { inParallel } from '../in-parallel.js';
import { isFinished, type Job } from '../job.js';
import type { JobEvents } from '../jobs/job-events.js';
import type { Logger } from '../logger.js';
import type { JobStore } from '../stores/job-store.js';

/** So many jobs are asked for the size of their files at once. */
const AT_ONCE = 16;
/** So many jobs are put in order in one go. */
const PAGE_SIZE = 5_000;

export interface KeptBytesOptions {
  readonly store: JobStore;
  readonly images: ImageStore;
  readonly events: JobEvents;
  readonly logger: Logger;
}

/** A job that has ended, and the size of its files. */
export interface KeptJob {
  readonly id: string;
  readonly sizeBytes: number;
}

/** Knows how much the files of all jobs take, and in which order the jobs ended. */
export class KeptBytes {
  readonly #options: KeptBytesOptions;
  /** In the order in which the jobs ended; only those that have files. */
  readonly #sizes = new Map<string, number>();
  #total = 0;
  #isClosed = false;
  /** Called when the total has grown. */
  onGrown: () => void = () => {};

  constructor(options: KeptBytesOptions) {
    this.#options = options;
  }

  get total(): number {
    return this.#total;
  }

  /**
   * Learns what is kept, and from then on goes by what happens to jobs. Resolves to when the newest job ended, in unix
   * milliseconds. After a rejection it may be called again.
   */
  async open(): Promise<number | undefined> {
    this.#listen('on');
    try {
      return await this.#takeStock();
    } catch (error) {
      this.#listen('off');
      this.#sizes.clear();
      this.#total = 0;
      throw error;
    }
  }

  close(): void {
    this.#isClosed = true;
    this.#listen('off');
  }

  /**
   * The size of a job's files, by its record or, where that does not tell, by the files themselves. What the A1111
   * extension has left outside of the output folder counts nothing.
   */
  async sizeOf(job: Job): Promise<number> {
    const recorded = recordedBytes(job);
    if (recorded !== undefined) return recorded;
    let sizeBytes = 0;
    for (const path of new Set(pathsOf(job))) {
      if (typeof path !== 'string' || !isStoredPath(path)) continue;
      const file = await this.#options.images.read(path);
      sizeBytes += file?.sizeBytes ?? 0;
      await file?.close();
    }
    return sizeBytes;
  }

  /** A job has gone. */
  remove(id: string): void {
    this.#total -= this.#sizes.get(id) ?? 0;
    this.#sizes.delete(id);
  }

  /** The jobs that have files, from the oldest on, but for the one that ended last. They may come and go meanwhile. */
  *allButNewest(): Generator<KeptJob, void> {
    let earlier: KeptJob | undefined;
    for (const [id, sizeBytes] of this.#sizes) {
      if (earlier !== undefined && this.#sizes.has(earlier.id)) yield earlier;
      earlier = { id, sizeBytes };
    }
  }

  async #takeStock(): Promise<number | undefined> {
    const ends: { id: string; endedMs: number }[] = [];
    let newestMs: number | undefined;
    for await (const page of this.#options.store.walk()) {
      for (const job of page) {
        const endedMs = endOf(job);
        if (endedMs > (newestMs ?? Number.NEGATIVE_INFINITY)) newestMs = endedMs;
        const recorded = recordedBytes(job);
        if (!isFinished(job) || recorded === 0) continue;
        ends.push({ id: job.id, endedMs });
        this.#add(job.id, recorded ?? 0);
      }
      const unrecorded = page.filter((job) => isFinished(job) && recordedBytes(job) === undefined);
      await inParallel(unrecorded, AT_ONCE, (job) => this.#measure(job));
      if (this.#isClosed) throw new JobTrackerError('CLOSED', 'The job tracker has been closed');
      await nextTurn();
    }
    ends.sort((a, b) => a.endedMs - b.endedMs);
    for (const [n, { id }] of ends.entries()) {
      this.#add(id, this.#sizes.get(id) ?? 0);
      if (n % PAGE_SIZE === 0) await nextTurn();
    }
    return newestMs;
  }

  async #measure(job: Job): Promise<void> {
    try {
      if (!this.#isClosed) this.#add(job.id, await this.sizeOf(job));
    } catch (error) {
      this.#options.logger.warn(`The files of job ${job.id} could not be measured: ${messageOf(error)}`);
    }
  }

  /** A job has ended, later than all the others. */
  #add(id: string, sizeBytes: number): void {
    this.remove(id);
    if (sizeBytes === 0) return;
    this.#sizes.set(id, sizeBytes);
    this.#total += sizeBytes;
  }

  #listen(how: 'on' | 'off'): void {
    const { events } = this.#options;
    events[how]('completed', this.#onEnded);
    events[how]('failed', this.#onEnded);
    events[how]('removed', this.#onRemoved);
  }

  readonly #onEnded = (job: Job): void => {
    const recorded = recordedBytes(job);
    if (recorded === undefined) {
      void this.#measure(job).then(() => this.onGrown());
    } else {
      this.#add(job.id, recorded);
      this.onGrown();
    }
  };

  readonly #onRemoved = ({ id }: Job): void => this.remove(id);
}

function recordedBytes(job: Job): number | undefined {
  if (Number.isSafeInteger(job.bytes) && (job.bytes as number) >= 0) return job.bytes;
  return pathsOf(job).length === 0 ? 0 : undefined;
}

/** The files that a record names, if that is what it does: somebody may have edited it. */
function pathsOf({ output_paths, sidecar }: Job): unknown[] {
  const images: unknown = output_paths;
  return [...(Array.isArray(images) ? images : []), ...(sidecar === undefined ? [] : [sidecar])];
}

/** When a job ended, in unix milliseconds; where nobody has noted that, when it began. */
export function endOf({ finished_at, timestamp }: Job): number {
  return Math.round((Number.isFinite(finished_at) ? (finished_at as number) : timestamp) * 1000);
}
