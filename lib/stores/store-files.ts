import fs from 'node:fs/promises';
import { join } from 'node:path';
import { linkOrCopy, removeFile, sizeOf, syncFolder } from '../disk/durable-fs.js';

/** What to do with damaged or foreign files once a snapshot has taken their place. */
export interface Evidence {
  /** Where the present jobs.json goes; without it, it becomes the backup. */
  readonly moveSnapshotTo?: string;
  /** Further names that files get before anything is replaced. */
  readonly keep: readonly { readonly from: string; readonly to: string }[];
}

/**
 * The files of the record store and the steps in which one takes another's place.
 *
 * - `jobs.json`: the snapshot, and `jobs.json.tmp` while it is written
 * - `jobs.json.journal`: every change since the snapshot was begun
 * - `jobs.json.journal.<n>`: earlier changes that jobs.json does not hold yet
 * - `jobs.json.bak`: the snapshot before
 * - `jobs.json.journal.<n>.bak`: the changes that lead from the backup to jobs.json
 *
 * A journal may be replayed on a snapshot that holds its changes already, as long as all that follow are replayed as
 * well. So every step below may be the last one before a crash.
 */
export class StoreFiles {
  readonly folder: string;
  readonly snapshot: string;
  readonly temporary: string;
  readonly backup: string;
  readonly journal: string;
  /** Numbers of the journals whose changes are not in jobs.json, oldest first. */
  #pending: number[] = [];
  /** Numbers of the journals that lead from the backup to jobs.json, oldest first. */
  #kept: number[] = [];

  constructor(folder: string) {
    this.folder = folder;
    this.snapshot = join(folder, 'jobs.json');
    this.temporary = join(folder, 'jobs.json.tmp');
    this.backup = join(folder, 'jobs.json.bak');
    this.journal = join(folder, 'jobs.json.journal');
  }

  /** Finds the numbered journals and removes a snapshot that was not finished. */
  async scan(): Promise<void> {
    this.#pending = [];
    this.#kept = [];
    for (const name of await fs.readdir(this.folder)) {
      const [, digits, suffix] = /^jobs\.json\.journal\.(\d+)(\.bak)?$/.exec(name) ?? [];
      if (digits !== undefined) (suffix === undefined ? this.#pending : this.#kept).push(Number(digits));
    }
    this.#pending.sort((a, b) => a - b);
    this.#kept.sort((a, b) => a - b);
    await removeFile(this.temporary);
  }

  /** The journals whose changes are not in jobs.json, oldest first, without the one being written. */
  get pendingJournals(): string[] {
    return this.#pending.map((number) => this.#pendingPath(number));
  }

  /**
   * The journals that lead from the backup to jobs.json, oldest first. Where one is missing, those before it are of no
   * use, because what they say may have been overtaken.
   */
  get keptJournals(): string[] {
    let next = this.#pending[0] ?? this.#newest + 1;
    const paths: string[] = [];
    for (const number of this.#kept.toReversed()) {
      if (number !== next - 1) break;
      paths.unshift(this.#keptPath(number));
      next = number;
    }
    return paths;
  }

  get hasJournals(): boolean {
    return this.#newest > 0;
  }

  /** The last journal that a snapshot made now would hold; 0 without any. */
  get newestPending(): number {
    return this.#pending.at(-1) ?? 0;
  }

  /** Puts the present journal behind the pending ones; the next one can be created. Resolves to its new path. */
  async rotate(): Promise<string | undefined> {
    const sizeBytes = await sizeOf(this.journal);
    if (sizeBytes === undefined || sizeBytes === 0) return undefined;
    const number = this.#newest + 1;
    await fs.rename(this.journal, this.#pendingPath(number));
    this.#pending.push(number);
    return this.#pendingPath(number);
  }

  /** Makes the finished temporary file the snapshot; it holds the pending journals up to number `upTo`. */
  async install(upTo: number, evidence: Evidence): Promise<void> {
    for (const { from, to } of evidence.keep) await linkOrCopy(from, to);
    const hadSnapshot = (await sizeOf(this.snapshot)) !== undefined;
    const aside = evidence.moveSnapshotTo ?? this.backup;
    if (hadSnapshot) await fs.rename(this.snapshot, aside);
    try {
      await fs.rename(this.temporary, this.snapshot);
    } catch (error) {
      if (hadSnapshot) await fs.rename(aside, this.snapshot);
      throw error;
    }
    await syncFolder(this.folder);
    if (hadSnapshot && aside === this.backup) await this.#dropKept();
    await this.#keep(upTo);
  }

  async #dropKept(): Promise<void> {
    for (const number of [...this.#kept]) {
      await removeFile(this.#keptPath(number));
      this.#kept.shift();
    }
  }

  async #keep(upTo: number): Promise<void> {
    for (const number of this.#pending.filter((pending) => pending <= upTo)) {
      await fs.rename(this.#pendingPath(number), this.#keptPath(number));
      this.#pending.shift();
      this.#kept.push(number);
    }
  }

  get #newest(): number {
    return Math.max(0, this.#kept.at(-1) ?? 0, this.#pending.at(-1) ?? 0);
  }

  #pendingPath(number: number): string {
    return `${this.journal}.${number}`;
  }

  #keptPath(number: number): string {
    return `${this.journal}.${number}.bak`;
  }
}
