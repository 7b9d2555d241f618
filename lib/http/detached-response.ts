import { type IncomingMessage, type OutgoingHttpHeaders, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Readable } from 'node:stream';
import { onConnectionLoss } from './connection-loss.js';
import type { AnyFunction, FrontMethods } from './front-methods.js';
import { makeLastOnConnection, moveToNullSocket, NullSocket } from './null-socket.js';
import { rawAnswer } from './raw-answer.js';
import { resetSocket } from './reset-socket.js';
import {
  hasBody,
  headerPairs,
  splitWriteArguments,
  toBytes,
  type WriteArguments,
} from './response-arguments.js';
import { type BehindGetters, type BehindMethods, ResponsePatch } from './response-patch.js';

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

/** What is said ahead of an answer. Behind an early head there is no place for it. */
const INFORMATION_METHODS = ['writeContinue', 'writeProcessing', 'writeEarlyHints'] as const;

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

/**
 * A response that is taken apart: whatever handler is behind writes to `res` as ever, and we decide what of it goes to
 * the client and when. The handler does not see the client leave: then `res` is put on a socket that leads nowhere,
 * and everything in it goes on. The loss is watched from the start; the rest begins with `takeOver`.
 *
 * HTTP/1.1 only: it rests on `assignSocket` and `detachSocket`.
 */
export class DetachedResponse {
  readonly #req: IncomingMessage;
  readonly #res: ServerResponse;
  readonly #listener: AnswerListener;
  readonly #socket: Socket;
  readonly #patch: ResponsePatch<DetachedResponse>;
  readonly #forgetLoss: () => void;
  readonly #lossListeners: (() => void)[] = [];
  #waking = false;
  /** What waits for the 'drain' of `res` itself. */
  #onOwnDrain: () => void = () => {};
  #head: AnswerHead | undefined;
  /** After an early head: a response without a socket that takes the handler's headers, and judges them natively. */
  #shadow: ServerResponse | undefined;
  #ended = false;
  #needDrain = false;
  #lost = false;
  #resetByUs = false;
  #takenOver = false;
  /** Node is about to destroy whatever is on the lost connection. */
  #nodeAborts = false;
  #cutSeen = false;
  #finishCalled = false;

  static readonly #FROM_THE_START: BehindMethods<DetachedResponse> = {
    destroy: (own, [error]) => own.#destroy(error),
  };

  /** The handler's headers, kept apart from those that have left. */
  static readonly #BEHIND_EARLY_HEAD: BehindMethods<DetachedResponse> = Object.fromEntries(
    HEADER_METHODS.map((name) => [
      name,
      (own, args) => {
        const shadow = own.#shadow;
        const result = (shadow as unknown as Record<string, AnyFunction>)[name]?.(...args);
        return result === shadow ? own.#res : result;
      },
    ]),
  );

  static readonly #TAKEN_OVER: BehindMethods<DetachedResponse> = {
    emit: (own, [event, ...args]) => own.#emit(event as string, args),
    writeHead: (own, args) => own.#writeHead(args),
    write: (own, args) => own.#write(args as WriteArguments),
    end: (own, args) => own.#end(args as WriteArguments),
    flushHeaders: (own) => own.#flushHeaders(),
    ...Object.fromEntries(INFORMATION_METHODS.map((name) => [name, (own, args) => own.#inform(name, args)])),
  };

  static readonly #SEEN: BehindGetters<DetachedResponse> = {
    headersSent: (own) => own.#head !== undefined,
    writableEnded: (own) => own.#ended,
    // The client's pace is not the handler's affair; and pipe() would wait for ever on a response that was lost full.
    writableNeedDrain: (own) => own.#needDrain,
  };

  constructor(req: IncomingMessage, res: ServerResponse, listener: AnswerListener) {
    this.#req = req;
    this.#res = res;
    this.#listener = listener;
    this.#socket = req.socket;
    this.#patch = new ResponsePatch<DetachedResponse>(req, res, this);
    this.#patch.own(DetachedResponse.#FROM_THE_START);
    // A replayed request has no client.
    this.#lost = (this.#socket as unknown) instanceof NullSocket;
    this.#forgetLoss = onConnectionLoss(this.#socket, () => this.#onLoss());
    this.#patch.front.on('close', this.#forgetLoss);
  }

  /** Before `takeOver`: somebody in front, who lost patience, has answered or given up. */
  get answered(): boolean {
    const { headersSent, writableEnded, destroyed } = this.#res;
    return headersSent || writableEnded || destroyed;
  }

  /** The client is gone, or never was, or has been dismissed. */
  get lost(): boolean {
    return this.#lost;
  }

  /** Nothing can be written any more: the client is gone, or the answer has been ended, be it by somebody in front. */
  get over(): boolean {
    return this.#lost || this.#res.writableEnded || this.#res.destroyed;
  }

  /** The answer was ended by `finish`, and by nobody else. */
  get finished(): boolean {
    return this.#finishCalled;
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
    this.#outward((front) => front.setHeader(name, value));
  }

  getHeader(name: string): string | undefined {
    const value = this.#outward((front) => front.getHeader(name)) as number | string | string[] | undefined;
    return Array.isArray(value) ? value.join(', ') : value?.toString();
  }

  removeHeader(name: string): void {
    this.#outward((front) => front.removeHeader(name));
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
    this.#outward((front) => {
      front.writeHead(200);
      front.flushHeaders();
    });
    res.statusCode = statusCode;
    res.statusMessage = statusMessage;
    this.#shadow = shadow;
    this.#patch.own(DetachedResponse.#BEHIND_EARLY_HEAD);
  }

  /**
   * Gives the client a head with the headers that are set, unless one has left. What follows by `write` and `finish` is
   * an answer of our own, and not the handler's.
   */
  sendHead(status: number): void {
    if (this.#lost) return;
    this.#outward((front) => this.#res.headersSent || front.writeHead(status));
  }

  /**
   * Gives the client a whole answer of our own at once, and parts with it: to the handler, which may come later, it is
   * as if the client had left. The headers that are set go along. To be called when the request's body has arrived.
   *
   * @returns false where that cannot be done, and nothing has been: the client is gone, a head has left, or the answers
   * to earlier requests on this connection are still to come.
   */
  dismiss(status: number, headers: Readonly<OutgoingHttpHeaders>, body: Buffer): boolean {
    const res = this.#res;
    const socket = this.#socket;
    const isAnswered = this.#outward(() => this.answered);
    if (this.#lost || isAnswered || res.socket !== socket || !socket.writable) return false;
    const bytes = this.#outward(() => rawAnswer(res, status, headers, body));
    // What waits behind it in the pipeline must not get a connection that has been ended.
    makeLastOnConnection(res);
    this.#lose();
    socket.write(bytes);
    socket.destroySoon();
    return true;
  }

  /** Hands bytes to the connection. Returns false where it wants to be asked again at the next drain. */
  write(chunk: Buffer | string): boolean {
    if (this.#lost) return true;
    return this.#outward((front) => front.write(chunk)) as boolean;
  }

  /** Calls `listener` whenever the connection has drained. */
  onDrain(listener: () => void): void {
    // `on` as it was when we came: compression() in front sends this event to its own stream, and one behind would too.
    const before = this.#res.listenerCount('drain');
    this.#patch.front.on('drain', () => {
      if (!this.#waking) listener();
    });
    if (this.#res.listenerCount('drain') > before) this.#onOwnDrain = listener;
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
    this.#outward((front) => front.end());
  }

  /**
   * Breaks the connection so that every client sees an error: by RST, because behind a proxy that speaks HTTP/1.0 a FIN
   * is the regular end of an answer. The handler does not notice.
   */
  resetClient(): void {
    if (this.#lost) return;
    this.#resetByUs = true;
    resetSocket(this.#socket);
  }

  /** Ends `res` as Node ends one whose client is gone: it emits 'close' and no 'finish'. Nothing more is heard of it. */
  abandon(): void {
    this.#cutSeen = true;
    this.resetClient();
    this.onLost(() => this.#outward((front) => front.destroy()));
  }

  /** In place of `takeOver`: the handler has `res` for itself, and the client is its own affair. */
  release(): void {
    this.#forgetLoss();
    this.#patch.undo();
  }

  /** What is behind asks the backend for a plain answer: A1111 would compress it for a client that accepts that. */
  askForPlainAnswer(): void {
    this.#req.headers['accept-encoding'] = 'identity';
  }

  /** Runs what belongs to the client's side. */
  #outward<T>(call: (front: FrontMethods) => T): T {
    return this.#patch.outward(call);
  }

  /** From now on whatever is written to `res` is the answer, and goes to the listener. */
  takeOver(): void {
    this.#takenOver = true;
    const patch = this.#patch;
    patch.own(DetachedResponse.#TAKEN_OVER);
    patch.ownGetters(DetachedResponse.#SEEN);

    // pipe() does not tell its destination when the source breaks off; proxies then leave the client hanging.
    patch.front.on('pipe', (source: Readable) => {
      source.once('close', () => {
        if (!source.readableEnded) this.#cut(new Error('The backend broke off its answer'));
      });
    });
  }

  #emit(event: string, args: unknown[]): boolean {
    // The client has taken what it was given; that lets a handler go on only if nothing else holds it.
    const isHeld = event === 'drain' && this.#needDrain && !this.#waking;
    if (!isHeld) return this.#patch.front.emit(event, args);
    this.#onOwnDrain();
    return true;
  }

  #flushHeaders(): void {
    if (this.#cutSeen) return;
    if (!this.#head) this.#res.writeHead(this.#res.statusCode);
    if (!this.early) this.#outward((front) => front.flushHeaders());
  }

  #inform(method: (typeof INFORMATION_METHODS)[number], args: unknown[]): void {
    const callback = args.at(-1);
    if (!this.early) this.#outward(() => (this.#res[method] as AnyFunction)(...args));
    else if (typeof callback === 'function') process.nextTick(callback);
  }

  /** Works out the handler's head, tells it, and lets it go to the client unless one has left already. */
  #writeHead(args: unknown[]): ServerResponse {
    const res = this.#res;
    if (this.#cutSeen) return res;
    const [given, reason] = args;
    if (this.#shadow) {
      (this.#shadow.writeHead as AnyFunction)(...args);
      this.#tellHead(this.#shadow.statusCode, this.#shadow);
      return res;
    }
    // As Node reads it: '200' is a status as well.
    const status = (given as number) | 0;
    if (this.#head || status < 100 || status > 999) {
      // Node's own complaint about a second head, or about a status that is none.
      this.#outward((front) => front.writeHead(...args));
      return res;
    }
    const headers = typeof reason === 'string' ? args[2] : args[1];
    for (const [name, value] of headerPairs(headers)) this.#outward((front) => front.setHeader(name, value));
    // The head must be read before it goes through the middlewares in front: compression() would change it.
    this.#tellHead(status, res);
    this.#outward((front) => front.writeHead(status, ...(typeof reason === 'string' ? [reason] : [])));
    return res;
  }

  #tellHead(status: number, carrier: ServerResponse): void {
    const headers = this.#outward(() => ({ ...carrier.getHeaders() }));
    this.#head = { status, headers };
    this.#listener.head(this.#head);
  }

  #write(args: WriteArguments): boolean {
    const { chunk, encoding, callback } = splitWriteArguments(args);
    const bytes = toBytes(chunk, encoding);
    // Node's own complaint about a chunk that is none.
    if (!bytes) return this.#outward((front) => front.write(chunk)) as boolean;
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

  #end(args: WriteArguments): ServerResponse {
    const { chunk, encoding, callback } = splitWriteArguments(args);
    const res = this.#res;
    if (this.#ended) {
      const error = Object.assign(new Error('Cannot call end after a stream was finished'), {
        code: 'ERR_STREAM_ALREADY_FINISHED',
      });
      if (callback) process.nextTick(callback, error);
      return res;
    }
    const bytes = chunk === undefined || chunk === null ? Buffer.alloc(0) : toBytes(chunk, encoding);
    if (!bytes) return this.#outward((front) => front.end(chunk)) as ServerResponse;
    if (!this.#head && !this.#cutSeen) {
      // An answer that is written in one go has a length; Node would say so too.
      if (
        !res.hasHeader('content-length') &&
        !res.hasHeader('transfer-encoding') &&
        hasBody(res.statusCode)
      ) {
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
    if (this.#nodeAborts) return this.#res;
    if (!this.#takenOver) return this.#outward((front) => front.destroy(error as Error)) as ServerResponse;
    this.#cut(error instanceof Error ? error : new Error('The handler destroyed the response'));
    return this.#res;
  }

  #cut(reason: Error): void {
    if (this.#ended || this.#cutSeen) return;
    this.#cutSeen = true;
    this.#listener.cut(reason);
  }

  #onLoss(): void {
    const socket = this.#socket;
    // Node 24 destroys the pipelined responses of a lost connection while it hears of the loss, which is now.
    this.#nodeAborts = true;
    process.nextTick(() => {
      this.#nodeAborts = false;
    });
    if (this.#lost) return;
    const cutFromInside =
      !this.#resetByUs &&
      this.#head !== undefined &&
      !this.#ended &&
      socket.errored === null &&
      !socket.readableEnded;
    this.#lose();
    // Express's last resort for an error in the middle of an answer is to destroy the socket.
    if (cutFromInside)
      this.#cut(new Error('The connection was closed from inside in the middle of the answer'));
  }

  #lose(): void {
    this.#lost = true;
    const socket = this.#socket;
    if (!this.#finishCalled) {
      this.#outward(() => moveToNullSocket(this.#res, socket));
      // http-proxy takes an error of the backend for the client's when the request's socket is destroyed, and body
      // parsers leave a request alone whose socket cannot be read.
      const facade = Object.create(socket, {
        destroyed: { value: false },
        readable: { value: true },
        writable: { value: true },
        // A closed socket may have forgotten it.
        remoteAddress: { value: socket.remoteAddress },
      });
      this.#req.socket = facade as Socket;
    }
    for (const listener of this.#lossListeners.splice(0)) listener();
  }
}
