import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from '@jest/globals';

/** Where files live in memory, so that a slow disk spoils nobody's sense of time. */
export const memoryFolder = existsSync('/dev/shm') ? '/dev/shm' : tmpdir();

/**
 * Makes folders that are gone after the file's last test. To be called at a test file's top.
 *
 * @param below where they are made.
 */
export function tempFolders(below: string = tmpdir()): () => Promise<string> {
  const made: string[] = [];
  afterAll(async () => {
    for (const folder of made.splice(0)) await rm(folder, { recursive: true, force: true });
  });
  return async () => {
    const folder = await mkdtemp(join(below, 'sd-job-tracker-'));
    made.push(folder);
    return folder;
  };
}
