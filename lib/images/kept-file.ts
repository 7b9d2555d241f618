import { constants } from 'node:fs';
import { type FileHandle, lstat, open } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { JobTrackerError } from '../errors.js';
import type { StoredFile } from './image-store.js';
import { meansMissing } from './stored-path.js';

const PIECE_BYTES = 256 * 1024;

/** Zero on systems that lack it. */
const NO_FOLLOW = constants.O_NOFOLLOW ?? 0;

/** A regular file, open for reading until `close`, whatever becomes of its name in the meantime. */
export class KeptFile implements StoredFile {
  readonly sizeBytes: number;
  readonly #handle: FileHandle;
  #readers = 0;
  #closing: Promise<void> | undefined;
  #onIdle: () => void = () => {};

  private constructor(handle: FileHandle, sizeBytes: number) {
    this.#handle = handle;
    this.sizeBytes = sizeBytes;
  }

  /** Undefined where there is no file, or something else than a regular one, a symbolic link for instance. */
  static async open(path: string): Promise<KeptFile | undefined> {
    const handle = await openRegularFile(path);
    if (!handle) return undefined;
    try {
      const { size } = await handle.stat();
      return new KeptFile(handle, size);
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  /** The stream has to be read to its end or destroyed: `close` waits for it. */
  read(range: { start: number; end: number } = { start: 0, end: this.sizeBytes - 1 }): Readable {
    const release = this.#use();
    const pieces = this.#pieces(range.start, Math.min(range.end + 1, this.sizeBytes));
    const stream = Readable.from(pieces, { objectMode: false, highWaterMark: PIECE_BYTES });
    stream.once('close', release);
    return stream;
  }

  async slice(start: number, length: number): Promise<Buffer> {
    const release = this.#use();
    try {
      const wanted = Math.max(0, Math.min(length, this.sizeBytes - start));
      const buffer = Buffer.allocUnsafe(wanted);
      let filled = 0;
      while (filled < wanted) {
        const { bytesRead } = await this.#handle.read(buffer, filled, wanted - filled, start + filled);
        if (bytesRead === 0) break;
        filled += bytesRead;
      }
      return buffer.subarray(0, filled);
    } finally {
      release();
    }
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async *#pieces(start: number, end: number): AsyncGenerator<Buffer, void> {
    for (let at = start; at < end; ) {
      const buffer = Buffer.allocUnsafe(Math.min(PIECE_BYTES, end - at));
      const { bytesRead } = await this.#handle.read(buffer, 0, buffer.length, at);
      if (bytesRead === 0) throw new Error(`Expected ${this.sizeBytes} bytes in a kept file, found ${at}`);
      yield buffer.subarray(0, bytesRead);
      at += bytesRead;
    }
  }

  #use(): () => void {
    if (this.#closing)
      throw new JobTrackerError('CLOSED', 'Expected an open file, got one that has been closed');
    this.#readers += 1;
    return () => {
      this.#readers -= 1;
      if (this.#readers === 0) this.#onIdle();
    };
  }

  async #close(): Promise<void> {
    if (this.#readers > 0) {
      await new Promise<void>((resolve) => {
        this.#onIdle = resolve;
      });
    }
    await this.#handle.close();
  }
}

async function openRegularFile(path: string): Promise<FileHandle | undefined> {
  try {
    // Looked at first, because to open a pipe is to wait for whoever writes to it.
    if (!(await lstat(path)).isFile()) return undefined;
    return await open(path, constants.O_RDONLY | NO_FOLLOW);
  } catch (error) {
    if (meansMissing(error)) return undefined;
    throw error;
  }
}
