import type { Identity } from '../auth/identity.js';
import type { ImageStore, StoredFile } from '../images/image-store.js';
import type { ComfyUIFile } from '../job.js';
import type { JobStore } from '../stores/job-store.js';
import type { FileLookup, HistoryIndex, KeptFileOf } from './history-index.js';

/** A kept file of ComfyUI's, open. It has to be closed. */
export interface OpenedFile {
  readonly file: StoredFile;
  /** For ever of this file alone: a name. */
  readonly tag: string;
  /** Unix seconds; undefined where that is not known. */
  readonly modifiedAt: number | undefined;
}

/** The files that ComfyUI shows by `GET /view`, as far as they are kept. */
export class ViewedFiles {
  readonly #index: Pick<HistoryIndex, 'find'>;
  readonly #images: ImageStore;
  readonly #store: Pick<JobStore, 'get'>;

  constructor(parts: {
    readonly index: Pick<HistoryIndex, 'find'>;
    readonly images: ImageStore;
    readonly store: Pick<JobStore, 'get'>;
  }) {
    this.#index = parts.index;
    this.#images = parts.images;
    this.#store = parts.store;
  }

  find(file: ComfyUIFile, who: Identity): FileLookup {
    return this.#index.find(file, who);
  }

  /** Opens the newest that is there. */
  async open(kept: readonly KeptFileOf[]): Promise<OpenedFile | undefined> {
    for (const { job, path } of kept) {
      const file = await this.#images.read(path);
      if (!file) continue;
      try {
        const { finished_at, timestamp } = (await this.#store.get(job.id)) ?? {};
        return { file, tag: `${job.id}-${job.paths.indexOf(path)}`, modifiedAt: finished_at ?? timestamp };
      } catch (error) {
        await file.close();
        throw error;
      }
    }
    return undefined;
  }
}
