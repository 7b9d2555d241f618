import { randomUUID } from 'node:crypto';
import { type FileHandle, lstat, mkdir, open, readdir, realpath, rename, rm, unlink } from 'node:fs/promises';
import path from 'node:path';
import { tryToWrite } from '../disk/durable-fs.js';
import { JobTrackerError, messageOf, systemCodeOf } from '../errors.js';
import type { Logger } from '../logger.js';
import { DurableFolders } from './durable-folders.js';
import { FileImageWriter } from './file-image-writer.js';
import { sniffImage } from './image-format.js';
import type { ImageStore, ImageWriter, StoredFile } from './image-store.js';
import { KeptFile } from './kept-file.js';
import { isStoredPath, isWithin, locateStoredFile, meansMissing } from './stored-path.js';

const PARTIAL_FOLDER = '.partial';
const SNIFF_BYTES = 64;

export interface FileImageStoreOptions {
  /** Made where it is missing; may be a symbolic link to a folder. One process at a time. */
  readonly folder: string;
  readonly logger: Logger;
}

/**
 * Keeps images as files below a folder. A file grows in `.partial` and is moved to its name when it is complete and
 * durable. `write` and `finish` reject with `JobTrackerError` `NOT_STORED`, what the system said being its `cause`.
 */
export class FileImageStore implements ImageStore {
  readonly #folder: string;
  readonly #logger: Logger;
  readonly #folders = new DurableFolders();
  /** Names that files are just being moved to. */
  readonly #publishing = new Set<string>();
  #opening: Promise<void> | undefined;
  #checking: Promise<void> | undefined;
  /** The real path of the folder. */
  #root: string | undefined;

  constructor({ folder, logger }: FileImageStoreOptions) {
    this.#folder = folder;
    this.#logger = logger;
  }

  open(): Promise<void> {
    this.#opening ??= this.#open().catch((error: unknown) => {
      this.#opening = undefined;
      const reason = `Expected ${this.#folder} to be a folder that can be written: ${messageOf(error)}`;
      throw new JobTrackerError('FOLDER_UNUSABLE', reason, { cause: error });
    });
    return this.#opening;
  }

  async create(stem: string): Promise<ImageWriter> {
    const root = this.#openRoot();
    if (!isStoredPath(stem)) {
      const message = `Expected \`stem\` to be a relative path with forward slashes, got ${JSON.stringify(stem)}`;
      throw new JobTrackerError('NOT_STORED', message);
    }
    const partialPath = path.join(root, PARTIAL_FOLDER, randomUUID());
    return new FileImageWriter({
      handle: await openNew(partialPath),
      partialPath,
      stem,
      publish: (from, storedPath) => this.#publish(from, storedPath),
      logger: this.#logger,
    });
  }

  /**
   * An absolute path, as jobs from the A1111 extension have it, may lead anywhere, but only to a regular file that
   * begins like an image.
   */
  async read(storedPath: string): Promise<StoredFile | undefined> {
    if (path.isAbsolute(storedPath)) return await openForeignImage(storedPath);
    const file = await locateStoredFile(this.#openRoot(), storedPath);
    return file === undefined ? undefined : await KeptFile.open(file);
  }

  async remove(storedPath: string): Promise<boolean> {
    const root = this.#openRoot();
    const file = await locateStoredFile(root, storedPath);
    if (file === undefined) return false;
    try {
      await unlink(file);
    } catch (error) {
      if (meansMissing(error)) return false;
      throw error;
    }
    const folder = path.dirname(file);
    if (folder !== root) await this.#removeIfEmpty(folder);
    return true;
  }

  async list(folder: string): Promise<string[]> {
    const root = this.#openRoot();
    if (!isStoredPath(folder)) return [];
    try {
      const real = await realpath(path.join(root, folder));
      if (!isWithin(root, real)) return [];
      // Whoever published a file may have been killed before its name was durable.
      await this.#folders.sync(real);
      const entries = await readdir(real, { withFileTypes: true });
      const paths = entries.filter((entry) => entry.isFile()).map(({ name }) => `${folder}/${name}`);
      return paths.filter(isStoredPath);
    } catch (error) {
      if (meansMissing(error)) return [];
      throw error;
    }
  }

  check(): Promise<void> {
    this.#checking ??= this.#check().finally(() => {
      this.#checking = undefined;
    });
    return this.#checking;
  }

  async #check(): Promise<void> {
    try {
      const partialFolder = path.join(this.#openRoot(), PARTIAL_FOLDER);
      // As for an image: somebody may have cleared the folder while it was in use.
      await mkdir(partialFolder, { recursive: true });
      await tryToWrite(path.join(partialFolder, randomUUID()));
    } catch (error) {
      const message = `Images cannot be written to ${this.#folder}: ${messageOf(error)}`;
      throw new JobTrackerError('NOT_STORED', message, { cause: error });
    }
  }

  async #open(): Promise<void> {
    const root = await this.#folders.use(path.resolve(this.#folder), () => realpath(this.#folder));
    const partialFolder = path.join(root, PARTIAL_FOLDER);
    await rm(partialFolder, { recursive: true, force: true });
    await mkdir(partialFolder);
    await tryToWrite(path.join(partialFolder, randomUUID()));
    // An earlier process may have made folders without living to see them synced.
    await this.#folders.sync(root);
    this.#root = root;
  }

  #openRoot(): string {
    if (this.#root !== undefined) return this.#root;
    throw new JobTrackerError('FOLDER_UNUSABLE', `Expected \`open\` to have resolved for ${this.#folder}`);
  }

  async #publish(partialPath: string, storedPath: string): Promise<void> {
    const root = this.#openRoot();
    const target = path.join(root, storedPath);
    const folder = path.dirname(target);
    if (!isStoredPath(storedPath)) throw new Error(`Expected a path within the folder, got ${target}`);
    const taken = () => new Error(`Expected no file at ${target}, there is one`);
    if (this.#publishing.has(target)) throw taken();
    this.#publishing.add(target);
    const check = async () => {
      if (!isWithin(root, await realpath(folder)))
        throw new Error(`Expected ${folder} not to lead out of ${root}`);
    };
    const move = async () => {
      if (await exists(target)) throw taken();
      await rename(partialPath, target);
    };
    try {
      await this.#folders.use(folder, move, check);
      await this.#sync(target);
    } finally {
      this.#publishing.delete(target);
    }
  }

  async #sync(target: string): Promise<void> {
    try {
      await this.#folders.sync(path.dirname(target));
    } catch (error) {
      await rm(target, { force: true }).catch((failure: unknown) => {
        this.#logger.warn(`Could not remove ${target}: ${messageOf(failure)}`);
      });
      throw error;
    }
  }

  async #removeIfEmpty(folder: string): Promise<void> {
    try {
      await this.#folders.removeIfEmpty(folder);
    } catch (error) {
      this.#logger.warn(`Could not remove the empty folder ${folder}: ${messageOf(error)}`);
    }
  }
}

async function openNew(partialPath: string): Promise<FileHandle> {
  try {
    return await open(partialPath, 'wx');
  } catch (error) {
    if (systemCodeOf(error) !== 'ENOENT') throw error;
    // Somebody has cleared the folder while it was in use.
    await mkdir(path.dirname(partialPath), { recursive: true });
    return await open(partialPath, 'wx');
  }
}

async function openForeignImage(absolutePath: string): Promise<StoredFile | undefined> {
  if (absolutePath.includes('\0')) return undefined;
  const file = await KeptFile.open(absolutePath);
  let isImage = false;
  try {
    isImage = file !== undefined && sniffImage(await file.slice(0, SNIFF_BYTES)) !== undefined;
  } finally {
    if (!isImage) await file?.close();
  }
  return isImage ? file : undefined;
}

async function exists(file: string): Promise<boolean> {
  try {
    await lstat(file);
    return true;
  } catch (error) {
    if (systemCodeOf(error) === 'ENOENT') return false;
    throw error;
  }
}
