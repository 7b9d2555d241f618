import { stat } from 'node:fs/promises';
import { atMost } from '../at-most.js';
import { messageOf } from '../errors.js';
import type { Job } from '../job.js';
import type { Logger } from '../logger.js';
import { FileImageStore } from './file-image-store.js';
import { sniffImage } from './image-format.js';
import type { ImageStore, StoredFile } from './image-store.js';
import { loadThumbnailMaker, type ThumbnailMaker } from './thumbnail-maker.js';

/** What sharp is given to read. Videos are not, nor anything that looks like none of them. */
const FORMATS = ['png', 'jpg', 'webp', 'gif', 'avif'];
const SNIFF_BYTES = 64;
/** An image is read into memory to be made small. */
const MAX_IMAGE_BYTES = 64 * 1024 * 1024;
/** So many may wait for their turn. */
const MAX_WAITING = 200;
/** So many images are remembered of which there will be no thumbnail. */
const MAX_HOPELESS = 1_000;
const CLOSES_WITHIN_MS = 2_000;

export interface ThumbnailsOptions {
  /** Made when the first thumbnail is. */
  readonly folder: string;
  readonly images: ImageStore;
  readonly logger: Logger;
  /** Default: sharp, where that is installed. */
  readonly loadMaker?: () => Promise<ThumbnailMaker | undefined>;
}

/** Small pictures of images, made when somebody wants to see them and kept until their job is removed. */
export class Thumbnails {
  readonly #options: ThumbnailsOptions;
  readonly #store: FileImageStore;
  readonly #making = new Map<string, Promise<boolean>>();
  /** The paths of thumbnails that cannot be made. */
  readonly #hopeless = new Set<string>();
  #loading: Promise<ThumbnailMaker | undefined> | undefined;
  /** One is made at a time: the threads in which that happens write answers as well. */
  #last: Promise<unknown> = Promise.resolve();
  #removing: Promise<void> = Promise.resolve();
  #isFailing = false;
  #isClosed = false;

  constructor(options: ThumbnailsOptions) {
    this.#options = options;
    this.#store = new FileImageStore(options);
  }

  /**
   * Opens the thumbnail of a job's image, made now if there is none yet. Undefined where there is none, for whatever
   * reason: the image itself is shown then. Never rejects.
   */
  async open(job: Job, n: number): Promise<StoredFile | undefined> {
    const imagePath = job.output_paths[n];
    if (imagePath === undefined || this.#isClosed) return undefined;
    const path = pathOf(job, n);
    try {
      if (!(await this.#maker())) return undefined;
      await this.#store.open();
      const kept = await this.#store.read(path);
      if (kept) return kept;
      return (await this.#make(path, imagePath)) ? await this.#store.read(path) : undefined;
    } catch (error) {
      // A full disk fails every one of them; it is said once until it has been well again.
      if (!this.#isFailing) this.#warn(`The thumbnail ${path} cannot be kept: ${messageOf(error)}`);
      this.#isFailing = true;
      return undefined;
    }
  }

  /** Forgets the thumbnails of a job that is about to be removed, and whose images have gone. Never rejects. */
  forget(job: Job): Promise<void> {
    // One after the other: many jobs are removed at once.
    this.#removing = this.#removing.then(() => this.#forget(job));
    return this.#removing;
  }

  /** Makes no more. Resolves when the last one is there, or after 2 s: no picture is worth more of the gateway's end. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await atMost(CLOSES_WITHIN_MS, Promise.allSettled([this.#last, this.#removing]));
  }

  #maker(): Promise<ThumbnailMaker | undefined> {
    this.#loading ??= (this.#options.loadMaker ?? loadThumbnailMaker)().catch((error: unknown) => {
      this.#warn(`Thumbnails cannot be made, because sharp cannot be loaded: ${messageOf(error)}`);
      return undefined;
    });
    return this.#loading;
  }

  /** Resolves to whether it is there now. */
  async #make(path: string, imagePath: string): Promise<boolean> {
    const making = this.#making.get(path);
    if (making) return await making;
    if (this.#hopeless.has(path) || this.#making.size >= MAX_WAITING) return false;
    const made = this.#last.then(() => this.#makeNow(path, imagePath));
    this.#making.set(path, made);
    this.#last = made.catch(() => {}).then(() => this.#making.delete(path));
    return await made;
  }

  async #makeNow(path: string, imagePath: string): Promise<boolean> {
    const maker = await this.#maker();
    if (!maker || this.#isClosed) return false;
    const image = await this.#readImage(imagePath);
    if (!image) return false;
    let thumbnail: Buffer;
    try {
      thumbnail = await maker(image);
    } catch {
      // It is broken, or meant to break us. Whoever looks at the image itself sees what it is.
      this.#giveUp(path);
      return false;
    }
    const writer = await this.#store.create(path.slice(0, path.lastIndexOf('.')));
    try {
      await writer.write(thumbnail);
      await writer.finish('webp');
    } catch (error) {
      await writer.discard();
      throw error;
    }
    this.#isFailing = false;
    return true;
  }

  async #readImage(imagePath: string): Promise<Buffer | undefined> {
    const file = await this.#options.images.read(imagePath);
    try {
      if (!file || file.sizeBytes > MAX_IMAGE_BYTES) return undefined;
      const format = sniffImage(await file.slice(0, SNIFF_BYTES));
      return format && FORMATS.includes(format.extension) ? await file.slice(0, file.sizeBytes) : undefined;
    } finally {
      await file?.close();
    }
  }

  #giveUp(path: string): void {
    this.#hopeless.add(path);
    const [oldest] = this.#hopeless;
    if (this.#hopeless.size > MAX_HOPELESS) this.#hopeless.delete(oldest as string);
  }

  async #forget(job: Job): Promise<void> {
    try {
      if (!(await isThere(this.#options.folder))) return;
      await this.#store.open();
      for (const n of job.output_paths.keys()) {
        const path = pathOf(job, n);
        await this.#making.get(path)?.catch(() => {});
        this.#hopeless.delete(path);
        await this.#store.remove(path);
      }
    } catch (error) {
      this.#warn(`The thumbnails of job ${job.id} could not be removed: ${messageOf(error)}`);
    }
  }

  #warn(message: string): void {
    this.#options.logger.warn(message);
  }
}

/** In one of a few thousand folders, so that none gets too full. */
function pathOf({ id }: Job, n: number): string {
  return `${id.slice(0, 2)}/${id}-${n}.webp`;
}

async function isThere(folder: string): Promise<boolean> {
  return stat(folder).then(
    () => true,
    () => false,
  );
}
