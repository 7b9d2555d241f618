import { basename } from 'node:path';
import { freeName, syncFile } from '../disk/durable-fs.js';
import type { Logger } from '../logger.js';
import { type JournalFindings, replayJournal } from './journal-reader.js';
import type { JobMap } from './kept-job.js';
import { readSnapshot, type SnapshotFindings, salvageSnapshot } from './snapshot-reader.js';
import type { Evidence, StoreFiles } from './store-files.js';

/** What the files of a folder add up to. */
export interface Recovery {
  readonly jobs: JobMap;
  readonly snapshotBytes: number;
  /** The sizes of the journals that jobs.json does not hold yet, the present one left aside. */
  readonly pendingBytes: number;
  /** So many bytes of the present journal are good. */
  readonly journalBytes: number;
  /** True where jobs.json has to be written before anything else. */
  readonly needsSnapshot: boolean;
  readonly evidence: Evidence;
}

/**
 * Puts the records together from whatever of the files can be read. Content that is damaged never makes it reject, and is
 * kept; what the system refuses to read does.
 */
export async function recover(files: StoreFiles, logger: Logger): Promise<Recovery> {
  await files.scan();
  return new Recoverer(files, logger).run();
}

class Recoverer {
  readonly #files: StoreFiles;
  readonly #logger: Logger;
  readonly #time = new Date().toISOString().replaceAll(':', '-');
  readonly #keep: { from: string; to: string }[] = [];
  #jobs: JobMap = new Map();

  constructor(files: StoreFiles, logger: Logger) {
    this.#files = files;
    this.#logger = logger;
  }

  async run(): Promise<Recovery> {
    const { snapshot } = this.#files;
    const found = await readSnapshot(snapshot);
    let moveSnapshotTo: string | undefined;
    if (found?.state === 'whole') {
      this.#jobs = found.jobs;
    } else if (found?.state === 'foreign') {
      await this.#takeForeign(found);
    } else if (found === undefined) {
      await this.#useBackup();
    } else {
      moveSnapshotTo = await this.#evidenceName(snapshot);
      this.#logger.warn(
        `${snapshot} is damaged, or was changed by hand. It is kept as ${basename(moveSnapshotTo)}, and ` +
          'jobs.json.bak and the journals are used in its place.',
      );
      await this.#useBackup(snapshot);
    }
    let pendingBytes = 0;
    for (const path of this.#files.pendingJournals)
      pendingBytes += (await this.#replay(path))?.sizeBytes ?? 0;
    const journal = await this.#replayPresent();
    const isSound = found?.state === 'whole' && this.#keep.length === 0;
    return {
      jobs: this.#jobs,
      snapshotBytes: found?.sizeBytes ?? 0,
      pendingBytes: pendingBytes + journal.rotatedBytes,
      journalBytes: journal.goodBytes,
      needsSnapshot: !isSound,
      evidence: { ...(moveSnapshotTo === undefined ? {} : { moveSnapshotTo }), keep: this.#keep },
    };
  }

  async #takeForeign(found: SnapshotFindings & { state: 'foreign' }): Promise<void> {
    const { snapshot } = this.#files;
    this.#jobs = found.jobs;
    if (found.fromExtension) {
      this.#keep.push({ from: snapshot, to: `${snapshot}.before-sd-job-tracker` });
      this.#logger.info(`${found.jobs.size} jobs of the A1111 extension are carried over from ${snapshot}.`);
    }
    if (found.leftOut === 0) return;
    const to = await this.#preserve(snapshot, snapshot);
    this.#logger.warn(
      `${found.leftOut} records in ${snapshot} make no sense and are left out. The file is kept as ${basename(to)}.`,
    );
  }

  /**
   * Takes the backup and the journals that lead from it to jobs.json. If the backup cannot be read either, whatever can
   * be of both files is better than nothing.
   */
  async #useBackup(damagedSnapshot?: string): Promise<void> {
    const { backup, snapshot } = this.#files;
    const found = await readSnapshot(backup);
    if (damagedSnapshot === undefined && (found !== undefined || this.#files.hasJournals)) {
      this.#logger.warn(`${snapshot} is missing; jobs.json.bak and the journals are used in its place.`);
    }
    if (found?.state === 'whole' || found?.state === 'foreign') {
      this.#jobs = found.jobs;
    } else if (found !== undefined) {
      const to = await this.#preserve(backup, backup);
      this.#logger.warn(
        `${backup} is damaged. It is kept as ${basename(to)}; what can be read of it is used.`,
      );
      this.#jobs = await salvageSnapshot(backup);
    }
    for (const path of this.#files.keptJournals) await this.#replay(path);
    const isComplete = found !== undefined && found.state !== 'damaged';
    if (isComplete || damagedSnapshot === undefined) return;
    for (const [id, job] of await salvageSnapshot(damagedSnapshot)) this.#jobs.set(id, job);
  }

  /** Replays the journal that was written last. A line that a kill cut short is no damage here. */
  async #replayPresent(): Promise<{ goodBytes: number; rotatedBytes: number }> {
    const { journal } = this.#files;
    const findings = await this.#apply(journal);
    if (findings === undefined) return { goodBytes: 0, rotatedBytes: 0 };
    if (findings.garbledLines === 0 && !findings.unterminated) {
      if (findings.tornBytes > 0) {
        this.#logger.info(
          `The last ${findings.tornBytes} bytes of ${journal} are half a line and are cut off.`,
        );
      }
      return { goodBytes: findings.sizeBytes - findings.tornBytes, rotatedBytes: 0 };
    }
    // Nothing is ever appended to a journal like this.
    await syncFile(journal);
    const path = (await this.#files.rotate()) ?? journal;
    if (findings.garbledLines > 0) await this.#reportGarbled(path, findings.garbledLines);
    return { goodBytes: 0, rotatedBytes: findings.sizeBytes };
  }

  /** Replays a journal that was closed, whose last line ought to be whole. */
  async #replay(path: string): Promise<JournalFindings | undefined> {
    const findings = await this.#apply(path);
    if (findings === undefined) return undefined;
    const badLines = findings.garbledLines + (findings.tornBytes > 0 ? 1 : 0);
    if (badLines > 0) await this.#reportGarbled(path, badLines);
    return findings;
  }

  #apply(path: string): Promise<JournalFindings | undefined> {
    return replayJournal(path, (entry) => {
      if ('put' in entry) this.#jobs.set(entry.put.id, entry.put);
      else this.#jobs.delete(entry.del);
    });
  }

  async #reportGarbled(path: string, lines: number): Promise<void> {
    const to = await this.#preserve(path, this.#files.journal);
    this.#logger.warn(
      `${lines} damaged ${lines === 1 ? 'line' : 'lines'} in ${path}; every other line is used. It is kept as ${basename(to)}.`,
    );
  }

  async #preserve(from: string, name: string): Promise<string> {
    const to = await this.#evidenceName(name);
    this.#keep.push({ from, to });
    return to;
  }

  async #evidenceName(name: string): Promise<string> {
    const taken = this.#keep.map(({ to }) => to);
    let free = await freeName(`${name}.corrupt-${this.#time}`);
    while (taken.includes(free)) free = await freeName(`${free}-2`);
    return free;
  }
}
