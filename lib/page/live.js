import { urlOf } from './api.js';

/**
 * What happens, as it happens: server-sent events, and where those do not come (a proxy that holds them back, a gateway
 * without them) a look at the list every few seconds.
 *
 * @typedef {'connecting' | 'live' | 'lost' | 'polling'} LiveState
 * @typedef {object} LiveHandlers
 * @property {(job: import('./api.js').Job) => void} onJob a job is new, has changed or has ended
 * @property {(id: string) => void} onRemoved
 * @property {(progress: import('./api.js').Progress) => void} onProgress
 * @property {() => void} onReset what is known may be wrong: load it anew
 * @property {() => void} onPoll look what is new
 * @property {(state: LiveState) => void} onState
 */

const POLL_MS = 3_000;
const AGAIN_MS = 30_000;
/** Events that have not begun by then may never do. */
const OPEN_WITHIN_MS = 8_000;
/** A blink of the connection is no news. */
const LOST_AFTER_MS = 1_500;
/** A page that nobody sees lets the gateway be; browsers have only six connections for all of their tabs. */
const HIDDEN_MS = 5 * 60_000;

export class Live {
  #handlers;
  /** @type {EventSource | undefined} */
  #source;
  #polling = 0;
  #again = 0;
  #lost = 0;
  #hidden = 0;
  #wasOpen = false;

  /** @param {LiveHandlers} handlers */
  constructor(handlers) {
    this.#handlers = handlers;
    document.addEventListener('visibilitychange', () => {
      clearTimeout(this.#hidden);
      if (document.hidden) this.#hidden = setTimeout(() => this.#stop(), HIDDEN_MS);
      else if (!this.#source && this.#polling === 0) this.start();
    });
    addEventListener('online', () => this.start());
    // A page that the browser keeps for going back has no connection any more.
    addEventListener('pageshow', (event) => event.persisted && this.start());
    addEventListener('pagehide', () => this.#stop());
  }

  start() {
    this.#stop();
    const source = new EventSource(urlOf('sdapi/v1/jobs/events'));
    this.#source = source;
    let wasOpen = false;
    const unopened = setTimeout(() => this.#poll(), OPEN_WITHIN_MS);
    source.addEventListener('open', () => {
      clearTimeout(unopened);
      clearTimeout(this.#lost);
      this.#lost = 0;
      clearInterval(this.#polling);
      this.#polling = 0;
      this.#handlers.onState('live');
      // The browser tells the gateway by itself where it stopped, but only on the same object.
      if (this.#wasOpen && !wasOpen) this.#handlers.onReset();
      this.#wasOpen = true;
      wasOpen = true;
    });
    source.addEventListener('error', () => {
      clearTimeout(unopened);
      if (source !== this.#source) return;
      if (source.readyState === EventSource.CLOSED) {
        this.#source = undefined;
        this.#poll();
        this.#again = setTimeout(() => this.start(), AGAIN_MS);
      } else if (this.#lost === 0) {
        this.#lost = setTimeout(() => this.#handlers.onState('lost'), LOST_AFTER_MS);
      }
    });
    const { onJob, onRemoved, onProgress, onReset } = this.#handlers;
    const on = (/** @type {string} */ type, /** @type {(data: any) => void} */ handle) =>
      source.addEventListener(type, (event) => handle(JSON.parse(/** @type {MessageEvent} */ (event).data)));
    on('status', onJob);
    on('progress', onProgress);
    on('removed', ({ id }) => onRemoved(id));
    source.addEventListener('reset', () => onReset());
  }

  #poll() {
    if (this.#polling !== 0) return;
    this.#handlers.onState('polling');
    this.#handlers.onPoll();
    this.#polling = setInterval(() => {
      if (!document.hidden) this.#handlers.onPoll();
    }, POLL_MS);
  }

  #stop() {
    this.#source?.close();
    this.#source = undefined;
    clearInterval(this.#polling);
    this.#polling = 0;
    clearTimeout(this.#again);
    clearTimeout(this.#lost);
    this.#lost = 0;
  }
}
