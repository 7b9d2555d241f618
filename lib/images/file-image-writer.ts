import type { FileHandle } from 'node:fs/promises';
import { rm } from 'node:fs/promises';
import { writeAll } from '../disk/durable-fs.js';
import { JobTrackerError, messageOf } from '../errors.js';
import type { Logger } from '../logger.js';
import type { ImageWriter } from './image-store.js';

export interface FileImageWriterOptions {
  /** The partial file, open and empty. */
  readonly handle: FileHandle;
  readonly partialPath: string;
  readonly stem: string;
  /** Moves the partial file, durable and closed, to its final place, a path below the store's folder. */
  readonly publish: (partialPath: string, storedPath: string) => Promise<void>;
  readonly logger: Logger;
}

/** Writes a partial file. What is asked of it is done in order, one thing at a time. */
export class FileImageWriter implements ImageWriter {
  readonly #options: FileImageWriterOptions;
  #last: Promise<unknown> = Promise.resolve();
  #failure: unknown;

  constructor(options: FileImageWriterOptions) {
    this.#options = options;
  }

  write(bytes: Uint8Array): Promise<void> {
    return this.#inOrder(async () => {
      await this.#failing(() => writeAll(this.#options.handle, bytes));
    });
  }

  finish(extension: string): Promise<string> {
    return this.#inOrder(async () => {
      const storedPath = `${this.#options.stem}.${extension}`;
      await this.#failing(() => this.#finish(storedPath));
      return storedPath;
    });
  }

  discard(): Promise<void> {
    return this.#inOrder(async () => {
      const { handle, partialPath, logger } = this.#options;
      try {
        await handle.close();
      } catch (error) {
        logger.warn(`Could not close ${partialPath}: ${messageOf(error)}`);
      }
      try {
        await rm(partialPath, { force: true });
      } catch (error) {
        logger.warn(`Could not remove ${partialPath}: ${messageOf(error)}`);
      }
    });
  }

  async #finish(storedPath: string): Promise<void> {
    const { handle, partialPath, publish } = this.#options;
    await handle.datasync();
    await handle.close();
    await publish(partialPath, storedPath);
  }

  /** After a failure nothing but `discard` works any more. */
  async #failing(step: () => Promise<void>): Promise<void> {
    if (this.#failure) throw this.#failure;
    try {
      await step();
    } catch (error) {
      const message = `Could not store ${this.#options.stem}: ${messageOf(error)}`;
      this.#failure = new JobTrackerError('NOT_STORED', message, { cause: error });
      throw this.#failure;
    }
  }

  #inOrder<T>(step: () => Promise<T>): Promise<T> {
    const result = this.#last.then(step);
    // Whoever asked for this step hears of its failure; the next one finds it in `#failure`.
    this.#last = result.catch(() => {});
    return result;
  }
}
