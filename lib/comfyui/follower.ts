import { type HistoryEntry, readHistoryEntry } from '../backends/comfyui-history.js';
import { readQueue } from '../backends/comfyui-queue.js';
import { JobTrackerError, messageOf } from '../errors.js';
import type { ImageStore } from '../images/image-store.js';
import type { Job } from '../job.js';
import type { JobRecorder } from '../jobs/job-recorder.js';
import type { RunningJob } from '../jobs/running-job.js';
import type { Logger } from '../logger.js';
import { keepOutputs } from './keep-outputs.js';
import { Turns } from './turns.js';

/** Looks follow each other as fast as this while things move, and ever more slowly while nothing does. */
const SHORTEST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 1_000;
/** While ComfyUI cannot be reached. */
const LONGEST_OUTAGE_PAUSE_MS = 5_000;
/** A long queue comes with all its workflows: at most so large a part of the time is spent on looking. */
const PAUSE_PER_LOOK = 10;
/** A prompt that is neither in the queue nor in the history is looked for once more before it counts as gone. */
const LOOKS_UNTIL_GONE = 2;
/** So often ComfyUI may answer something else than an entry of its history; it will not be able to any more then. */
const MOST_FAULTS = 10;
/** A prompt that is still there in so many looks after others were taken out was not among them. */
const LOOKS_AFTER_REMOVAL = 3;

export interface ComfyUIFollowerOptions {
  readonly url: URL;
  readonly images: ImageStore;
  readonly recorder: Pick<JobRecorder, 'adopt' | 'leave'>;
  readonly jobTimeoutMs: number;
  /** True for a job whose prompt id is somebody else's already. */
  readonly isOthers?: (job: RunningJob) => boolean;
  readonly logger: Logger;
  /** Called when the places of jobs in ComfyUI's queue have changed. */
  readonly onMoved?: () => void;
  /** Called with each job that is followed from now on. */
  readonly onFollowed?: (job: RunningJob) => void;
}

interface Followed {
  readonly job: RunningJob;
  readonly promptId: string;
  readonly end: AbortController;
  readonly timeout: NodeJS.Timeout;
  /** 1 for the next. */
  position: number | undefined;
  /** How often it has been looked for in vain. */
  misses: number;
  /** How often ComfyUI, which told of its queue, could not tell of this prompt. */
  faults: number;
  /** Its history entry is there; its files are being fetched. */
  isEnding: boolean;
  /** Somebody has just taken prompts out of ComfyUI's hands; in how many more looks this one may turn out to be among them. */
  removalLooks: number;
}

/**
 * Follows prompts that ComfyUI has queued to their ends. It asks ComfyUI itself, one question at a time, and none while
 * nothing is in flight: a WebSocket of ours under a client's id would take that client's messages away.
 */
export class ComfyUIFollower {
  readonly #options: ComfyUIFollowerOptions;
  /** By the ids of the jobs. */
  readonly #followed = new Map<string, Followed>();
  readonly #byPrompt = new Map<string, Followed>();
  #timer: NodeJS.Timeout | undefined;
  /** When the timer fires, by the clock of `performance.now`. */
  #dueMs = 0;
  /** No look begins before, whatever the news: at most half of the time is spent on looking. */
  #notBeforeMs = 0;
  #pauseMs = SHORTEST_PAUSE_MS;
  #looking: Promise<void> | undefined;
  #lookAgain = false;
  /** The files of one job are fetched at a time. */
  readonly #turns = new Turns();
  readonly #keeping = new Set<Promise<void>>();
  readonly #closing = new AbortController();
  #isUnreachable = false;
  #isClosed = false;

  constructor(options: ComfyUIFollowerOptions) {
    this.#options = options;
  }

  /** Follows a job that has its ticket. */
  follow(job: RunningJob): void {
    const { taskId: promptId } = job;
    // While its ticket was being put on record, nobody was there to end it.
    if (job.brokenOffBy) void job.fail(job.brokenOffBy);
    if (job.ended || promptId === undefined) return;
    if (this.#isClosed) {
      this.#options.recorder.leave(job);
      return;
    }
    const { jobTimeoutMs, isOthers } = this.#options;
    if (isOthers?.(job)) {
      // What ComfyUI says under this id, and the files, may be theirs.
      const message = 'The prompt has the id of an earlier one of another user: it cannot be followed';
      void job.fail({ code: 'backend', message });
      return;
    }
    const timeout = setTimeout(() => {
      const message = `The job took longer than ${Math.round(jobTimeoutMs / 1000)} s (\`jobTimeout\`)`;
      job.breakOff({ code: 'timeout', message });
    }, jobTimeoutMs).unref();
    const followed: Followed = {
      job,
      promptId,
      end: new AbortController(),
      timeout,
      position: undefined,
      misses: 0,
      faults: 0,
      isEnding: false,
      removalLooks: 0,
    };
    this.#followed.set(job.id, followed);
    this.#byPrompt.set(promptId, followed);
    job.onBrokenOff((error) => {
      this.#forget(followed);
      void job.fail(error);
    });
    this.#options.onFollowed?.(job);
    this.lookSoon();
  }

  /** Goes on with jobs that an earlier process has left to be followed. */
  adopt(jobs: readonly Job[]): void {
    for (const job of jobs) this.follow(this.#options.recorder.adopt(job));
  }

  /** A job's place in ComfyUI's queue: 1 for the next, undefined for one that is not known to wait there. */
  positionOf(jobId: string): number | undefined {
    return this.#followed.get(jobId)?.position;
  }

  /** The jobs that wait in ComfyUI's queue, by id, each with its position, the next one first. */
  get positions(): [id: string, position: number][] {
    const known = [...this.#followed].flatMap(([id, { position }]): [string, number][] =>
      position === undefined ? [] : [[id, position]],
    );
    return known.sort(([, a], [, b]) => a - b);
  }

  /** The job that ComfyUI knows by this id, while it is followed. */
  jobOf(promptId: string): RunningJob | undefined {
    return this.#byPrompt.get(promptId)?.job;
  }

  /** The jobs whose history entries have been read, and whose files are being fetched, by what ComfyUI calls them. */
  get ending(): ReadonlyMap<string, string> {
    const ending = [...this.#followed.values()].filter(({ isEnding }) => isEnding);
    return new Map(ending.map(({ promptId, job }) => [promptId, job.id]));
  }

  /** The job that ComfyUI works on, where that can only be one. */
  get onlyProcessing(): RunningJob | undefined {
    const [job, another] = [...this.#followed.values()].flatMap(({ job }) => (job.isProcessing ? [job] : []));
    return another ? undefined : job;
  }

  /** A prompt is in ComfyUI's hands now: somebody has heard it say so. Resolves once that is on record. Never rejects. */
  async started(promptId: string): Promise<void> {
    const followed = this.#byPrompt.get(promptId);
    if (!followed || followed.isEnding) return;
    this.#move(followed, undefined);
    await followed.job.processing();
  }

  /** Somebody changes ComfyUI's queue: prompts that vanish from it now were taken out. */
  queueChanges(): void {
    for (const followed of this.#followed.values()) followed.removalLooks = LOOKS_AFTER_REMOVAL;
    this.lookSoon();
  }

  /** Something has happened at ComfyUI. */
  lookSoon(): void {
    this.#pauseMs = SHORTEST_PAUSE_MS;
    if (this.#looking) this.#lookAgain = true;
    else this.#schedule(SHORTEST_PAUSE_MS);
  }

  /** Leaves all jobs to the next process. Resolves when nothing is under way any more. */
  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    this.#closing.abort(new JobTrackerError('CLOSED', 'Nothing is followed any more'));
    for (const followed of [...this.#followed.values()]) {
      this.#forget(followed);
      this.#options.recorder.leave(followed.job);
    }
    await Promise.allSettled([this.#looking, ...this.#keeping]);
  }

  #schedule(pauseMs: number): void {
    if (this.#isClosed || !this.#isAwaiting) return;
    const nowMs = performance.now();
    const dueMs = Math.max(nowMs + pauseMs, this.#notBeforeMs);
    // What is due sooner stays so: news in a row would put it off for ever.
    if (this.#timer && this.#dueMs <= dueMs) return;
    clearTimeout(this.#timer);
    this.#dueMs = dueMs;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      if (!this.#isAwaiting) return;
      this.#looking = this.#look().finally(() => {
        this.#looking = undefined;
        this.#schedule(this.#lookAgain ? SHORTEST_PAUSE_MS : this.#pauseMs);
        this.#lookAgain = false;
      });
    }, dueMs - nowMs).unref();
  }

  get #isAwaiting(): boolean {
    return [...this.#followed.values()].some(({ isEnding }) => !isEnding);
  }

  /** One look at the queue, and at the history of whatever is not in it: in that order, or one could slip through. */
  async #look(): Promise<void> {
    const began = performance.now();
    // What comes while we look may be missing in an answer that was made before.
    const awaited = [...this.#followed.values()].filter(({ isEnding }) => !isEnding);
    let moved = false;
    try {
      const { running, pending } = await readQueue(this.#options.url, this.#closing.signal);
      const places = new Map(pending.map((id, index) => [id, index + 1]));
      for (const followed of awaited) {
        if (followed.job.ended) continue;
        const place = places.get(followed.promptId);
        if (running.has(followed.promptId)) void this.started(followed.promptId);
        else if (place === undefined) moved = (await this.#lookInHistory(followed)) || moved;
        if (place !== undefined || running.has(followed.promptId)) {
          followed.misses = 0;
          followed.removalLooks = Math.max(0, followed.removalLooks - 1);
        }
        moved = this.#move(followed, place) || moved;
      }
      this.#noteReachable();
      const endedMs = performance.now();
      const tookMs = endedMs - began;
      this.#notBeforeMs = endedMs + tookMs;
      const pauseMs = moved ? SHORTEST_PAUSE_MS : Math.min(this.#pauseMs * 1.5, LONGEST_PAUSE_MS);
      this.#pauseMs = Math.max(pauseMs, tookMs * PAUSE_PER_LOOK);
    } catch (error) {
      if (this.#isClosed) return;
      this.#noteUnreachable(error);
      this.#pauseMs = Math.min(this.#pauseMs * 2, LONGEST_OUTAGE_PAUSE_MS);
    }
  }

  /** Resolves to whether something has come of it. */
  async #lookInHistory(followed: Followed): Promise<boolean> {
    let entry: HistoryEntry | undefined;
    try {
      entry = await readHistoryEntry(this.#options.url, followed.promptId, this.#closing.signal);
    } catch (error) {
      if (!this.#isClosed) this.#noteFault(followed, error);
      throw error;
    }
    if (followed.job.ended || !this.#followed.has(followed.job.id)) return true;
    followed.faults = 0;
    if (entry) {
      followed.isEnding = true;
      const keeping = this.#end(followed, entry).finally(() => this.#keeping.delete(keeping));
      this.#keeping.add(keeping);
      return true;
    }
    followed.misses += 1;
    if (followed.misses < LOOKS_UNTIL_GONE) return true;
    this.#forget(followed);
    void followed.job.fail(
      followed.removalLooks > 0
        ? { code: 'cancelled', message: "The prompt was deleted from ComfyUI's queue or history" }
        : {
            code: 'interrupted',
            message:
              'ComfyUI does not know this prompt any more: it was restarted, or the prompt was deleted there',
          },
    );
    return true;
  }

  /** It may be this one prompt of which ComfyUI cannot tell: the others go first from now on, and it may come to an end. */
  #noteFault(followed: Followed, error: unknown): void {
    const { job } = followed;
    if (job.ended || !this.#followed.delete(job.id)) return;
    this.#followed.set(job.id, followed);
    followed.faults += 1;
    if (followed.faults < MOST_FAULTS) return;
    this.#forget(followed);
    const message = `ComfyUI could not tell what became of the prompt: ${messageOf(error)}`;
    void job.fail({ code: 'backend', message });
  }

  /** Never rejects. */
  async #end(followed: Followed, entry: HistoryEntry): Promise<void> {
    const { url, images, logger } = this.#options;
    const { job, end } = followed;
    const turn = await this.#turns.take();
    try {
      if (job.ended || end.signal.aborted) return;
      // It may have begun and ended between two looks.
      void job.processing();
      const { signal } = end;
      const { kept, problem } = await keepOutputs({ url, images, logger, job, entry, signal, turn });
      const error = entry.error ?? problem;
      const ended = error ? job.fail(error, kept) : job.complete(kept);
      this.#forget(followed);
      await ended;
    } catch (error) {
      if (end.signal.aborted) return;
      this.#forget(followed);
      logger.error(`What ComfyUI made of job ${job.id} could not be kept`, error);
      await job.fail({ code: 'not_stored', message: messageOf(error) });
    } finally {
      turn.end();
    }
  }

  #forget(followed: Followed): void {
    clearTimeout(followed.timeout);
    this.#followed.delete(followed.job.id);
    if (this.#byPrompt.get(followed.promptId) === followed) this.#byPrompt.delete(followed.promptId);
    followed.end.abort(new JobTrackerError('CLOSED', 'The job is not followed any more'));
  }

  #move(followed: Followed, position: number | undefined): boolean {
    if (followed.position === position) return false;
    followed.position = position;
    this.#options.onMoved?.();
    return true;
  }

  #noteReachable(): void {
    if (this.#isUnreachable)
      this.#options.logger.info(`ComfyUI at ${this.#options.url.origin} answers again`);
    this.#isUnreachable = false;
  }

  #noteUnreachable(error: unknown): void {
    const jobs = this.#followed.size;
    // It may take a long time to come back, and is said once until it has.
    if (!this.#isUnreachable)
      this.#options.logger.warn(
        `${jobs} job(s) wait for ComfyUI, which cannot be asked: ${messageOf(error)}`,
      );
    this.#isUnreachable = true;
  }
}
