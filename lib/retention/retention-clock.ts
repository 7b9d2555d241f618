import { join } from 'node:path';
import { replaceFile } from '../disk/durable-fs.js';
import { readJsonObject } from '../disk/json-object-file.js';
import { messageOf } from '../errors.js';
import { unixSeconds } from '../job.js';
import type { Logger } from '../logger.js';
import { DAY_MS } from '../option-checks.js';

/** A clock that is so far ahead of all that is known is rather wrong than a gateway that has rested so long. */
const FAR_AHEAD_MS = 365 * DAY_MS;
const MAX_FILE_BYTES = 1024;

/**
 * Judges the wall clock: with one that is years ahead, every job looks old. What it goes by is the time of the last
 * sweep, kept in `last-sweep.json`, `{"unix": seconds}`.
 */
export class RetentionClock {
  readonly #path: string;
  readonly #logger: Logger;
  /** Unix milliseconds. */
  #lastActivityMs: number | undefined;
  #isKept = false;
  #hasWarned = false;

  constructor(folder: string, logger: Logger) {
    this.#path = join(folder, 'last-sweep.json');
    this.#logger = logger;
  }

  /** @param newestJobMs when the newest job ended, for where no sweep is known. Unix milliseconds. */
  async open(newestJobMs: number | undefined): Promise<void> {
    const lastSweepMs = await this.#read();
    this.#isKept = lastSweepMs !== undefined;
    this.#lastActivityMs = lastSweepMs ?? newestJobMs;
  }

  /**
   * Whether jobs may be removed because it is this late.
   *
   * @param matters whether there is any need to say that they may not, which is done once.
   */
  async isTrusted(nowMs: number, matters: boolean): Promise<boolean> {
    const last = this.#lastActivityMs;
    if (last === undefined || nowMs - last <= FAR_AHEAD_MS) return true;
    // Jobs that end from now on would make a restart believe the clock.
    if (!this.#isKept) await this.#write(last);
    if (matters && !this.#hasWarned) {
      this.#hasWarned = true;
      this.#logger.warn(
        `The clock is ${Math.floor((nowMs - last) / DAY_MS)} days ahead of the last known activity, so no job is ` +
          'removed for its age for now. If the clock is right, say so by POST /job-tracker/purge, which goes by the ' +
          'clock as it is; jobs are then removed by themselves again.',
      );
    }
    return false;
  }

  /** The clock is right: there was a sweep at this time. Never rejects. */
  async confirm(nowMs: number): Promise<void> {
    this.#lastActivityMs = nowMs;
    await this.#write(nowMs);
  }

  async #read(): Promise<number | undefined> {
    try {
      const kept = await readJsonObject(this.#path, MAX_FILE_BYTES);
      if (kept === undefined) return undefined;
      const { unix } = kept;
      if (Number.isFinite(unix) && (unix as number) >= 0) return (unix as number) * 1000;
      throw new Error(`Expected \`unix\` in ${this.#path} to be unix seconds, got ${JSON.stringify(unix)}`);
    } catch (error) {
      this.#logger.warn(`The time of the last sweep is not known: ${messageOf(error)}`);
      return undefined;
    }
  }

  async #write(timeMs: number): Promise<void> {
    try {
      await replaceFile(this.#path, `${JSON.stringify({ unix: unixSeconds(timeMs) })}\n`);
      this.#isKept = true;
    } catch (error) {
      this.#logger.warn(`The time of the last sweep could not be written down: ${messageOf(error)}`);
    }
  }
}
