import { messageOf } from '../errors.js';
import type { Logger } from '../logger.js';

/** Counts the jobs that a sweep removes, and those that it cannot remove. */
export class RemovalTally {
  jobs = 0;
  bytes = 0;
  #failures = 0;
  #firstFailure = '';

  /** @param remove resolves to the size of the job's files, or to undefined where it had gone already. */
  async add(id: string, remove: () => Promise<number | undefined>): Promise<void> {
    try {
      const sizeBytes = await remove();
      if (sizeBytes === undefined) return;
      this.jobs += 1;
      this.bytes += sizeBytes;
    } catch (error) {
      // Most often all of them have the same reason.
      if (this.#failures === 0) this.#firstFailure = `Job ${id}: ${messageOf(error)}`;
      this.#failures += 1;
    }
  }

  /** @param which says which jobs they were. */
  report(logger: Logger, which: string): void {
    if (this.jobs > 0) logger.info(`Removed ${this.jobs} job(s) ${which}, with ${this.bytes} bytes of files`);
    if (this.#failures === 0) return;
    logger.error(
      `Could not remove ${this.#failures} job(s) ${which}; they stay until the next try. ${this.#firstFailure}`,
    );
  }
}
