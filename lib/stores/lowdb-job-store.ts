import { join, resolve } from 'node:path';
import { Low } from 'lowdb';
import { makeFolder, tryToWrite } from '../disk/durable-fs.js';
import { JobTrackerError, messageOf } from '../errors.js';
import { isFinished, type Job, type JobChange } from '../job.js';
import { consoleLogger, type Logger } from '../logger.js';
import { acquireFolderLock, type FolderLock } from './folder-lock.js';
import { folderUnusable } from './folder-unusable.js';
import { JobIndex } from './job-index.js';
import type { JobPage, JobQuery, JobStore } from './job-store.js';
import { JournalAdapter } from './journal-adapter.js';
import { idOf, type JournalEntry } from './journal-line.js';
import { changedJob, detachedJob, type JobMap } from './kept-job.js';

export interface LowdbJobStoreOptions {
  /** Holds jobs.json with its journals, backup and lock. Created where it is missing. */
  readonly folder: string;
  /** Warnings and errors to the console by default. */
  readonly logger?: Logger;
}

/** What is written to see whether the folder can be. One that a killed process has left is written over. */
const CHECK_NAME = 'jobs.json.check';
/** How many jobs are walked through in one go. */
const PAGE_SIZE = 500;

interface OpenStore {
  readonly lock: FolderLock;
  readonly adapter: JournalAdapter;
  /** Its `data` is the only copy of the records. */
  readonly low: Low<JobMap>;
  readonly index: JobIndex;
  /** The last insert of each id that is not durable yet. */
  readonly inserting: Map<string, JournalEntry>;
}

/** Keeps every record in memory and on the disk. Jobs that it hands out are frozen. */
export class LowdbJobStore implements JobStore {
  readonly #folder: string;
  readonly #logger: Logger;
  #opening: Promise<void> | undefined;
  #closing: Promise<void> | undefined;
  #checking: Promise<void> | undefined;
  #open: OpenStore | undefined;

  constructor({ folder, logger = consoleLogger }: LowdbJobStoreOptions) {
    this.#folder = resolve(folder);
    this.#logger = logger;
  }

  open(): Promise<void> {
    if (this.#closing !== undefined) return Promise.reject(this.#notOpen());
    this.#opening ??= this.#start().catch((error: unknown) => {
      this.#opening = undefined;
      throw error;
    });
    return this.#opening;
  }

  async insert(job: Job): Promise<boolean> {
    const store = this.#opened();
    const { data } = store.low;
    if (data.has(job.id)) return false;
    await this.#commit(store, { put: detachedJob(job) });
    return true;
  }

  async update(id: string, change: JobChange): Promise<Job | undefined> {
    const store = this.#opened();
    const job = store.low.data.get(id);
    if (job === undefined) return undefined;
    const changed = changedJob(job, change);
    await this.#commit(store, { put: changed });
    return store.low.data.has(id) ? changed : undefined;
  }

  async remove(id: string): Promise<boolean> {
    const store = this.#opened();
    if (!store.low.data.has(id)) return false;
    await this.#commit(store, { del: id });
    return true;
  }

  async get(id: string): Promise<Job | undefined> {
    return this.#opened().low.data.get(id);
  }

  async list(query: JobQuery): Promise<JobPage> {
    return this.#opened().index.list(query);
  }

  async *walk(): AsyncGenerator<readonly Job[]> {
    let page: Job[] = [];
    // A Map may change while it is walked through.
    for (const job of this.#opened().low.data.values()) {
      page.push(job);
      if (page.length < PAGE_SIZE) continue;
      yield page;
      page = [];
    }
    if (page.length > 0) yield page;
  }

  async unfinished(): Promise<readonly Job[]> {
    return [...this.#opened().low.data.values()].filter((job) => !isFinished(job));
  }

  check(): Promise<void> {
    this.#checking ??= this.#check().finally(() => {
      this.#checking = undefined;
    });
    return this.#checking;
  }

  close(): Promise<void> {
    this.#closing ??= this.#stop();
    return this.#closing;
  }

  async #check(): Promise<void> {
    const { adapter } = this.#opened();
    try {
      if (adapter.failure !== undefined) throw adapter.failure;
      await tryToWrite(join(this.#folder, CHECK_NAME));
    } catch (error) {
      const message = `Records cannot be written to ${this.#folder}: ${messageOf(error)}`;
      throw new JobTrackerError('NOT_STORED', message, { cause: error });
    }
  }

  async #start(): Promise<void> {
    try {
      await makeFolder(this.#folder);
    } catch (error) {
      throw folderUnusable(this.#folder, error);
    }
    const lock = await acquireFolderLock(this.#folder, this.#logger);
    const adapter = new JournalAdapter(this.#folder, this.#logger);
    const low = new Low<JobMap>(adapter, new Map());
    try {
      await low.read();
    } catch (error) {
      await adapter.abandon();
      await lock.release();
      throw folderUnusable(this.#folder, error);
    }
    this.#open = { lock, adapter, low, index: new JobIndex(low.data.values()), inserting: new Map() };
  }

  async #stop(): Promise<void> {
    try {
      await this.#opening;
    } catch {
      // Whoever called `open` has been told, and nothing is open.
      return;
    }
    const store = this.#open;
    this.#open = undefined;
    if (store === undefined) return;
    await this.#checking?.catch(() => {});
    try {
      await store.adapter.close();
    } finally {
      await store.lock.release();
    }
  }

  /** The only place where records change: first in memory, then, when this resolves, on the disk. */
  async #commit({ low, adapter, index, inserting }: OpenStore, entry: JournalEntry): Promise<void> {
    const id = idOf(entry);
    const previous = low.data.get(id);
    if ('put' in entry) low.data.set(id, entry.put);
    else low.data.delete(id);
    if (previous || !('put' in entry)) {
      if (previous && 'put' in entry) index.changed(previous, entry.put);
      else if (previous) index.removed(previous);
      // An update or a removal that cannot be written stays in force, and is written with the next change that can be.
      adapter.record({ entry });
      return low.write();
    }
    index.added(entry.put);
    inserting.set(id, entry);
    adapter.record({
      entry,
      onRejected: () => {
        const job = inserting.get(id) === entry && low.data.get(id);
        if (!job) return;
        low.data.delete(id);
        index.removed(job);
      },
    });
    try {
      await low.write();
    } finally {
      if (inserting.get(id) === entry) inserting.delete(id);
    }
  }

  #opened(): OpenStore {
    if (this.#open === undefined) throw this.#notOpen();
    return this.#open;
  }

  #notOpen(): JobTrackerError {
    const state = this.#closing === undefined ? 'has not been opened' : 'has been closed';
    return new JobTrackerError('CLOSED', `The record store in ${this.#folder} ${state}.`);
  }
}
