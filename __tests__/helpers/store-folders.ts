import { cpSync, readdirSync, readFileSync, rmSync, statSync, watch } from 'node:fs';
import { basename, join } from 'node:path';
import type { Job } from '../../lib/job.js';
import { LowdbJobStore } from '../../lib/stores/lowdb-job-store.js';
import { type CollectedLog, collectLog } from './job-records.js';

/**
 * Copies a store's files as a process leaves them that is killed at this moment. What the store does meanwhile on Node's
 * other threads would make a copy of several moments, so that it is made again.
 */
export function copyStore(from: string, to: string): void {
  for (;;) {
    const before = stateOf(from);
    try {
      cpSync(from, to, { recursive: true, filter: (path) => basename(path) !== 'jobs.json.lock' });
      if (stateOf(from) === before) return;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
    rmSync(to, { recursive: true, force: true });
  }
}

function stateOf(folder: string): string {
  const states = readdirSync(folder).map((name) => {
    const stats = statSync(join(folder, name), { throwIfNoEntry: false });
    return `${name} ${stats?.ino} ${stats?.size} ${stats?.mtimeMs}`;
  });
  return states.sort().join('\n');
}

/** The names in a folder that begin so, without the lock. */
export function namesIn(folder: string, start = ''): string[] {
  return readdirSync(folder).filter((name) => name.startsWith(start) && name !== 'jobs.json.lock');
}

/** The records in a folder, oldest first, as a new process finds them; and what was logged about them. */
export async function readStore(folder: string): Promise<{ jobs: Job[]; log: CollectedLog }> {
  const log = collectLog();
  const store = new LowdbJobStore({ folder, logger: log });
  await store.open();
  const { jobs } = await store.list({ limit: Number.POSITIVE_INFINITY });
  await store.close();
  return { jobs: jobs.toReversed(), log };
}

/** Resolves once `jobs.json` satisfies the check. */
export async function snapshotOf(folder: string, check: (jobs: Job[]) => boolean): Promise<Job[]> {
  const path = join(folder, 'jobs.json');
  return new Promise((resolve, reject) => {
    const look = (): void => {
      // It is replaced by two renames, so for a moment there is none.
      if (!readdirSync(folder).includes('jobs.json')) return;
      const jobs = JSON.parse(readFileSync(path, 'utf8')) as Job[];
      if (!check(jobs)) return;
      watcher.close();
      resolve(jobs);
    };
    const watcher = watch(folder, look);
    watcher.once('error', reject);
    look();
  });
}
