import { randomUUID } from 'node:crypto';
import { type FileHandle, open, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { makeFolder, removeFile, syncFolder } from '../disk/durable-fs.js';
import { JobTrackerError, messageOf, systemCodeOf } from '../errors.js';
import { isJobId } from '../job-id.js';
import type { Logger } from '../logger.js';
import { RequestFile, writeRequest } from './request-file.js';
import type { RequestHead } from './request-head.js';

const SUFFIX = '.request';

export interface KeptRequestsOptions {
  /** Made when first needed. */
  readonly folder: string;
  readonly logger: Logger;
}

/** Requests of jobs, kept so that they can be run again: a private file for each job. */
export class KeptRequests {
  readonly #folder: string;
  readonly #logger: Logger;
  /** For each job the last step that was asked for: one follows the other. */
  readonly #steps = new Map<string, Promise<void>>();

  constructor({ folder, logger }: KeptRequestsOptions) {
    this.#folder = folder;
    this.#logger = logger;
  }

  /**
   * Keeps the request, in place of an earlier one of the job. Rejects with `NOT_STORED`, and leaves nothing behind.
   *
   * @param how `durably`: it is on the disk when this resolves. `loosely`: a power cut may still take it, or leave what
   * `open` tells from a whole one.
   */
  async keep(
    id: string,
    head: RequestHead,
    body: AsyncIterable<Buffer>,
    how: 'durably' | 'loosely' = 'durably',
  ): Promise<void> {
    try {
      const path = this.#pathOf(id);
      if (path === undefined) throw new Error('its id is not one');
      await this.#inOrder(id, () =>
        how === 'durably' ? this.#writeDurably(path, head, body) : this.#writeInPlace(path, head, body),
      );
    } catch (cause) {
      const message = `The request of job ${id} could not be kept: ${messageOf(cause)}`;
      throw new JobTrackerError('NOT_STORED', message, { cause });
    }
  }

  /**
   * The request of a job, to be closed by the caller; undefined where there is none that could be sent as it was. Reads
   * it once to know that. Never rejects.
   */
  async open(id: string): Promise<RequestFile | undefined> {
    const path = this.#pathOf(id);
    if (path === undefined) return undefined;
    // Whoever writes it hears of a failure.
    await this.#steps.get(id)?.catch(() => {});
    try {
      return await RequestFile.open(path);
    } catch (error) {
      if (systemCodeOf(error) !== 'ENOENT')
        this.#logger.warn(`The kept request of job ${id} cannot be used: ${messageOf(error)}`);
      return undefined;
    }
  }

  /** Removes what is kept for the job, if anything is. Rejects with the system's error. */
  async remove(id: string): Promise<void> {
    const path = this.#pathOf(id);
    if (path !== undefined) await this.#inOrder(id, () => removeFile(path));
  }

  /**
   * Removes everything in the folder but the requests of these jobs: also what was half written, and bodies that a
   * killed process has left. To be called before the first request is kept. Never rejects: what stays is said.
   */
  async clear(keepIds: ReadonlySet<string>): Promise<void> {
    const entries = await readdir(this.#folder, { withFileTypes: true }).catch((error: unknown) => {
      if (systemCodeOf(error) !== 'ENOENT') this.#stays(this.#folder, error);
      return [];
    });
    for (const entry of entries) {
      const isKept =
        entry.isFile() && entry.name.endsWith(SUFFIX) && keepIds.has(entry.name.slice(0, -SUFFIX.length));
      const path = join(this.#folder, entry.name);
      if (!isKept)
        await rm(path, { recursive: true, force: true }).catch((error) => this.#stays(path, error));
    }
  }

  #stays(path: string, error: unknown): void {
    this.#logger.warn(`What an earlier process left could not be removed (${path}): ${messageOf(error)}`);
  }

  async #writeInPlace(path: string, head: RequestHead, body: AsyncIterable<Buffer>): Promise<void> {
    const file = await this.#openNew(path);
    try {
      try {
        await writeRequest(file, head, body);
      } finally {
        await file.close();
      }
    } catch (error) {
      await removeFile(path).catch(() => {});
      throw error;
    }
  }

  async #openNew(path: string): Promise<FileHandle> {
    try {
      return await open(path, 'wx', 0o600);
    } catch (error) {
      const code = systemCodeOf(error);
      if (code === 'ENOENT') await makeFolder(this.#folder);
      else if (code === 'EEXIST') await removeFile(path);
      else throw error;
      return await open(path, 'wx', 0o600);
    }
  }

  async #writeDurably(path: string, head: RequestHead, body: AsyncIterable<Buffer>): Promise<void> {
    await makeFolder(this.#folder);
    const beside = join(this.#folder, `${randomUUID()}.new`);
    let written = beside;
    try {
      const file = await open(beside, 'wx', 0o600);
      try {
        await writeRequest(file, head, body);
        await file.sync();
      } finally {
        await file.close();
      }
      await rename(beside, path);
      written = path;
      await syncFolder(this.#folder);
    } catch (error) {
      // Where even this fails, the next start clears it away.
      await removeFile(written).catch(() => {});
      throw error;
    }
  }

  #pathOf(id: string): string | undefined {
    return isJobId(id) ? join(this.#folder, `${id}${SUFFIX}`) : undefined;
  }

  async #inOrder(id: string, step: () => Promise<void>): Promise<void> {
    const before = this.#steps.get(id) ?? Promise.resolve();
    const own = before.then(step, step);
    this.#steps.set(id, own);
    try {
      await own;
    } finally {
      if (this.#steps.get(id) === own) this.#steps.delete(id);
    }
  }
}
