import { messageOf } from '../errors.js';
import { openSidecar } from '../images/answer-sidecar.js';
import type { ImageStore } from '../images/image-store.js';
import { topLevelMembersOf } from '../json/top-level-members.js';
import type { Logger } from '../logger.js';

const MAX_CACHED_BYTES = 64 * 1024 * 1024;
/** One that is larger would drive out many others. */
const LARGEST_SHARE = 1 / 8;

export interface EntryTextsOptions {
  readonly images: ImageStore;
  readonly logger: Logger;
  /** How much is kept in memory. Default: 64 MB. */
  readonly maxBytes?: number;
}

/**
 * Reads history entries from the sidecars that hold them, as ComfyUI wrote them. Some clients ask for the whole history ten
 * times a second, so that what was asked for last stays in memory.
 */
export class EntryTexts {
  readonly #images: ImageStore;
  readonly #logger: Logger;
  readonly #maxBytes: number;
  /** By the sidecars' paths; what was asked for last is the last. */
  readonly #cached = new Map<string, Buffer>();
  readonly #reading = new Map<string, Promise<Buffer | undefined>>();
  #cachedBytes = 0;

  constructor({ images, logger, maxBytes = MAX_CACHED_BYTES }: EntryTextsOptions) {
    this.#images = images;
    this.#logger = logger;
    this.#maxBytes = maxBytes;
  }

  /** Resolves to undefined where there is no entry to be had. Rejects where that cannot be told now. */
  async get(path: string): Promise<Buffer | undefined> {
    const cached = this.#cached.get(path);
    if (cached) {
      this.#cached.delete(path);
      this.#cached.set(path, cached);
      return cached;
    }
    let reading = this.#reading.get(path);
    if (!reading) {
      reading = this.#read(path).finally(() => this.#reading.delete(path));
      this.#reading.set(path, reading);
    }
    return await reading;
  }

  async #read(path: string): Promise<Buffer | undefined> {
    const sidecar = await openSidecar(this.#images, path);
    if (!sidecar) {
      this.#logger.warn(`The history entry in ${path} is gone, or damaged`);
      return undefined;
    }
    const { file, header, textStart } = sidecar;
    try {
      const text = await file.slice(textStart, header.text_bytes);
      if (!isObject(text)) {
        this.#logger.warn(`The history entry in ${path} is damaged`);
        return undefined;
      }
      this.#keep(path, text);
      return text;
    } finally {
      await file.close().catch((error: unknown) => {
        this.#logger.warn(`${path} could not be closed: ${messageOf(error)}`);
      });
    }
  }

  #keep(path: string, text: Buffer): void {
    if (text.length > this.#maxBytes * LARGEST_SHARE) return;
    this.#cached.set(path, text);
    this.#cachedBytes += text.length;
    for (const [oldest, { length }] of this.#cached) {
      if (this.#cachedBytes <= this.#maxBytes) break;
      this.#cached.delete(oldest);
      this.#cachedBytes -= length;
    }
  }
}

/** One that is not would spoil all the others in the same answer. */
function isObject(text: Buffer): boolean {
  const members = topLevelMembersOf(text, { maxValueBytes: 0 });
  return members.whole;
}
