import fs from 'node:fs/promises';
import { crc32 } from 'node:zlib';
import { removeFile, writeAll } from '../disk/durable-fs.js';
import type { Job } from '../job.js';
import { checksumLine } from './snapshot-checksum.js';

/** So many characters are turned into bytes and written at once: the event loop is never held for longer than that. */
const SLICE_LENGTH = 128 * 1024;

/** So much is synced at once: a journal on the same disk would have to wait for all of it. */
const SYNC_BYTES = 4 * 1024 * 1024;

/**
 * Writes jobs as a JSON array, one job a line, with a line of white space behind it that holds the checksum; durable once
 * resolved. A file that could not be written whole is removed. Resolves to its size in bytes.
 */
export async function writeSnapshot(path: string, jobs: readonly Job[]): Promise<number> {
  const handle = await fs.open(path, 'w');
  let sizeBytes = 0;
  let unsyncedBytes = 0;
  let checksum = 0;
  async function writeSlice(text: string): Promise<void> {
    const bytes = Buffer.from(text);
    checksum = crc32(bytes, checksum);
    sizeBytes += bytes.length;
    await writeAll(handle, bytes);
    unsyncedBytes += bytes.length;
    if (unsyncedBytes < SYNC_BYTES) return;
    await handle.datasync();
    unsyncedBytes = 0;
  }
  try {
    try {
      let slice = '[';
      for (const [index, job] of jobs.entries()) {
        slice += `${index === 0 ? '' : ','}\n${JSON.stringify(job)}`;
        if (slice.length < SLICE_LENGTH) continue;
        await writeSlice(slice);
        slice = '';
      }
      await writeSlice(`${slice}${jobs.length === 0 ? '' : '\n'}]\n`);
      await writeSlice(checksumLine(checksum));
      await handle.sync();
    } finally {
      await handle.close();
    }
  } catch (error) {
    await removeFile(path);
    throw error;
  }
  return sizeBytes;
}
