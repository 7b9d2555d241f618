import fs, { type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { systemCodeOf } from '../errors.js';

/** Makes created, renamed and removed names in a folder survive a power cut. */
export async function syncFolder(folder: string): Promise<void> {
  // Windows gives no handle to a folder; NTFS keeps names in its own journal.
  if (process.platform === 'win32') return;
  const handle = await fs.open(folder, 'r');
  try {
    await handle.sync();
  } catch (error) {
    // Some network and FUSE filesystems cannot sync a folder at all, and there is no other call for it.
    if (!['EINVAL', 'ENOTSUP', 'ENOSYS'].includes(systemCodeOf(error) ?? '')) throw error;
  } finally {
    await handle.close();
  }
}

export async function syncFile(path: string): Promise<void> {
  const handle = await fs.open(path, 'r+');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Creates a folder and what is missing above it, durably. */
export async function makeFolder(folder: string): Promise<void> {
  const topmost = await fs.mkdir(folder, { recursive: true });
  if (topmost === undefined) return;
  for (let made = folder; made.length >= topmost.length; made = dirname(made))
    await syncFolder(dirname(made));
}

/** Writes all the bytes: a single write may take only some of them. */
export async function writeAll(handle: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    done += (await handle.write(bytes, done, bytes.length - done)).bytesWritten;
  }
}

/** The file's size in bytes, or undefined where there is none. */
export async function sizeOf(path: string): Promise<number | undefined> {
  try {
    return (await fs.stat(path)).size;
  } catch (error) {
    if (systemCodeOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}

/** Removes a file, if it is there. */
export async function removeFile(path: string): Promise<void> {
  await fs.rm(path, { force: true });
}

/**
 * Gives a file's bytes a second name, where the filesystem has that, else copies them. The file must never be written to
 * again. A name that is taken stays as it is.
 */
export async function linkOrCopy(from: string, to: string): Promise<void> {
  try {
    await fs.link(from, to);
  } catch (error) {
    if (systemCodeOf(error) !== 'EEXIST') await copy(from, to);
  }
}

async function copy(from: string, to: string): Promise<void> {
  try {
    await fs.copyFile(from, to);
    await syncFile(to);
  } catch (error) {
    await removeFile(to);
    throw error;
  }
}

/** `path`, or the first of `path-2`, `path-3` ... that nothing has. */
export async function freeName(path: string): Promise<string> {
  let name = path;
  for (let count = 2; (await sizeOf(name)) !== undefined; count += 1) name = `${path}-${count}`;
  return name;
}
