import { mkdir, rmdir } from 'node:fs/promises';
import path from 'node:path';
import { syncFolder } from '../disk/durable-fs.js';
import { systemCodeOf } from '../errors.js';

/** Makes and removes folders, and makes names in them durable. Those who want a sync at the same time share one. */
export class DurableFolders {
  /** Folders in which a folder was made; one whose sync fails is tried again by the next who uses one. */
  readonly #unsynced = new Set<string>();
  /** Folders that were made durable here. One that has been removed since is made again by the next who uses it. */
  readonly #ready = new Set<string>();
  #last: Promise<unknown> = Promise.resolve();
  readonly #running = new Map<string, Promise<void>>();
  readonly #waiting = new Map<string, Promise<void>>();

  /**
   * Makes a folder, and those above it, where they are missing, and does a step in it. The folders are durable then;
   * for what the step has done there is `sync`. A step that finds the folder gone (`ENOENT`) is done again in a new one.
   *
   * @param check rejects where the folder must not be used. It is asked once about a folder that stays.
   */
  async use<T>(folder: string, step: () => Promise<T>, check = async () => {}): Promise<T> {
    if (this.#ready.has(folder)) {
      try {
        return await step();
      } catch (error) {
        if (systemCodeOf(error) !== 'ENOENT') throw error;
      }
    }
    // No folder is removed meanwhile.
    return await this.#inOrder(async () => {
      await this.#make(folder);
      await check();
      this.#ready.add(folder);
      return await step();
    });
  }

  removeIfEmpty(folder: string): Promise<void> {
    return this.#inOrder(async () => {
      try {
        await rmdir(folder);
      } catch (error) {
        if (!['ENOTEMPTY', 'EEXIST', 'ENOENT'].includes(systemCodeOf(error) ?? '')) throw error;
      }
    });
  }

  /** Resolves once the names that were in the folder at the time of the call are durable. */
  sync(folder: string): Promise<void> {
    const waiting = this.#waiting.get(folder);
    if (waiting) return waiting;
    // A sync that has begun may be too early for the caller's name; all who come now share the one after it.
    const running = this.#running.get(folder) ?? Promise.resolve();
    const begin = () => {
      this.#waiting.delete(folder);
      this.#running.set(folder, next);
      return syncFolder(folder);
    };
    const next = running.then(begin, begin).finally(() => {
      if (this.#running.get(folder) === next) this.#running.delete(folder);
    });
    this.#waiting.set(folder, next);
    return next;
  }

  #inOrder<T>(step: () => Promise<T>): Promise<T> {
    const result = this.#last.then(step);
    // Whoever asked for this step hears of its failure.
    this.#last = result.catch(() => {});
    return result;
  }

  async #make(folder: string): Promise<void> {
    const first = await mkdir(folder, { recursive: true });
    if (first !== undefined) {
      let made = folder;
      this.#unsynced.add(path.dirname(made));
      while (made !== first && made !== path.dirname(made)) {
        made = path.dirname(made);
        this.#unsynced.add(path.dirname(made));
      }
    }
    for (const parent of this.#unsynced) {
      await this.sync(parent);
      this.#unsynced.delete(parent);
    }
  }
}
