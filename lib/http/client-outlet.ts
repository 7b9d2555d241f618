import type { DetachedResponse } from './detached-response.js';
import { Spool, type SpoolOptions } from './spool.js';

/** So many bytes may wait for the client before whoever writes is asked to wait a moment. */
const MAX_WAITING_BYTES = 1024 * 1024;
/** A client that keeps up has taken them by then; for one that does not, nobody waits any longer. */
const PATIENCE_MS = 250;

/**
 * The way of the answer's bytes to the client, at the client's own pace: what it has not taken waits in a spool, so
 * that nobody else waits for it. Only for a moment the writer is held back: a client that is about as fast as the
 * backend shall not send every answer over the disk.
 */
export class ClientOutlet {
  readonly #response: DetachedResponse;
  readonly #spool: Spool;
  #pumping = false;
  #full = false;
  #ending = false;
  #finished = false;
  /** Runs while the writer is asked to wait. */
  #patience: NodeJS.Timeout | undefined;
  /** The client is slow: until it has caught up, the spool takes everything. */
  #isSlow = false;
  /** Called when `accepting` turns true again. */
  onAccepting: () => void = () => {};

  constructor(response: DetachedResponse, spool: SpoolOptions) {
    this.#response = response;
    this.#spool = new Spool(spool);
    this.#spool.onAccepting = () => this.onAccepting();
    response.onDrain(() => {
      this.#full = false;
      void this.#pump();
    });
    response.onLost(() => {
      void this.#spool.close();
      this.#caughtUp();
      if (this.#ending) this.#finish();
    });
  }

  /** False for a moment while the client is behind, and while the disk cannot take what waits for it. */
  get accepting(): boolean {
    return this.#spool.accepting && this.#patience === undefined;
  }

  /** Bytes to the client. Never blocks, keeps the order, forgets them when the client has left. */
  write(chunk: Buffer): void {
    if (this.#response.lost) return;
    if (!this.#full && !this.#pumping && this.#spool.sizeBytes === 0) {
      this.#full = !this.#response.write(chunk);
      return;
    }
    this.#spool.push(chunk);
    if (!this.#isSlow && this.#spool.sizeBytes > MAX_WAITING_BYTES) {
      this.#patience ??= setTimeout(() => this.#loseHope(), PATIENCE_MS).unref();
    }
    void this.#pump();
  }

  /** Ends the answer once the client has taken all of it, or has left. */
  end(): void {
    this.#ending = true;
    if (this.#response.lost) this.#finish();
    else void this.#pump();
  }

  async #pump(): Promise<void> {
    if (this.#pumping || this.#finished) return;
    this.#pumping = true;
    try {
      while (!this.#full && !this.#response.lost && this.#spool.sizeBytes > 0) {
        const chunk = await this.#spool.next();
        if (chunk) this.#full = !this.#response.write(chunk);
        if (this.#spool.sizeBytes <= MAX_WAITING_BYTES / 2) this.#caughtUp();
      }
    } catch {
      // The spool cannot be read back: the client must not take what it has for the whole.
      this.#response.resetClient();
      return;
    } finally {
      this.#pumping = false;
    }
    if (this.#ending && this.#spool.sizeBytes === 0) this.#finish();
  }

  #loseHope(): void {
    this.#isSlow = true;
    this.#stopWaiting();
  }

  #caughtUp(): void {
    this.#isSlow = false;
    this.#stopWaiting();
  }

  #stopWaiting(): void {
    if (this.#patience === undefined) return;
    clearTimeout(this.#patience);
    this.#patience = undefined;
    if (this.accepting) this.onAccepting();
  }

  #finish(): void {
    if (this.#finished) return;
    this.#finished = true;
    this.#response.finish();
    void this.#spool.close();
  }
}
