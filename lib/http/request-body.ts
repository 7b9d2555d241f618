import { IncomingMessage } from 'node:http';
import { messageOf, systemCodeOf } from '../errors.js';
import { applyEdits, grownBytes, type TextEdit } from '../json/text-edits.js';
import { bytesOfParsed } from './parsed-body.js';
import { Spool } from './spool.js';

/** A disk that takes nothing for so long must not keep the request from arriving: the rest of it stays in memory. */
const DISK_STALLED_AFTER_MS = 1_000;

export interface ReceiveOptions {
  /** The folder for bodies of more than `memoryBytes`. */
  readonly directory: string;
  /** 1 MiB by default. */
  readonly memoryBytes?: number;
  /** Sees the body's bytes as they come, in order. */
  readonly onChunk: (chunk: Buffer) => void;
}

/** The inner side of a request stream, as far as Node 20 to 24 have it alike. */
interface ReadableState {
  buffer: Iterable<Buffer | string | null | undefined>;
  bufferIndex?: number;
  length: number;
  ended: boolean;
  emittedReadable: boolean;
  readonly reading: boolean;
}

/**
 * The body of a request, taken in whole before anybody behind gets the request, and then given to whoever reads `req`
 * as if nothing had happened. The stream is never read from (`fetch(url, { body: req })` would refuse it afterwards):
 * what the HTTP parser pushes is kept back instead, and pushed again later.
 */
export class RequestBody {
  readonly #req: IncomingMessage & { body?: unknown };
  readonly #spool: Spool;
  #whole = false;
  #readingBegun = false;
  #diskFails = false;
  /** Bytes that nobody had read have been let go. */
  #incomplete = false;
  #unshield: () => void = () => {};
  #resolveRead: () => void = () => {};
  /** The host's body parser has used up the stream. What is forwarded then is what it made of it. */
  readonly parsed: boolean;
  /** Resolves true when the body has arrived, false when the client left before. */
  readonly received: Promise<boolean>;
  /** Resolves when whoever is behind has been given the last byte. Never, where nobody reads the body. */
  readonly readByHandler: Promise<void>;

  constructor(req: IncomingMessage & { body?: unknown }, options: ReceiveOptions) {
    this.#req = req;
    this.#spool = new Spool({
      directory: options.directory,
      memoryBytes: options.memoryBytes ?? 1024 * 1024,
    });
    this.parsed = req.readableEnded;
    this.#shieldFromLoss();
    this.readByHandler = new Promise((resolve) => {
      this.#resolveRead = resolve;
    });
    if (this.parsed) {
      const bytes = bytesOfParsed(req.body);
      this.#whole = true;
      options.onChunk(bytes);
      this.#resolveRead();
      this.received = Promise.resolve(true);
    } else {
      this.received = this.#takeIn(options.onChunk);
    }
  }

  /** True once somebody behind has begun to read, or where the host's parser has read it all before. */
  get readingBegun(): boolean {
    return this.parsed || this.#readingBegun;
  }

  /**
   * Lets the request go on. From now on `req` gives the body, with the edits made, to whoever reads it;
   * `Content-Length` is put right where they change it. A parsed body is left to the host, edits and all.
   *
   * @param onFailure called where the body cannot be given to its end; whoever reads it gets an error too.
   */
  handOn(edits: readonly TextEdit[] = [], onFailure: (error: Error) => void = () => {}): void {
    if (this.parsed) return;
    this.#correctContentLength(grownBytes(edits));
    const req = this.#req;
    const chunks = applyEdits(this.#keptChunks(), edits);
    let feeding = false;
    const feed = async () => {
      if (feeding) return;
      feeding = true;
      this.#readingBegun = true;
      try {
        const next = await chunks.next();
        if (req.destroyed) return;
        if (this.#incomplete) throw new Error('The answer was over before the request had been read');
        if (next.done) {
          // `feeding` stays true: there is nothing more to give.
          push.call(req, null);
          this.#resolveRead();
          await this.discard();
        } else {
          feeding = false;
          push.call(req, next.value);
        }
      } catch (cause) {
        const error = new Error(`The request could not be given on: ${messageOf(cause)}`, { cause });
        onFailure(error);
        req.destroy(error);
      }
    };
    const { push, _read } = IncomingMessage.prototype;
    req.push = push;
    req._read = (size) => {
      _read.call(req, size);
      void feed();
    };
    // Somebody in front has asked already, and Node does not ask twice.
    if (stateOf(req).reading) void feed();
  }

  /** Lets the request go on as it came, with nobody between it and the loss of its client. */
  release(): void {
    this.#unshield();
    this.handOn();
  }

  /** Lets go of memory and file. Whoever still reads gets an error. May be called twice. Never rejects. */
  async discard(): Promise<void> {
    if (this.#spool.sizeBytes > 0) this.#incomplete = true;
    await this.#spool.close();
  }

  #takeIn(onChunk: (chunk: Buffer) => void): Promise<boolean> {
    const req = this.#req;
    const take = (chunk: Buffer) => {
      this.#spool.push(chunk);
      onChunk(chunk);
    };
    const { chunks, ended } = takeBuffered(req);
    for (const chunk of chunks) take(chunk);
    if (ended) {
      this.#whole = true;
      return Promise.resolve(true);
    }
    return new Promise((resolve) => {
      let stalled: NodeJS.Timeout | undefined;
      const goOnReading = () => {
        clearTimeout(stalled);
        stalled = undefined;
        IncomingMessage.prototype._read.call(req, 0);
      };
      const goOnWithoutDisk = () => {
        this.#diskFails = true;
        goOnReading();
      };
      this.#spool.onAccepting = goOnReading;
      this.#spool.onFailure = goOnWithoutDisk;
      req.push = (chunk: Buffer | string | null, encoding?: BufferEncoding) => {
        if (chunk === null) {
          clearTimeout(stalled);
          this.#whole = true;
          resolve(true);
          return false;
        }
        take(typeof chunk === 'string' ? Buffer.from(chunk, encoding) : chunk);
        if (this.#spool.accepting || this.#diskFails) return true;
        stalled ??= setTimeout(goOnWithoutDisk, DISK_STALLED_AFTER_MS).unref();
        return false;
      };
      req.once('close', () => {
        if (this.#whole) return;
        clearTimeout(stalled);
        resolve(false);
        void this.discard();
      });
      // The parser stops when much has piled up, until somebody asks for more.
      if (chunks.length > 0) goOnReading();
    });
  }

  /**
   * A client that leaves makes Node destroy the request, together with the body that nobody has read yet, and tell
   * whoever listens for its errors. Exactly that is ignored once the body is whole.
   */
  #shieldFromLoss(): void {
    const req = this.#req;
    const destroy = req.destroy;
    const wasOwn = Object.hasOwn(req, 'destroy');
    this.#unshield = () => {
      if (wasOwn) req.destroy = destroy;
      else Reflect.deleteProperty(req, 'destroy');
    };
    req.destroy = (error) => {
      const leftByClient = systemCodeOf(error) === 'ECONNRESET' && this.#whole;
      return leftByClient ? req : destroy.call(req, error);
    };
  }

  async *#keptChunks(): AsyncGenerator<Buffer> {
    for (;;) {
      const chunk = this.#spool.nextInMemory() ?? (await this.#spool.next());
      if (!chunk) return;
      yield chunk;
    }
  }

  #correctContentLength(grown: number): void {
    const { headers, rawHeaders } = this.#req;
    if (grown === 0 || headers['content-length'] === undefined) return;
    const corrected = String(Number(headers['content-length']) + grown);
    headers['content-length'] = corrected;
    for (let i = 0; i < rawHeaders.length; i += 2) {
      if (rawHeaders[i]?.toLowerCase() === 'content-length') rawHeaders[i + 1] = corrected;
    }
  }
}

function stateOf(req: IncomingMessage): ReadableState {
  return (req as unknown as { _readableState: ReadableState })._readableState;
}

/** Takes out what piled up in the stream while a middleware in front was waiting for something. */
function takeBuffered(req: IncomingMessage): { chunks: Buffer[]; ended: boolean } {
  const state = stateOf(req);
  const { ended } = state;
  const chunks: Buffer[] = [];
  for (const chunk of state.buffer) {
    if (chunk)
      chunks.push(typeof chunk === 'string' ? Buffer.from(chunk, req.readableEncoding ?? 'utf8') : chunk);
  }
  const Buffered = state.buffer.constructor as new () => typeof state.buffer;
  state.buffer = new Buffered();
  if (state.bufferIndex !== undefined) state.bufferIndex = 0;
  state.length = 0;
  state.ended = false;
  state.emittedReadable = false;
  return { chunks, ended };
}
