import type { ProgressSource } from '../backends/backend.js';
import type { BackendName } from '../job.js';
import type { JobRecorder } from '../jobs/job-recorder.js';
import type { ProgressBoard } from './progress-board.js';

const EVERY_MS = 1_000;
/** A backend that does not answer is asked less and less often. */
const MAX_WAIT_MS = 30_000;

export interface PolledBackend {
  readonly name: BackendName;
  readonly url: URL;
  readonly source: ProgressSource;
}

export interface ProgressPollOptions {
  readonly backend: PolledBackend;
  readonly recorder: Pick<JobRecorder, 'processing'>;
  readonly board: Pick<ProgressBoard, 'isWatched' | 'report'>;
}

/** Asks a backend how far it is with its jobs, one question at a time, while there are some and somebody looks. */
export class ProgressPoll {
  readonly #options: ProgressPollOptions;
  readonly #closing = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  #isAsking = false;
  #failures = 0;

  constructor(options: ProgressPollOptions) {
    this.#options = options;
  }

  /** The backend has got a job. */
  wake(): void {
    if (this.#timer !== undefined || this.#isAsking || this.#closing.signal.aborted) return;
    const waitMs = Math.min(EVERY_MS * 2 ** this.#failures, MAX_WAIT_MS);
    this.#timer = setTimeout(() => void this.#round(), waitMs).unref();
  }

  close(): void {
    this.#closing.abort();
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  get #running() {
    const { recorder, backend } = this.#options;
    return recorder.processing(backend.name).filter(({ stage }) => stage === 'running');
  }

  async #round(): Promise<void> {
    this.#timer = undefined;
    if (this.#running.length === 0) return;
    this.#isAsking = true;
    try {
      if (this.#options.board.isWatched) await this.#ask();
      this.#failures = 0;
    } catch {
      // Nobody is told: progress is an extra, a backend may be too busy or not ours to ask, and what becomes of the job
      // is seen by its answer. The next question comes later.
      this.#failures += 1;
    } finally {
      this.#isAsking = false;
    }
    this.wake();
  }

  async #ask(): Promise<void> {
    const { backend, board } = this.#options;
    const { url, source } = backend;
    const { signal } = this.#closing;
    for (const job of this.#running) {
      if (job.ended || job.stage !== 'running') continue;
      const known = job.taskId === undefined ? undefined : await source.ofTask(url, job.taskId, signal);
      // Whoever knows no tasks, as SD.Next, tells how far it is with whatever it runs. With one job of ours there, it is
      // that one, as long as nobody uses the backend past the gateway.
      const isAlone = this.#running.length === 1;
      const progress = known ?? (isAlone ? await source.ofWhateverRuns(url, signal) : undefined);
      if (progress) board.report(job.id, progress);
    }
  }
}
