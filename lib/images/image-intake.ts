import { messageOf } from '../errors.js';
import { sniffImage, WholenessCheck } from './image-format.js';
import type { ImageStore, ImageWriter } from './image-store.js';

/** So much of a file's beginning tells its format. */
const SNIFF_BYTES = 64;

/** What became of one image. */
export type IntakeOutcome =
  | { readonly kind: 'kept'; readonly path: string; readonly sizeBytes: number }
  /** It ends before its format says. */
  | { readonly kind: 'truncated' }
  /** The store refused. */
  | { readonly kind: 'failed'; readonly message: string };

/** One image on its way into the store: written in order, looked at in passing, visible only when whole. */
export class ImageIntake {
  readonly #stem: string;
  readonly #wholeness = new WholenessCheck();
  readonly #onTaken: (sizeBytes: number) => void;
  readonly #writer: Promise<ImageWriter>;
  /** Every step waits for the one before. */
  #steps: Promise<unknown>;
  #beginning = Buffer.alloc(0);
  #sizeBytes = 0;

  /** @param onTaken called with the size of each piece once the store has it, or will never have it. */
  constructor(store: ImageStore, stem: string, onTaken: (sizeBytes: number) => void) {
    this.#stem = stem;
    this.#onTaken = onTaken;
    // A store of the host's own may throw where it should reject.
    this.#writer = Promise.resolve().then(() => store.create(stem));
    this.#steps = this.#writer;
    // A failure shows when the image ends.
    this.#steps.catch(() => {});
  }

  /** Takes the next bytes; they must not change until `release` is called. */
  push(bytes: Buffer, release: () => void): void {
    this.#wholeness.update(bytes);
    this.#sizeBytes += bytes.length;
    if (this.#beginning.length < SNIFF_BYTES) {
      const missing = SNIFF_BYTES - this.#beginning.length;
      this.#beginning = Buffer.concat([this.#beginning, bytes.subarray(0, missing)]);
    }
    this.#steps = this.#steps
      .then(async () => (await this.#writer).write(bytes))
      .finally(() => {
        release();
        this.#onTaken(bytes.length);
      });
    this.#steps.catch(() => {});
  }

  /** What becomes of it if it is over now and the store takes it. */
  get hoped(): IntakeOutcome {
    if (!this.#wholeness.whole) return { kind: 'truncated' };
    return { kind: 'kept', path: `${this.#stem}.${this.#extension('bin')}`, sizeBytes: this.#sizeBytes };
  }

  #extension(other: string): string {
    return sniffImage(this.#beginning)?.extension ?? other;
  }

  /**
   * The image is over. Resolves when it is durable under its final name, or gone. Never rejects.
   *
   * @param otherExtension for a file whose format its bytes do not tell.
   */
  async finish(otherExtension = 'bin'): Promise<IntakeOutcome> {
    if (!this.#wholeness.whole) {
      await this.discard();
      return { kind: 'truncated' };
    }
    try {
      await this.#steps;
      const path = await (await this.#writer).finish(this.#extension(otherExtension));
      return { kind: 'kept', path, sizeBytes: this.#sizeBytes };
    } catch (error) {
      await this.discard();
      return { kind: 'failed', message: messageOf(error) };
    }
  }

  /** Throws away what was written. Never rejects. */
  async discard(): Promise<void> {
    try {
      await (await this.#writer).discard();
    } catch {
      // Where no file could be begun there is none to discard, and one that cannot be discarded is unfinished for ever.
    }
  }
}
