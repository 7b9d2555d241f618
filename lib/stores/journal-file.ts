import fs, { type FileHandle } from 'node:fs/promises';
import { writeAll } from '../disk/durable-fs.js';

/** A journal that is open for appending. One append at a time. */
export class JournalFile {
  readonly #handle: FileHandle;
  #sizeBytes: number;

  private constructor(handle: FileHandle, sizeBytes: number) {
    this.#handle = handle;
    this.#sizeBytes = sizeBytes;
  }

  /** Begins an empty journal, in place of a file that may be there. Its name is not durable before the folder is synced. */
  static async create(path: string): Promise<JournalFile> {
    return new JournalFile(await fs.open(path, 'w'), 0);
  }

  /** Goes on with a journal behind its first `sizeBytes`; makes the file where there is none. */
  static async resume(path: string, sizeBytes: number): Promise<JournalFile> {
    const handle = await fs.open(path, 'a');
    try {
      if ((await handle.stat()).size > sizeBytes) await handle.truncate(sizeBytes);
      // A process that was killed may have left lines that were read just now, but have not reached the disk yet.
      await handle.sync();
    } catch (error) {
      await handle.close();
      throw error;
    }
    return new JournalFile(handle, sizeBytes);
  }

  /** The size of what has been synced. */
  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /** Resolves once the lines are durable. After a rejection the file must be abandoned. */
  async append(lines: string): Promise<void> {
    const bytes = Buffer.from(lines);
    await writeAll(this.#handle, bytes);
    await this.#handle.datasync();
    this.#sizeBytes += bytes.length;
  }

  /** Closes the file after a failed append and takes back what that may have left, as far as the disk still lets us. */
  async abandon(): Promise<void> {
    try {
      await this.#handle.truncate(this.#sizeBytes);
    } finally {
      await this.close();
    }
  }

  async close(): Promise<void> {
    await this.#handle.close();
  }
}
