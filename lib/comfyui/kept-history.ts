import type { ImageStore } from '../images/image-store.js';
import type { JobEvents } from '../jobs/job-events.js';
import type { Logger } from '../logger.js';
import type { JobStore } from '../stores/job-store.js';
import { EntryTexts } from './entry-texts.js';
import type { ComfyUIFollower } from './follower.js';
import { HistoryChanges } from './history-change.js';
import { HistoryIndex } from './history-index.js';
import { MergedHistory } from './merged-history.js';
import { ViewedFiles } from './viewed-files.js';

export interface KeptHistoryOptions {
  /** ComfyUI's address. */
  readonly url: URL;
  readonly store: JobStore;
  readonly images: ImageStore;
  readonly events: JobEvents;
  readonly follower: Pick<ComfyUIFollower, 'ending'>;
  readonly logger: Logger;
}

/** What is kept of ComfyUI's history and files. Its index has to be opened when the stores are. */
export interface KeptHistory {
  readonly index: HistoryIndex;
  readonly history: MergedHistory;
  readonly changes: HistoryChanges;
  readonly files: ViewedFiles;
}

export function createKeptHistory(options: KeptHistoryOptions): KeptHistory {
  const { url, store, images, events, follower, logger } = options;
  const index = new HistoryIndex({ store, events });
  const texts = new EntryTexts({ images, logger });
  return {
    index,
    history: new MergedHistory({ index, texts, origin: url.origin, logger }),
    changes: new HistoryChanges({ index, store, ending: () => follower.ending }),
    files: new ViewedFiles({ index, images, store }),
  };
}
