import type { ServerResponse } from 'node:http';

// biome-ignore lint/suspicious/noExplicitAny: the signatures of what is patched differ, and are passed on as they came.
export type AnyFunction = (...args: any[]) => any;

const KEPT = [
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
] as const;
type KeptName = (typeof KEPT)[number];

/** A response's methods as they were when a patch came: Node's own, or those that middlewares in front put in their place. */
export class FrontMethods {
  readonly #res: ServerResponse;
  readonly #kept: Readonly<Record<KeptName, AnyFunction>>;

  constructor(res: ServerResponse) {
    this.#res = res;
    const { on, emit, setHeader, getHeader, removeHeader, writeHead, flushHeaders, write, end, destroy } =
      res;
    this.#kept = {
      on,
      emit,
      setHeader,
      getHeader,
      removeHeader,
      writeHead,
      flushHeaders,
      write,
      end,
      destroy,
    };
  }

  /** True where a middleware in front has put its own methods on the response. */
  static arePatched(res: ServerResponse): boolean {
    return KEPT.some((name) => Object.hasOwn(res, name));
  }

  on(event: string, listener: AnyFunction): unknown {
    return this.#kept.on.call(this.#res, event, listener);
  }

  emit(event: string, args: unknown[]): boolean {
    return this.#kept.emit.call(this.#res, event, ...args);
  }

  setHeader(name: string, value: unknown): unknown {
    return this.#kept.setHeader.call(this.#res, name, value);
  }

  getHeader(name: string): number | string | string[] | undefined {
    return this.#kept.getHeader.call(this.#res, name);
  }

  removeHeader(name: string): unknown {
    return this.#kept.removeHeader.call(this.#res, name);
  }

  writeHead(...args: unknown[]): unknown {
    return this.#kept.writeHead.apply(this.#res, args);
  }

  flushHeaders(): unknown {
    return this.#kept.flushHeaders.call(this.#res);
  }

  write(chunk: unknown): boolean {
    return this.#kept.write.call(this.#res, chunk);
  }

  end(...args: unknown[]): unknown {
    return this.#kept.end.apply(this.#res, args);
  }

  destroy(error?: Error): unknown {
    return this.#kept.destroy.call(this.#res, error);
  }
}
