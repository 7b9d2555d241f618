import { removeFile, syncFolder } from '../disk/durable-fs.js';
import { messageOf } from '../errors.js';
import type { Logger } from '../logger.js';
import { JournalFile } from './journal-file.js';
import { encodeEntry, idOf, type JournalEntry } from './journal-line.js';
import type { JobMap } from './kept-job.js';
import type { StoreFiles } from './store-files.js';

/**
 * Appends changes to the present journal. After a failure that journal is never written to again: what is not known to be
 * on the disk goes into a fresh one. One call at a time.
 */
export class JournalWriter {
  readonly #files: StoreFiles;
  readonly #logger: Logger;
  #file: JournalFile | undefined;
  /** Ids whose state in memory differs from the one on the disk, or may do so. */
  readonly #undurable = new Set<string>();
  #pendingBytes = 0;
  #failure: unknown;

  constructor(files: StoreFiles, logger: Logger) {
    this.#files = files;
    this.#logger = logger;
  }

  /** Why changes cannot be written; undefined while they can. */
  get failure(): unknown {
    return this.#failure;
  }

  get canAppend(): boolean {
    return this.#file !== undefined;
  }

  /** True if something in memory is not on the disk. */
  get isBehind(): boolean {
    return this.#undurable.size > 0;
  }

  /** The size of all the journals whose changes jobs.json does not hold. */
  get sizeBytes(): number {
    return this.#pendingBytes + (this.#file?.sizeBytes ?? 0);
  }

  /** Goes on with the journal of an earlier process. */
  async resume(journalBytes: number, pendingBytes: number): Promise<void> {
    this.#pendingBytes = pendingBytes;
    try {
      this.#file = await JournalFile.resume(this.#files.journal, journalBytes);
      await syncFolder(this.#files.folder);
    } catch (error) {
      this.#failure = error;
      throw error;
    }
  }

  /**
   * Resolves to false once the changes are durable, or to true where a fresh journal had to be begun for that. Rejects if
   * that failed as well; the changes are then written with the next ones.
   */
  async append(entries: readonly JournalEntry[], jobs: JobMap): Promise<boolean> {
    if (this.#file !== undefined) {
      try {
        await this.#file.append(encode(entries, jobs));
        return false;
      } catch (error) {
        await this.#abandon(this.#file, error);
      }
    }
    try {
      await this.#startOver(entries, jobs);
    } catch (error) {
      this.#failure = error;
      for (const entry of entries) this.#undurable.add(idOf(entry));
      throw error;
    }
    return true;
  }

  /** Closes the present journal and begins the next one. Resolves to the number of the last closed one. */
  async rotate(): Promise<number> {
    const file = this.#file;
    if (file !== undefined && file.sizeBytes > 0) {
      this.#giveUp(file);
      try {
        await file.close();
        await this.#files.rotate();
        this.#file = await this.#create('');
      } catch (error) {
        this.#failure = error;
        throw error;
      }
    }
    return this.#files.newestPending;
  }

  /** Tells that jobs.json holds the changes of so many bytes of closed journals. */
  forget(pendingBytes: number): void {
    this.#pendingBytes -= pendingBytes;
  }

  get pendingBytes(): number {
    return this.#pendingBytes;
  }

  async close(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    await file?.close();
  }

  #giveUp(file: JournalFile): void {
    this.#file = undefined;
    this.#pendingBytes += file.sizeBytes;
  }

  async #abandon(file: JournalFile, cause: unknown): Promise<void> {
    this.#giveUp(file);
    this.#failure = cause;
    this.#logger.warn(`Writing ${this.#files.journal} failed, so it is given up: ${messageOf(cause)}`);
    try {
      await file.abandon();
    } catch (error) {
      // Nothing is lost: whatever the file holds beyond what was synced is overruled by the next lines that get written.
      this.#logger.info(`${this.#files.journal} could not be cut back: ${messageOf(error)}`);
    }
  }

  async #startOver(entries: readonly JournalEntry[], jobs: JobMap): Promise<void> {
    const undone: JournalEntry[] = [...this.#undurable].map((id) => {
      const job = jobs.get(id);
      return job === undefined ? { del: id } : { put: job };
    });
    const lines = encode([...undone, ...entries], jobs);
    await this.#files.rotate();
    this.#file = await this.#create(lines);
    this.#undurable.clear();
    this.#failure = undefined;
  }

  async #create(lines: string): Promise<JournalFile> {
    const file = await JournalFile.create(this.#files.journal);
    try {
      if (lines !== '') await file.append(lines);
      await syncFolder(this.#files.folder);
      return file;
    } catch (error) {
      await file.close();
      await removeFile(this.#files.journal);
      throw error;
    }
  }
}

/** The lines for entries. A job that is gone by now, because its insert was taken back, is never written as present. */
function encode(entries: readonly JournalEntry[], jobs: JobMap): string {
  return entries
    .map((entry) => encodeEntry('put' in entry && !jobs.has(entry.put.id) ? { del: entry.put.id } : entry))
    .join('');
}
