import { type IncomingMessage, OutgoingMessage, type ServerResponse } from 'node:http';
import { type AnyFunction, FrontMethods } from './front-methods.js';

/** What handlers behind get in place of a response's methods. */
export type BehindMethods<Owner> = Readonly<Record<string, BehindMethod<Owner>>>;
type BehindMethod<Owner> = (owner: Owner, args: unknown[]) => unknown;
/** What handlers behind see in place of a response's own properties. */
export type BehindGetters<Owner> = Readonly<Record<string, (owner: Owner) => unknown>>;

/** What a patch does when the response is used. */
interface Patched {
  called(name: string, args: unknown[]): unknown;
  seen(name: string): unknown;
}

/** The functions that patches put on responses: one for each method, shared by all responses. */
class PatchLevel {
  readonly #mark = Symbol('response patch');
  readonly #methods = new Map<string, AnyFunction>();
  readonly #getters = new Map<string, PropertyDescriptor>();

  /** The level above all patches that are on a response already. */
  static above(res: object): PatchLevel {
    for (const level of LEVELS) if (level.#patchOf(res) === undefined) return level;
    const level = new PatchLevel();
    LEVELS.push(level);
    return level;
  }

  #patchOf(res: object): Patched | undefined {
    return (res as { [mark: symbol]: Patched | undefined })[this.#mark];
  }

  /** The mark stays: somebody may have taken hold of a method meanwhile. */
  mark(res: object, patch: Patched): void {
    (res as { [mark: symbol]: unknown })[this.#mark] = patch;
  }

  method(name: string): AnyFunction {
    const known = this.#methods.get(name);
    if (known) return known;
    const level = this;
    const method = function (this: object, ...args: unknown[]) {
      return level.#patchOf(this)?.called(name, args);
    };
    this.#methods.set(name, method);
    return method;
  }

  getter(name: string): PropertyDescriptor {
    const known = this.#getters.get(name);
    if (known) return known;
    const level = this;
    const getter: PropertyDescriptor = {
      configurable: true,
      get(this: object) {
        return level.#patchOf(this)?.seen(name);
      },
    };
    this.#getters.set(name, getter);
    return getter;
  }
}

/** One for each patch that a response may have on top of another: two trackers may be mounted. */
const LEVELS: PatchLevel[] = [];

/**
 * Own methods and getters on one response, with the way back to what was there before.
 *
 * `res` itself is patched, because a middleware cannot hand another object to what is mounted behind it. A call to an own
 * method can come from the handler behind, or from Node and the middlewares in front while `outward` runs; only the
 * former gets the own behaviour.
 *
 * What is put on the response is the same for all responses: a function of its own for each would give every response a
 * shape of its own, which V8 is slow with.
 */
export class ResponsePatch<Owner> {
  /** Whatever is called here goes towards the client; inside of `outward` only. */
  readonly front: FrontMethods;
  readonly #req: IncomingMessage;
  readonly #res: ServerResponse;
  readonly #owner: Owner;
  readonly #level: PatchLevel;
  readonly #originals: Record<string, AnyFunction> = {};
  /** Names whose original is on the response itself, and not on its prototype. */
  #ownBefore: Set<string> | undefined;
  readonly #methods: Record<string, BehindMethod<Owner>> = {};
  #getters: BehindGetters<Owner> = {};
  /** What the client accepts; middlewares in front look at it. */
  readonly #acceptEncoding: string | undefined;
  readonly #isFrontPatched: boolean;
  #inside = 0;

  constructor(req: IncomingMessage, res: ServerResponse, owner: Owner) {
    this.#req = req;
    this.#res = res;
    this.#owner = owner;
    this.#acceptEncoding = req.headers['accept-encoding'];
    this.#isFrontPatched = FrontMethods.arePatched(res);
    this.front = new FrontMethods(res);
    this.#level = PatchLevel.above(res);
    this.#level.mark(res, this);
  }

  /** Runs what belongs to the client's side. compression() in front sees there what the client accepts. */
  outward<T>(call: (front: FrontMethods) => T): T {
    // Node's own methods do not look at it.
    const headers = this.#isFrontPatched ? this.#req.headers : undefined;
    const behind = headers?.['accept-encoding'];
    this.#inside += 1;
    if (headers) setOrDelete(headers, 'accept-encoding', this.#acceptEncoding);
    try {
      return call(this.front);
    } finally {
      this.#inside -= 1;
      if (headers) setOrDelete(headers, 'accept-encoding', behind);
    }
  }

  /** Gives the handler behind other methods. One that this Node.js does not have is left out. */
  own(methods: BehindMethods<Owner>): void {
    const res = this.#res as unknown as Record<string, unknown>;
    for (const name in methods) {
      const original = res[name] as AnyFunction | undefined;
      if (!original) continue;
      if (Object.hasOwn(res, name)) {
        this.#ownBefore ??= new Set();
        this.#ownBefore.add(name);
      }
      const method = this.#level.method(name);
      this.#methods[name] = methods[name] as BehindMethod<Owner>;
      this.#originals[name] = original;
      res[name] = method;
    }
  }

  /** Gives the handler behind another view of some of Node's own properties. */
  ownGetters(getters: BehindGetters<Owner>): void {
    this.#getters = getters;
    for (const name in getters) {
      Object.defineProperty(this.#res, name, this.#level.getter(name));
    }
  }

  /** Leaves the response as it was found. */
  undo(): void {
    const res = this.#res as unknown as Record<string, unknown>;
    for (const [name, original] of Object.entries(this.#originals)) {
      if (this.#ownBefore?.has(name)) res[name] = original;
      else delete res[name];
    }
    for (const name of Object.keys(this.#getters)) delete res[name];
  }

  /** An own method is called. */
  called(name: string, args: unknown[]): unknown {
    return this.#inside > 0
      ? this.#originals[name]?.apply(this.#res, args)
      : this.#methods[name]?.(this.#owner, args);
  }

  /** A property with an own view is read. */
  seen(name: string): unknown {
    if (this.#inside === 0) return this.#getters[name]?.(this.#owner);
    return Object.getOwnPropertyDescriptor(OutgoingMessage.prototype, name)?.get?.call(this.#res);
  }
}

function setOrDelete(headers: Record<string, unknown>, name: string, value: unknown): void {
  if (value === undefined) delete headers[name];
  else headers[name] = value;
}
