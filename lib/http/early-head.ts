import type { IncomingMessage } from 'node:http';
import { isCrossOrigin } from './cross-origin.js';
import type { DetachedResponse } from './detached-response.js';
import type { RequestBody } from './request-body.js';

export interface EarlyHeadOptions {
  /** How long the backend may take to refuse before the head leaves; false: the head waits for the backend's own. */
  readonly headAfterMs: number | false;
  /** How often a byte of JSON whitespace follows the head until the answer begins. */
  readonly keepAliveMs: number;
}

/**
 * The head that leaves ahead of the result, and the whitespace that keeps proxies and clients waiting behind it. Never
 * a 102 or 103: Python's http.client takes those for the final answer.
 */
export class EarlyHead {
  readonly #req: IncomingMessage;
  readonly #response: DetachedResponse;
  readonly #options: EarlyHeadOptions;
  #grace: NodeJS.Timeout | undefined;
  #keepAlive: NodeJS.Timeout | undefined;
  #stopped = false;

  constructor(req: IncomingMessage, response: DetachedResponse, options: EarlyHeadOptions) {
    this.#req = req;
    this.#response = response;
    this.#options = options;
    response.onLost(() => this.stop());
  }

  /**
   * False where the browser would keep an answer of ours from the page: it is of another origin, and nobody has let it in
   * yet. The backend's own CORS headers would come too late.
   */
  get isReadable(): boolean {
    return !isCrossOrigin(this.#req) || this.#response.getHeader('access-control-allow-origin') !== undefined;
  }

  /** The job has to wait, or is about to be handed on with `headAfter: 0`: the head leaves now. */
  sendNow(): void {
    if (this.#stopped || this.#response.early || this.#options.headAfterMs === false) return;
    if (!this.isReadable) return;
    const response = this.#response;
    // What a middleware has said of a body that is not there yet would be wrong.
    for (const name of ['content-length', 'content-encoding', 'etag']) response.removeHeader(name);
    response.setHeader('Content-Type', 'application/json');
    // Caches and compressors in between must neither keep nor hold back what comes.
    response.setHeader('Cache-Control', 'no-store, no-transform');
    response.setHeader('X-Accel-Buffering', 'no');
    response.sendEarlyHead();
    this.#keepAlive = setInterval(() => response.write(' '), this.#options.keepAliveMs).unref();
  }

  /** The request has been handed on: the head leaves after the grace, counted from the body's last byte. */
  startGrace(body: RequestBody): void {
    const { headAfterMs } = this.#options;
    if (headAfterMs === false || this.#response.early) return;
    const wait = (then: () => void) => {
      clearTimeout(this.#grace);
      if (!this.#stopped) this.#grace = setTimeout(then, headAfterMs).unref();
    };
    void body.readByHandler.then(() => wait(() => this.sendNow()));
    // A handler that does something else first, or never reads the body, must not hold the id back.
    wait(() => {
      if (!body.readingBegun) this.sendNow();
    });
  }

  /** The backend's own head is there. */
  stopGrace(): void {
    clearTimeout(this.#grace);
    this.#grace = undefined;
    this.#stopped = true;
  }

  /** The answer begins, or ends. */
  stop(): void {
    this.stopGrace();
    clearInterval(this.#keepAlive);
    this.#keepAlive = undefined;
  }
}
