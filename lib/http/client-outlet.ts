import type { DetachedResponse } from './detached-response.js';
import { Spool, type SpoolOptions } from './spool.js';

/**
 * The way of the answer's bytes to the client, at the client's own pace: what it has not taken waits in a spool, so
 * that nobody else waits for it.
 */
export class ClientOutlet {
  readonly #response: DetachedResponse;
  readonly #spool: Spool;
  #pumping = false;
  #full = false;
  #ending = false;
  #finished = false;
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
      if (this.#ending) this.#finish();
    });
  }

  /** False while the client is slow and the disk cannot take what waits for it. */
  get accepting(): boolean {
    return this.#spool.accepting;
  }

  /** Bytes to the client. Never blocks, keeps the order, forgets them when the client has left. */
  write(chunk: Buffer): void {
    if (this.#response.lost) return;
    if (!this.#full && !this.#pumping && this.#spool.sizeBytes === 0) {
      this.#full = !this.#response.write(chunk);
      return;
    }
    this.#spool.push(chunk);
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

  #finish(): void {
    if (this.#finished) return;
    this.#finished = true;
    this.#response.finish();
    void this.#spool.close();
  }
}
