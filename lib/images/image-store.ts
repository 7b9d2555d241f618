import type { Readable } from 'node:stream';

/** A file that is being written. Nobody sees it under its name before `finish` has resolved. */
export interface ImageWriter {
  /** Resolves once the bytes have been taken, so that their memory may be used again. Calls keep their order. */
  write(bytes: Uint8Array): Promise<void>;
  /** Makes the file durable and visible. Resolves to its path: the stem with `.extension` behind it. */
  finish(extension: string): Promise<string>;
  /** Throws away what was written. Never rejects; may be called at any time, also after a failed `write`. */
  discard(): Promise<void>;
}

/** A file that is kept. */
export interface StoredFile {
  readonly sizeBytes: number;
  /** Streams the bytes from `start` to `end` (both inclusive, as in `fs.createReadStream`); all of them by default. */
  read(range?: { start: number; end: number }): Readable;
  /** The bytes from `start`, at most `length` of them, in memory. */
  slice(start: number, length: number): Promise<Buffer>;
  /** Lets go of the file; streams that are under way end first. May be called twice. */
  close(): Promise<void>;
}

/**
 * Where images, and the JSON beside them, are kept. A path is relative, with forward slashes, and comes from `finish`.
 * "Not found" is `undefined` or `false`, never a throw.
 */
export interface ImageStore {
  /** Makes the store ready and removes what an earlier process left unfinished. Rejects with `FOLDER_UNUSABLE`. */
  open(): Promise<void>;
  /** Begins a file, under a stem such as `2026-11-22/Ab12Cd34-0`. Rejects with the system's error. */
  create(stem: string): Promise<ImageWriter>;
  /** Opens a kept file for reading. */
  read(path: string): Promise<StoredFile | undefined>;
  /** Removes a kept file. Only files of the store itself are ever removed. */
  remove(path: string): Promise<boolean>;
  /**
   * The paths of the files that are kept, durably, in a folder such as `2026-11-22`; in no order. A store that cannot
   * tell does without: what a killed process had kept of a running job is then left behind, and no job has it.
   */
  list?(folder: string): Promise<readonly string[]>;
  /** Rejects with the reason while nothing can be written. A store that cannot tell does without. */
  check?(): Promise<void>;
}
