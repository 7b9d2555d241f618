import { randomUUID } from 'node:crypto';
import { type FileHandle, mkdir, open, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { ByteQueue } from './byte-queue.js';

const READ_BYTES = 256 * 1024;
/** So many buffers go to the disk in one call. */
const MOST_BUFFERS = 1024;

const doNothing = () => {};

export interface SpoolOptions {
  /** The folder for the file; made when first needed. */
  readonly directory: string;
  /** So many bytes stay in memory before the file is used. 4 MiB by default. */
  readonly memoryBytes?: number;
}

/**
 * A queue of bytes with one writer and one reader that may be far apart: some MB in memory, the rest in a private
 * file. `push` never blocks. When the disk refuses, the bytes stay in memory and `accepting` turns false, so that the
 * writer can wait for the reader; nothing is ever lost.
 */
export class Spool {
  readonly #directory: string;
  readonly #memoryBytes: number;
  /** Oldest bytes first: `#front`, then the file from `#readAt` to `#writeAt`, then `#back`. */
  readonly #front = new ByteQueue();
  readonly #back = new ByteQueue();
  #file: FileHandle | undefined;
  #readAt = 0;
  #writeAt = 0;
  #writing: Promise<void> | undefined;
  /** Readers that wait for the batch that is being written. */
  #batchWaiters: (() => void)[] | undefined;
  #failure: unknown;
  #closed = false;
  #accepting = true;
  /** Called when `accepting` turns true again. */
  onAccepting: () => void = doNothing;
  /** Called once, when the disk refuses. */
  onFailure: () => void = doNothing;

  constructor(options: SpoolOptions) {
    this.#directory = options.directory;
    this.#memoryBytes = options.memoryBytes ?? 4 * 1024 * 1024;
  }

  /** Bytes pushed and not yet taken. */
  get sizeBytes(): number {
    return this.#front.sizeBytes + (this.#writeAt - this.#readAt) + this.#back.sizeBytes;
  }

  /** What the disk said when it refused, or undefined. From then on everything stays in memory. */
  get failure(): unknown {
    return this.#failure;
  }

  /** False while too many bytes are in memory because the disk lags or refuses. */
  get accepting(): boolean {
    return this.#accepting;
  }

  push(chunk: Buffer): void {
    if (this.#closed || chunk.length === 0) return;
    const fileEmpty = this.#writeAt === this.#readAt && this.#back.sizeBytes === 0;
    if (fileEmpty && this.#front.sizeBytes + chunk.length <= this.#memoryBytes) {
      this.#front.push(chunk);
      return;
    }
    this.#back.push(chunk);
    if (this.#failure === undefined) this.#writing ??= this.#writeBack();
    this.#updateAccepting();
  }

  /** The oldest bytes where they are in memory; undefined where there are none, or where `next` has to wait for them. */
  nextInMemory(): Buffer | undefined {
    return this.#front.shift();
  }

  /** All the bytes, where all are in memory; else undefined, and they stay. */
  takeAll(): Buffer[] | undefined {
    if (this.#front.sizeBytes !== this.sizeBytes) return undefined;
    const all = this.#front.peek(Number.POSITIVE_INFINITY);
    this.#front.clear();
    return all;
  }

  /** The oldest bytes, or undefined where there are none now. Rejects when the file cannot be read back. */
  async next(): Promise<Buffer | undefined> {
    const inMemory = this.nextInMemory();
    if (inMemory) return inMemory;
    if (this.#file && this.#readAt < this.#writeAt) return await this.#readFile(this.#file);
    if (this.#writing) {
      await new Promise<void>((resolve) => {
        this.#batchWaiters ??= [];
        this.#batchWaiters.push(resolve);
      });
      return await this.next();
    }
    const unwritten = this.#back.shift();
    this.#updateAccepting();
    return unwritten;
  }

  /**
   * Lets go of memory at once, and of the file as soon as the disk is done with it; what was not taken is gone. Never
   * rejects. May be called twice.
   */
  async close(): Promise<void> {
    this.#closed = true;
    this.#front.clear();
    this.#back.clear();
    this.#writeAt = this.#readAt;
    this.#updateAccepting();
    await this.#writing;
    const file = this.#file;
    this.#file = undefined;
    // Its number is free again even where closing fails, and nobody wants its bytes.
    await file?.close().catch(() => {});
  }

  async #readFile(file: FileHandle): Promise<Buffer> {
    const wanted = Math.min(READ_BYTES, this.#writeAt - this.#readAt);
    const { bytesRead, buffer } = await file.read(Buffer.allocUnsafe(wanted), 0, wanted, this.#readAt);
    if (bytesRead === 0) throw new Error(`Expected ${wanted} more bytes in the spool file, got its end`);
    this.#readAt += bytesRead;
    return buffer.subarray(0, bytesRead);
  }

  async #writeBack(): Promise<void> {
    try {
      this.#file ??= await this.#openFile();
      if (this.#readAt === this.#writeAt) {
        // All that was written has been taken: the disk gets its space back.
        this.#readAt = 0;
        this.#writeAt = 0;
        await this.#file.truncate(0);
      }
      while (this.#back.sizeBytes > 0) {
        // A full disk may take only a part of what it is given.
        const { bytesWritten } = await this.#file.writev(this.#back.peek(MOST_BUFFERS), this.#writeAt);
        if (this.#closed) break;
        this.#writeAt += bytesWritten;
        this.#back.drop(bytesWritten);
        this.#updateAccepting();
        this.#wakeReader();
      }
    } catch (error) {
      this.#failure = error;
      this.onFailure();
    } finally {
      this.#writing = undefined;
      this.#wakeReader();
    }
  }

  #wakeReader(): void {
    const waiters = this.#batchWaiters;
    this.#batchWaiters = undefined;
    for (const resolve of waiters ?? []) resolve();
  }

  async #openFile(): Promise<FileHandle> {
    await mkdir(this.#directory, { recursive: true });
    const path = join(this.#directory, `${randomUUID()}.spool`);
    const file = await open(path, 'wx+', 0o600);
    // Without a name the file is gone with the process, however that ends. Windows keeps the name until the file is
    // closed or the folder is emptied at the next start.
    await unlink(path).catch(() => {});
    return file;
  }

  #updateAccepting(): void {
    const accepting = this.#back.sizeBytes <= this.#memoryBytes;
    const regained = accepting && !this.#accepting;
    this.#accepting = accepting;
    if (regained) this.onAccepting();
  }
}
