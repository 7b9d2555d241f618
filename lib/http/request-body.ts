import { IncomingMessage } from 'node:http';
import { messageOf, systemCodeOf } from '../errors.js';
import { applyEdits, editedText, grownBytes, type TextEdit } from '../json/text-edits.js';
import { BodyBytes, DISK_STALLED_AFTER_MS, type MoveBytes } from './body-bytes.js';
import { bytesOfParsed } from './parsed-body.js';

export interface ReceiveOptions {
  /** The folder for bodies of more than `memoryBytes`. */
  readonly directory: string;
  /** 1 MiB by default. */
  readonly memoryBytes?: number;
  /** Sees the body's bytes as they come, in order. */
  readonly onChunk: (chunk: Buffer) => void;
  /**
   * Keeps what is read of the body, so that `keptCopy` can give the whole: up to 256 KiB in memory, the rest in a private
   * file. False by default.
   */
  readonly keep?: boolean;
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
  readonly #bytes: BodyBytes;
  /** What is given on, from the moment somebody may read it. */
  #given: AsyncGenerator<Buffer, void> | undefined;
  #whole = false;
  #readingBegun = false;
  #diskFails = false;
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
    const { directory, memoryBytes = 1024 * 1024, keep = false } = options;
    this.#bytes = new BodyBytes({ directory, memoryBytes, keep });
    this.parsed = req.readableEnded;
    this.#shieldFromLoss();
    this.readByHandler = new Promise((resolve) => {
      this.#resolveRead = resolve;
    });
    if (this.parsed) {
      const bytes = bytesOfParsed(req.body);
      this.#whole = true;
      // The host has it in memory anyway, and forwards that.
      if (keep) this.#bytes.push(bytes);
      else this.#bytes.stopKeeping();
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
    let chunks: AsyncGenerator<Buffer, void> | undefined;
    let feeding = false;
    const feed = async () => {
      if (feeding) return;
      feeding = true;
      this.#readingBegun = true;
      const atOnce = chunks ? undefined : this.#bytes.takeAtOnce();
      if (atOnce) {
        if (atOnce.length > 0) req.push(editedText(atOnce, edits));
        req.push(null);
        this.#resolveRead();
        return;
      }
      chunks ??= applyEdits(this.#bytes.chunks(), edits);
      this.#given = chunks;
      try {
        const next = await chunks.next();
        if (req.destroyed) return;
        if (next.done) {
          if (!this.#bytes.givenWhole) throw new Error('The request was let go before it had been read');
          // `feeding` stays true: there is nothing more to give.
          req.push(null);
          this.#resolveRead();
        } else {
          feeding = false;
          req.push(next.value);
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
    this.#bytes.stopKeeping();
    this.handOn();
  }

  /**
   * The whole body as it came, without the edits, once: with `keep` at any time until `discard`, else as long as nobody
   * has begun to read it. Whoever still reads it gets an error. Undefined where it is not whole any more; the generator
   * throws where it cannot be read back to its end.
   */
  keptCopy(): AsyncGenerator<Buffer, void> | undefined {
    return this.#whole ? this.#bytes.copy() : undefined;
  }

  /**
   * Moves the body, once it has been received and before the request is handed on, to where `write` puts it; what is read
   * later comes from what `write` resolves to, and is asked for then. There is no `keptCopy` of it any more. A parsed
   * body can be moved only with `keep`, and stays where the host has it, too.
   *
   * Rejects where `write` does, or with the signal's reason. The body is still whole then, and goes on as if nothing had
   * been tried; a `write` that is still under way gets an error when it asks for more.
   */
  async moveTo(write: MoveBytes, signal?: AbortSignal): Promise<void> {
    if (!this.#whole) throw new Error('Expected a body that has arrived, got one that is still to come');
    await this.#bytes.moveTo(write, signal);
  }

  /** Lets go of memory and files. Whoever still reads gets an error. May be called twice. Never rejects. */
  async discard(): Promise<void> {
    // A generator that is about to give a chunk ends behind that.
    this.#given?.return().catch(() => {});
    await this.#bytes.close();
  }

  #takeIn(onChunk: (chunk: Buffer) => void): Promise<boolean> {
    const req = this.#req;
    const take = (chunk: Buffer) => {
      this.#bytes.push(chunk);
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
        req._read(0);
      };
      const goOnWithoutDisk = () => {
        this.#diskFails = true;
        goOnReading();
      };
      // Another tracker in front gives the body to whoever asks for it, where the parser gives it by itself.
      const isGivenWhenAsked = Object.hasOwn(req, '_read');
      const { arriving } = this.#bytes;
      arriving.onAccepting = goOnReading;
      arriving.onFailure = goOnWithoutDisk;
      req.push = (chunk: Buffer | string | null, encoding?: BufferEncoding) => {
        if (chunk === null) {
          clearTimeout(stalled);
          this.#whole = true;
          resolve(true);
          return false;
        }
        take(typeof chunk === 'string' ? Buffer.from(chunk, encoding) : chunk);
        if (arriving.accepting || this.#diskFails) {
          if (isGivenWhenAsked) queueMicrotask(goOnReading);
          return true;
        }
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
      if (chunks.length > 0 || isGivenWhenAsked) goOnReading();
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
