import { isFinished, type Job, type JobProgress } from '../job.js';
import type { JobEvents } from '../jobs/job-events.js';
import type { Logger } from '../logger.js';

/** A job's progress is told at most so often. */
const EVERY_MS = 250;

export interface ProgressBoardOptions {
  readonly events: JobEvents;
  readonly logger: Logger;
}

interface Entry {
  readonly job: Job;
  latest: JobProgress | undefined;
  toldMs: number;
  timer: NodeJS.Timeout | undefined;
}

/** How far the jobs have come that are Processing, as far as somebody has said so. */
export class ProgressBoard {
  readonly #events: JobEvents;
  readonly #logger: Logger;
  readonly #entries = new Map<string, Entry>();

  constructor({ events, logger }: ProgressBoardOptions) {
    this.#events = events;
    this.#logger = logger;
    events.on('status', (job) => this.#statusChanged(job));
    events.on('removed', ({ id }) => this.#forget(id));
  }

  /** True while somebody wants to hear of progress. Without that, no backend has to be asked. */
  get isWatched(): boolean {
    return this.#events.listenerCount('progress') > 0;
  }

  /** A job is Processing; one that an earlier process has left so has to be told here. */
  begin(job: Job): void {
    this.#entries.set(job.id, {
      job,
      latest: undefined,
      toldMs: Number.NEGATIVE_INFINITY,
      timer: undefined,
    });
  }

  /** Takes what a backend says of a job. That of a job which is not Processing is of no use to anybody. */
  report(id: string, progress: JobProgress): void {
    const entry = this.#entries.get(id);
    if (!entry || !Number.isFinite(progress.progress)) return;
    entry.latest = { ...progress, progress: Math.min(1, Math.max(0, progress.progress)) };
    if (entry.timer !== undefined || !this.isWatched) return;
    const waitMs = entry.toldMs + EVERY_MS - performance.now();
    if (waitMs <= 0) this.#tell(entry);
    else entry.timer = setTimeout(() => this.#tell(entry), waitMs).unref();
  }

  /** The last that is known of a job while it is Processing. */
  of(id: string): JobProgress | undefined {
    return this.#entries.get(id)?.latest;
  }

  #statusChanged(job: Job): void {
    if (job.status === 'Processing') this.begin(job);
    else if (isFinished(job)) this.#forget(job.id);
  }

  #forget(id: string): void {
    clearTimeout(this.#entries.get(id)?.timer);
    this.#entries.delete(id);
  }

  #tell(entry: Entry): void {
    entry.timer = undefined;
    entry.toldMs = performance.now();
    if (!entry.latest) return;
    try {
      this.#events.emit('progress', entry.job, entry.latest);
    } catch (error) {
      this.#logger.error('A listener for "progress" threw', error);
    }
  }
}
