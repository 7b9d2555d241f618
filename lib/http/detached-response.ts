import { type IncomingMessage, OutgoingMessage, ServerResponse } from 'node:http';
import { Socket } from 'node:net';
import type { Readable } from 'node:stream';
import { systemCodeOf } from '../errors.js';
import { onConnectionLoss } from './connection-loss.js';
import { createNullSocket } from './null-socket.js';

/** Status and headers as the handler behind meant them. */
export interface AnswerHead {
  readonly status: number;
  readonly headers: Readonly<Record<string, number | string | readonly string[] | undefined>>;
}

/** What hears the answer of the handler behind. Each method is called in the answer's order. */
export interface AnswerListener {
  /** Called once, before the head goes anywhere: headers can still be changed through the detached response. */
  head(head: AnswerHead): void;
  /** Returns false where the handler shall wait for `resume()`. */
  data(chunk: Buffer): boolean;
  /** The handler has ended its answer. The client's answer ends with `finish()`. */
  end(): void;
  /** The handler gave up: it destroyed the response, or what it piped into it broke off. */
  cut(reason: Error): void;
}

type Callback = (error?: Error | null) => void;
type Writing = [chunk?: unknown, encoding?: BufferEncoding | Callback, callback?: Callback];
// biome-ignore lint/suspicious/noExplicitAny: the signatures of what is patched differ, and are passed on as they came.
type AnyFunction = (...args: any[]) => any;

const HEADER_METHODS = [
  'setHeader',
  'setHeaders',
  'appendHeader',
  'removeHeader',
  'getHeader',
  'getHeaders',
  'getHeaderNames',
  'getRawHeaderNames',
  'hasHeader',
] as const;

/** The parts of `ServerResponse` that its types leave out; the same in Node 20 to 24. */
type ResponseInternals = Omit<ServerResponse, 'detachSocket' | 'assignSocket'> & {
  destroyed: boolean;
  _closed?: boolean;
  assignSocket(socket: unknown): void;
  detachSocket(socket: unknown): void;
};

/**
 * A response that is taken apart: whatever handler is behind writes to `res` as ever, and we decide what of it goes to
 * the client and when. The handler does not see the client leave: then `res` is put on a socket that leads nowhere,
 * and everything in it goes on.
 *
 * `res` itself is patched, because a middleware cannot hand another object to what is mounted behind it. A call to a
 * patched method can come from the handler, or from Node and the middlewares in front of us while we write: `#inside`
 * tells them apart.
 *
 * HTTP/1.1 only: it rests on `assignSocket` and `detachSocket`.
 */
export class DetachedResponse {
  readonly #req: IncomingMessage;
  readonly #res: ServerResponse;
  readonly #listener: AnswerListener;
  readonly #socket: Socket;
  /** What was on `res` when we came: Node's own methods, or those of the middlewares in front. */
  readonly #front: Record<string, AnyFunction> = {};
  readonly #acceptEncoding: string | undefined;
  readonly #forgetLoss: () => void;
  readonly #lossListeners: (() => void)[] = [];
  #inside = 0;
  #waking = false;
  #head: AnswerHead | undefined;
  /** After an early head: a response without a socket that takes the handler's headers, and judges them natively. */
  #shadow: ServerResponse | undefined;
  #ended = false;
  #needDrain = false;
  #lost = false;
  #resetByUs = false;
  #cutSeen = false;
  #finishCalled = false;
  #released = false;

  constructor(req: IncomingMessage, res: ServerResponse, listener: AnswerListener) {
    this.#req = req;
    this.#res = res;
    this.#listener = listener;
    this.#socket = req.socket;
    this.#acceptEncoding = req.headers['accept-encoding'];
    this.#patch();
    this.#forgetLoss = onConnectionLoss(this.#socket, () => this.#onLoss());
    this.#front.on?.('close', this.#forgetLoss);
  }

  /** The client is gone. */
  get lost(): boolean {
    return this.#lost;
  }

  /** A head has left ahead of the handler's. */
  get early(): boolean {
    return this.#shadow !== undefined;
  }

  /** The handler's head, once it has one. */
  get head(): AnswerHead | undefined {
    return this.#head;
  }

  /** Calls `listener` once when the client is gone; at once where it is gone already. */
  onLost(listener: () => void): void {
    if (this.#lost) listener();
    else this.#lossListeners.push(listener);
  }

  /** The head towards the client, as long as it has not left. */
  setHeader(name: string, value: string): void {
    this.#outward(() => this.#front.setHeader?.(name, value));
  }

  getHeader(name: string): string | undefined {
    const value = this.#outward(() => this.#front.getHeader?.(name)) as number | string | string[] | undefined;
    return Array.isArray(value) ? value.join(', ') : value?.toString();
  }

  removeHeader(name: string): void {
    this.#outward(() => this.#front.removeHeader?.(name));
  }

  /** Sends status 200 with the headers that are set, ahead of the handler. Its own head is kept apart from now on. */
  sendEarlyHead(): void {
    if (this.#head || this.#shadow || this.#lost) return;
    const res = this.#res;
    const shadow = new ServerResponse(this.#req);
    for (const [name, value] of Object.entries(res.getHeaders())) {
      if (value !== undefined) shadow.setHeader(name, value);
    }
    const { statusCode, statusMessage } = res;
    this.#outward(() => {
      this.#front.writeHead?.(200);
      this.#front.flushHeaders?.();
    });
    res.statusCode = statusCode;
    res.statusMessage = statusMessage;
    this.#shadow = shadow;
    for (const method of HEADER_METHODS) this.#patchHeaderMethod(method, shadow);
  }

  /** Hands bytes to the connection. Returns false where it wants to be asked again at the next drain. */
  write(chunk: Buffer | string): boolean {
    if (this.#lost) return true;
    return this.#outward(() => this.#front.write?.(chunk)) as boolean;
  }

  /** Calls `listener` whenever the connection has drained. */
  onDrain(listener: () => void): void {
    // `on` as it was when we came: compression() in front sends this event to its own stream, and one behind would too.
    this.#front.on?.('drain', () => {
      if (!this.#waking) listener();
    });
  }

  /** Lets a handler that waits go on writing. */
  resume(): void {
    if (!this.#needDrain) return;
    this.#needDrain = false;
    this.#waking = true;
    try {
      this.#res.emit('drain');
    } finally {
      this.#waking = false;
    }
  }

  /** Ends the answer towards the client; `res` then emits 'finish' and 'close' as ever. */
  finish(): void {
    this.#finishCalled = true;
    this.#outward(() => this.#front.end?.());
  }

  /**
   * Breaks the connection so that every client sees an error: by RST, because behind a proxy that speaks HTTP/1.0 a FIN
   * is the regular end of an answer. The handler does not notice.
   */
  resetClient(): void {
    if (this.#lost) return;
    this.#resetByUs = true;
    try {
      this.#socket.resetAndDestroy();
    } catch {
      // A TLS connection cannot be reset, but it ends without a closing alert, which clients take for an error as well.
      this.#socket.destroy();
    }
  }

  /** Ends `res` as Node ends one whose client is gone: it emits 'close' and no 'finish'. */
  abandon(): void {
    this.resetClient();
    this.onLost(() => this.#outward(() => this.#front.destroy?.()));
  }

  /** Takes everything back: the handler has `res` for itself, and the client is its own affair. */
  release(): void {
    this.#forgetLoss();
    const own = this.#res as unknown as Record<string, unknown>;
    for (const name of ['headersSent', 'writableEnded', 'writableNeedDrain']) delete own[name];
    for (const [name, original] of Object.entries(this.#front)) own[name] = original;
    this.#restoreEncoding();
    this.#released = true;
  }

  /** What is behind asks the backend for a plain answer; compression() in front still sees what the client said. */
  askForPlainAnswer(): void {
    this.#req.headers['accept-encoding'] = 'identity';
  }

  #restoreEncoding(): void {
    if (this.#acceptEncoding === undefined) delete this.#req.headers['accept-encoding'];
    else this.#req.headers['accept-encoding'] = this.#acceptEncoding;
  }

  /** Runs what belongs to the client's side. */
  #outward<T>(call: () => T): T {
    const { headers } = this.#req;
    const behind = headers['accept-encoding'];
    this.#inside += 1;
    this.#restoreEncoding();
    try {
      return call();
    } finally {
      this.#inside -= 1;
      if (behind === undefined) delete headers['accept-encoding'];
      else headers['accept-encoding'] = behind;
    }
  }

  #patch(): void {
    const res = this.#res as unknown as Record<string, AnyFunction>;
    const keep = (name: string) => {
      const original = res[name] as AnyFunction;
      this.#front[name] = (...args) => original.apply(this.#res, args);
      return this.#front[name] as AnyFunction;
    };
    for (const name of ['on', 'setHeader', 'getHeader', 'removeHeader']) keep(name);
    const own = (name: string, behave: AnyFunction) => {
      const front = keep(name);
      res[name] = (...args) => (this.#inside > 0 ? front(...args) : behave(...args));
    };
    own('writeHead', (...args) => this.#writeHead(args));
    own('write', (...args) => this.#write(args as Writing));
    own('end', (...args) => this.#end(args as Writing));
    own('flushHeaders', () => {
      if (!this.#head) this.#res.writeHead(this.#res.statusCode);
      if (!this.early) this.#outward(() => this.#front.flushHeaders?.());
    });
    own('destroy', (error) => this.#destroy(error));

    const { prototype } = OutgoingMessage;
    const native = (name: string) => Object.getOwnPropertyDescriptor(prototype, name)?.get?.call(this.#res);
    const ownGetter = (name: string, get: () => unknown) =>
      Object.defineProperty(this.#res, name, {
        configurable: true,
        get: () => (this.#inside > 0 ? native(name) : get()),
      });
    ownGetter('headersSent', () => this.#head !== undefined);
    ownGetter('writableEnded', () => this.#ended);
    // The client's pace is not the handler's affair; and pipe() would wait for ever on a response that was lost full.
    ownGetter('writableNeedDrain', () => this.#needDrain);

    // pipe() does not tell its destination when the source breaks off; proxies then leave the client hanging.
    this.#front.on?.('pipe', (source: Readable) => {
      source.once('close', () => {
        if (!source.readableEnded) this.#cut(new Error('The backend broke off its answer'));
      });
    });
  }

  #patchHeaderMethod(method: (typeof HEADER_METHODS)[number], shadow: ServerResponse): void {
    const res = this.#res as unknown as Record<string, AnyFunction>;
    const original = res[method];
    // `setHeaders` and `getRawHeaderNames` are not in every version.
    if (!original) return;
    res[method] = (...args) => {
      if (this.#inside > 0) return original.apply(this.#res, args);
      const result = (shadow as unknown as Record<string, AnyFunction>)[method]?.(...args);
      return result === shadow ? this.#res : result;
    };
  }

  /** Works out the handler's head, tells it, and lets it go to the client unless one has left already. */
  #writeHead(args: unknown[]): ServerResponse {
    const res = this.#res;
    if (this.#cutSeen) return res;
    const [status, reason] = args;
    if (this.#shadow) {
      (this.#shadow.writeHead as AnyFunction)(...args);
      this.#tellHead(this.#shadow.statusCode, this.#shadow);
      return res;
    }
    const isStatus = Number.isInteger(status) && (status as number) >= 100 && (status as number) <= 999;
    if (this.#head || !isStatus) {
      // Node's own complaint about a second head, or about a status that is none.
      this.#outward(() => this.#front.writeHead?.(...args));
      return res;
    }
    const headers = typeof reason === 'string' ? args[2] : args[1];
    for (const [name, value] of headerPairs(headers)) this.#outward(() => this.#front.setHeader?.(name, value));
    // The head must be read before it goes through the middlewares in front: compression() would change it.
    this.#tellHead(status as number, res);
    this.#outward(() => this.#front.writeHead?.(status, ...(typeof reason === 'string' ? [reason] : [])));
    return res;
  }

  #tellHead(status: number, carrier: ServerResponse): void {
    const headers = this.#outward(() => ({ ...carrier.getHeaders() }));
    this.#head = { status, headers };
    this.#listener.head(this.#head);
  }

  #write([chunk, encodingOrCallback, maybeCallback]: Writing): boolean {
    const encoding = typeof encodingOrCallback === 'function' ? undefined : encodingOrCallback;
    const callback = typeof encodingOrCallback === 'function' ? encodingOrCallback : maybeCallback;
    const bytes = toBytes(chunk, encoding);
    // Node's own complaint about a chunk that is none.
    if (!bytes) return this.#outward(() => this.#front.write?.(chunk)) as boolean;
    if (this.#ended) {
      const error = Object.assign(new Error('write after end'), { code: 'ERR_STREAM_WRITE_AFTER_END' });
      if (callback) process.nextTick(callback, error);
      return false;
    }
    if (!this.#head && !this.#cutSeen) {
      // Through the outermost writeHead, so that the middlewares behind us see it before bytes flow.
      this.#res.writeHead(this.#res.statusCode);
    }
    if (bytes.length > 0 && !this.#cutSeen && !this.#listener.data(bytes)) this.#needDrain = true;
    if (callback) process.nextTick(callback, null);
    return !this.#needDrain;
  }

  #end(args: Writing): ServerResponse {
    const callback = args.find((arg): arg is Callback => typeof arg === 'function');
    const [chunk, encoding] = args.filter((arg) => typeof arg !== 'function') as [unknown?, BufferEncoding?];
    const res = this.#res;
    if (this.#ended) {
      const error = Object.assign(new Error('Cannot call end after a stream was finished'), {
        code: 'ERR_STREAM_ALREADY_FINISHED',
      });
      if (callback) process.nextTick(callback, error);
      return res;
    }
    const bytes = chunk === undefined || chunk === null ? Buffer.alloc(0) : toBytes(chunk, encoding);
    if (!bytes) return this.#outward(() => this.#front.end?.(chunk)) as ServerResponse;
    if (!this.#head && !this.#cutSeen) {
      // An answer that is written in one go has a length; Node would say so too.
      if (!res.hasHeader('content-length') && !res.hasHeader('transfer-encoding') && hasBody(res.statusCode)) {
        res.setHeader('Content-Length', bytes.length);
      }
      res.writeHead(res.statusCode);
    }
    if (callback) res.once('finish', callback);
    if (bytes.length > 0 && !this.#cutSeen) this.#listener.data(bytes);
    this.#ended = true;
    this.#needDrain = false;
    if (!this.#cutSeen) this.#listener.end();
    return res;
  }

  #destroy(error: unknown): ServerResponse {
    // Node 24 destroys the responses that wait behind a lost one in this way.
    const abortedByNode = this.#socket.destroyed && systemCodeOf(error) === 'ECONNRESET';
    if (!this.#ended && !abortedByNode) {
      this.#cut(error instanceof Error ? error : new Error('The handler destroyed the response'));
    }
    return this.#res;
  }

  #cut(reason: Error): void {
    if (this.#ended || this.#cutSeen || this.#released) return;
    this.#cutSeen = true;
    this.#listener.cut(reason);
  }

  #onLoss(): void {
    this.#lost = true;
    const res = this.#res as unknown as ResponseInternals;
    const socket = this.#socket;
    const cutFromInside =
      !this.#resetByUs &&
      this.#head !== undefined &&
      !this.#ended &&
      socket.errored === null &&
      !socket.readableEnded;
    if (!this.#finishCalled) this.#putOnNullSocket(res, socket);
    for (const listener of this.#lossListeners.splice(0)) listener();
    // Express's last resort for an error in the middle of an answer is to destroy the socket.
    if (cutFromInside) this.#cut(new Error('The connection was closed from inside in the middle of the answer'));
  }

  #putOnNullSocket(res: ResponseInternals, socket: Socket): void {
    this.#outward(() => {
      if ((res.socket as unknown) === socket) res.detachSocket(socket);
      res.destroyed = false;
      res._closed = false;
      res.assignSocket(createNullSocket());
    });
    // Node will want to do both for the real socket when this response has finished.
    res.detachSocket = () => {};
    res.assignSocket = () => {};
    // http-proxy takes an error of the backend for the client's when the request's socket is destroyed.
    const facade = Object.create(socket, { destroyed: { value: false }, writable: { value: true } });
    this.#req.socket = facade as Socket;
  }
}

function hasBody(status: number): boolean {
  return status >= 200 && status !== 204 && status !== 304;
}

function toBytes(chunk: unknown, encoding: BufferEncoding | undefined): Buffer | undefined {
  if (Buffer.isBuffer(chunk)) return chunk;
  if (typeof chunk === 'string') return Buffer.from(chunk, encoding ?? 'utf8');
  if (chunk instanceof Uint8Array) return Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
  return undefined;
}

/** The headers given to `writeHead`: an object, a flat list `[name, value, name, value]`, or a list of pairs. */
function headerPairs(headers: unknown): [string, string | string[]][] {
  if (Array.isArray(headers)) {
    if (Array.isArray(headers[0])) return headers as [string, string][];
    const merged = new Map<string, [string, string[]]>();
    for (let i = 0; i + 1 < headers.length; i += 2) {
      const name = String(headers[i]);
      const entry = merged.get(name.toLowerCase()) ?? [name, []];
      entry[1].push(String(headers[i + 1]));
      merged.set(name.toLowerCase(), entry);
    }
    return [...merged.values()].map(([name, values]) => [name, values.length === 1 ? (values[0] as string) : values]);
  }
  return headers && typeof headers === 'object' ? (Object.entries(headers) as [string, string][]) : [];
}
