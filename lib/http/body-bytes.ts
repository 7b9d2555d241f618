import { Spool } from './spool.js';

/** A disk that takes nothing for so long must not keep anybody waiting any longer. */
export const DISK_STALLED_AFTER_MS = 1_000;
/** So much of what has been read stays in memory; the rest goes to a file. */
const KEPT_MEMORY_BYTES = 256 * 1024;

/** So many are given at once. */
const AT_ONCE_BYTES = 64 * 1024;

/** Takes all the bytes it is given, and resolves to where they can be read from then on. */
export type MoveBytes = (chunks: AsyncIterable<Buffer>) => Promise<() => AsyncIterable<Buffer>>;

export interface BodyBytesOptions {
  /** The folder for what does not fit into memory. */
  readonly directory: string;
  /** So much of what nobody has read stays in memory. */
  readonly memoryBytes: number;
  /** What has been read is kept, so that `copy` can give the whole. */
  readonly keep: boolean;
}

/** The bytes of one body, in order: for one reader, and once more in whole where they are kept. */
export class BodyBytes {
  /** Where they are until somebody takes them. */
  readonly arriving: Spool;
  readonly #directory: string;
  /** What is still to be read, the oldest first. */
  readonly #unread: Spool[];
  #kept: Spool | undefined;
  /** Where the bytes come from since they have been moved. */
  #source: (() => AsyncIterable<Buffer>) | undefined;
  /** Bytes are taken one chunk after the other, whoever asks. */
  #taking: Promise<unknown> = Promise.resolve();
  #arrivedBytes = 0;
  #givenBytes = 0;
  /** Every byte is here, read or unread. */
  #hasAll = true;
  #isCopied = false;
  #closed = false;

  constructor({ directory, memoryBytes, keep }: BodyBytesOptions) {
    this.#directory = directory;
    this.arriving = new Spool({ directory, memoryBytes });
    this.#unread = [this.arriving];
    if (keep) this.#kept = this.#spoolForRead();
  }

  push(chunk: Buffer): void {
    this.#arrivedBytes += chunk.length;
    this.arriving.push(chunk);
  }

  /** True once the reader has been given every byte. */
  get givenWhole(): boolean {
    return this.#givenBytes === this.#arrivedBytes;
  }

  /** The bytes for their reader. They end early where some are gone: `givenWhole` tells. */
  async *chunks(): AsyncGenerator<Buffer, void> {
    for await (const chunk of this.#source ? this.#source() : this.#read()) {
      this.#givenBytes += chunk.length;
      yield chunk;
    }
  }

  /**
   * The bytes for their reader in one piece, in place of `chunks`, where they are few, in memory and all still here;
   * undefined where they are not.
   */
  takeAtOnce(): Buffer | undefined {
    const isAllHere = this.#unread.length === 1 && this.arriving.sizeBytes === this.#arrivedBytes;
    if (!isAllHere || this.#source || this.#isCopied || this.#arrivedBytes > AT_ONCE_BYTES) return undefined;
    const chunks = this.arriving.takeAll();
    if (!chunks) return undefined;
    const [first] = chunks;
    const bytes = first && chunks.length === 1 ? first : Buffer.concat(chunks);
    this.#givenBytes = bytes.length;
    if (this.#kept) this.#kept.push(bytes);
    else this.#hasAll = false;
    return bytes;
  }

  /**
   * All the bytes, once: those that have been read and those that have not, of which the reader gets no more then.
   * Undefined where they cannot be had any more; the generator throws where they turn out not to be whole.
   */
  copy(): AsyncGenerator<Buffer, void> | undefined {
    if (!this.#hasAll) return undefined;
    this.#hasAll = false;
    this.#isCopied = true;
    const kept = this.#kept;
    if (kept) this.#putFirst(kept);
    return this.#whole(() => this.#take());
  }

  /**
   * Moves the bytes, before anybody reads them, to where `write` puts them. Rejects with what `write` says, or with the
   * signal's reason; the bytes are all still here then.
   */
  async moveTo(write: MoveBytes, signal?: AbortSignal): Promise<void> {
    if (!this.#hasAll) throw new Error('Expected a body that nobody has begun to read');
    const moved = this.#spoolForRead();
    let isOver = false;
    let abort = () => {};
    const aborted = new Promise<never>((_resolve, reject) => {
      abort = () => reject(signal?.reason);
    });
    const take = async () => {
      if (isOver) throw new Error('The body has gone another way');
      const chunk = await this.#take((taken) => moved.push(taken));
      if (chunk && !(await caughtUp(moved))) throw new Error('The disk does not take the body');
      return chunk;
    };
    try {
      signal?.throwIfAborted();
      signal?.addEventListener('abort', abort);
      this.#source = await Promise.race([write(this.#whole(take)), aborted]);
      void moved.close();
      void this.#closeUnread();
      this.stopKeeping();
    } catch (error) {
      isOver = true;
      this.#putFirst(moved);
      throw error;
    } finally {
      signal?.removeEventListener('abort', abort);
    }
  }

  /** What has been read is let go, and whatever is read from now on. */
  stopKeeping(): void {
    this.#hasAll = false;
    void this.#kept?.close();
    this.#kept = undefined;
  }

  /** Lets go of everything. Never rejects. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#hasAll = false;
    this.#source = undefined;
    await Promise.all([this.#kept?.close(), this.#closeUnread()]);
  }

  async #closeUnread(): Promise<void> {
    await Promise.all(this.#unread.splice(0).map((spool) => spool.close()));
  }

  async *#read(): AsyncGenerator<Buffer, void> {
    while (!this.#isCopied) {
      const kept = this.#kept;
      if (!kept) this.#hasAll = false;
      const chunk = await this.#take((taken) => kept?.push(taken));
      if (!chunk) return;
      if (kept && !(await caughtUp(kept)) && !this.#isCopied) this.stopKeeping();
      yield chunk;
    }
  }

  /** @param take gives the next chunk, undefined after the last one. */
  async *#whole(take: () => Promise<Buffer | undefined>): AsyncGenerator<Buffer, void> {
    let sizeBytes = 0;
    for (let chunk = await take(); chunk; chunk = await take()) {
      sizeBytes += chunk.length;
      yield chunk;
    }
    if (sizeBytes !== this.#arrivedBytes)
      throw new Error(`Expected a body of ${this.#arrivedBytes} bytes, found ${sizeBytes} of them`);
  }

  /** @param onTaken gets the chunk before anybody can take the next one. */
  #take(onTaken: (chunk: Buffer) => void = () => {}): Promise<Buffer | undefined> {
    const taken = this.#taking.then(async () => {
      for (let spool = this.#unread[0]; spool; spool = this.#unread[0]) {
        const chunk = spool.nextInMemory() ?? (await spool.next());
        if (chunk) {
          onTaken(chunk);
          return chunk;
        }
        void spool.close();
        this.#unread.shift();
      }
      return undefined;
    });
    // Whoever takes hears of a failure.
    this.#taking = taken.catch(() => {});
    return taken;
  }

  /** What was taken from the front goes back to it, with the chunk that is being taken right now. */
  #putFirst(spool: Spool): void {
    this.#taking = this.#taking.then(() => {
      if (this.#closed) void spool.close();
      else this.#unread.unshift(spool);
    });
  }

  #spoolForRead(): Spool {
    return new Spool({ directory: this.#directory, memoryBytes: KEPT_MEMORY_BYTES });
  }
}

/** Resolves to whether the disk has taken what it was given, which it has a second for. */
function caughtUp(spool: Spool): Promise<boolean> | boolean {
  if (spool.accepting || spool.failure !== undefined) return spool.accepting;
  return new Promise((resolve) => {
    const settle = () => {
      clearTimeout(timer);
      resolve(spool.accepting);
    };
    const timer = setTimeout(settle, DISK_STALLED_AFTER_MS).unref();
    spool.onAccepting = settle;
    spool.onFailure = settle;
  });
}
