import type { Job } from '../job.js';
import type { Jobs } from '../jobs/jobs.js';
import type { WaitingPlace } from '../jobs/waiting-jobs.js';
import type { EventStream } from './event-stream.js';

/** Positions change all at once whenever a job is let in; they are told at most so often. */
const EVERY_MS = 1_000;
/** Whoever sees many jobs is told of so many of those that wait, the next to be let in first. */
const SHOWN = 100;

export interface QueuePositionsOptions {
  readonly queue: Pick<WaitingPlace, 'positions'>;
  readonly jobs: Pick<Jobs, 'get'>;
  readonly streams: ReadonlySet<EventStream>;
  readonly tell: (stream: EventStream, job: Job) => void;
  readonly onError: (error: unknown) => void;
}

/** Tells clients where the jobs that wait stand in the queue. */
export class QueuePositions {
  readonly #options: QueuePositionsOptions;
  #timer: NodeJS.Timeout | undefined;
  #lastMs = Number.NEGATIVE_INFINITY;

  constructor(options: QueuePositionsOptions) {
    this.#options = options;
  }

  /** Positions may have changed. Cheap, and does nothing while nobody looks. */
  moved(): void {
    if (this.#timer !== undefined || this.#options.streams.size === 0) return;
    const waitMs = Math.max(0, this.#lastMs + EVERY_MS - performance.now());
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#lastMs = performance.now();
      this.#tellAll().catch(this.#options.onError);
    }, waitMs).unref();
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  async #tellAll(): Promise<void> {
    const { queue, jobs, streams } = this.#options;
    const all = [...queue.positions];
    const lookedAt = new Set([...streams].map(({ viewer }) => viewer.jobId));
    for (const [id, position] of all.filter(([id, place]) => place <= SHOWN || lookedAt.has(id))) {
      const lacks = (stream: EventStream) =>
        (stream.viewer.jobId ?? id) === id && stream.lacksPosition(id, position);
      if (![...streams].some(lacks)) continue;
      const job = await jobs.get(id);
      if (job?.status !== 'Pending') continue;
      for (const stream of streams) {
        if (lacks(stream) && stream.sees(job)) this.#options.tell(stream, job);
      }
    }
  }
}
