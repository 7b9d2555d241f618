import { type IncomingMessage, OutgoingMessage, type ServerResponse } from 'node:http';

// biome-ignore lint/suspicious/noExplicitAny: the signatures of what is patched differ, and are passed on as they came.
export type AnyFunction = (...args: any[]) => any;

/** What a patch keeps of a response: Node's own methods, or those that middlewares in front have put in their place. */
export interface FrontMethods {
  on(event: string, listener: AnyFunction): unknown;
  emit(event: string, ...args: unknown[]): boolean;
  setHeader(name: string, value: unknown): unknown;
  getHeader(name: string): number | string | string[] | undefined;
  removeHeader(name: string): unknown;
  writeHead(...args: unknown[]): unknown;
  flushHeaders(): unknown;
  write(chunk: unknown): boolean;
  end(chunk?: unknown): unknown;
  destroy(error?: Error): unknown;
}

const KEPT: readonly (keyof FrontMethods)[] = [
  'on',
  'emit',
  'setHeader',
  'getHeader',
  'removeHeader',
  'writeHead',
  'flushHeaders',
  'write',
  'end',
  'destroy',
];

/**
 * Own methods and getters on one response, with the way back to what was there before.
 *
 * `res` itself is patched, because a middleware cannot hand another object to what is mounted behind it. A call to an own
 * method can come from the handler behind, or from Node and the middlewares in front while `outward` runs; only the
 * former gets the own behaviour.
 */
export class ResponsePatch {
  /** Whatever is called here goes towards the client; inside of `outward` only. */
  readonly front: FrontMethods;
  readonly #req: IncomingMessage;
  readonly #res: Record<string, unknown>;
  readonly #native: ServerResponse;
  readonly #undo: (() => void)[] = [];
  /** What the client accepts. */
  readonly #acceptEncoding: string | undefined;
  #inside = 0;

  constructor(req: IncomingMessage, res: ServerResponse) {
    this.#req = req;
    this.#native = res;
    this.#res = res as unknown as Record<string, unknown>;
    this.#acceptEncoding = req.headers['accept-encoding'];
    const front: Record<string, AnyFunction> = {};
    for (const name of KEPT) {
      const original = this.#res[name] as AnyFunction;
      front[name] = (...args) => original.apply(res, args);
    }
    this.front = front as unknown as FrontMethods;
  }

  /** Runs what belongs to the client's side. compression() in front sees there what the client accepts. */
  outward<T>(call: () => T): T {
    const { headers } = this.#req;
    const behind = headers['accept-encoding'];
    this.#inside += 1;
    setOrDelete(headers, 'accept-encoding', this.#acceptEncoding);
    try {
      return call();
    } finally {
      this.#inside -= 1;
      setOrDelete(headers, 'accept-encoding', behind);
    }
  }

  /** Gives the handler behind another method. One that this Node.js does not have is left out. */
  own(name: string, behave: AnyFunction): void {
    const original = this.#res[name] as AnyFunction | undefined;
    if (!original) return;
    const wasOwn = Object.hasOwn(this.#res, name);
    this.#undo.push(() => {
      if (wasOwn) this.#res[name] = original;
      else delete this.#res[name];
    });
    this.#res[name] = (...args: unknown[]) =>
      this.#inside > 0 ? original.apply(this.#native, args) : behave(...args);
  }

  /** Gives the handler behind another view of one of Node's own properties. */
  ownGetter(name: string, get: () => unknown): void {
    const native = Object.getOwnPropertyDescriptor(OutgoingMessage.prototype, name)?.get;
    this.#undo.push(() => delete this.#res[name]);
    Object.defineProperty(this.#native, name, {
      configurable: true,
      get: () => (this.#inside > 0 ? native?.call(this.#native) : get()),
    });
  }

  /** Leaves the response as it was found. */
  undo(): void {
    for (const undo of this.#undo.splice(0)) undo();
  }
}

function setOrDelete(headers: Record<string, unknown>, name: string, value: unknown): void {
  if (value === undefined) delete headers[name];
  else headers[name] = value;
}
