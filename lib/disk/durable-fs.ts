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

/** Writes a small file, makes it durable and removes it. Rejects with what the system says where that cannot be done. */
export async function tryToWrite(path: string): Promise<void> {
  const handle = await fs.open(path, 'w');
  try {
    try {
      // One whole block: a few bytes may find room in what a full disk has left.
      await handle.writeFile(Buffer.alloc(4096, 'This file shows that the folder can be written. '));
      await handle.datasync();
    } finally {
      await handle.close();
    }
  } finally {
    await removeFile(path);
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
  try {
    await fs.unlink(path);
  } catch (error) {
    if (systemCodeOf(error) !== 'ENOENT') throw error;
  }
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

/**
 * Puts bytes under a name, durably and in one step: whoever reads sees what was there before or all of it. Makes the
 * folder where it is missing. For one writer at a time: what becomes the file grows under the name with `.new` behind it.
 *
 * @param beforeReplacing called when the bytes are safe, for what has to be done with the old file first.
 */
export async function replaceFile(
  path: string,
  bytes: string | Uint8Array,
  beforeReplacing: () => Promise<void> = async () => {},
): Promise<void> {
  const folder = dirname(path);
  await makeFolder(folder);
  const beside = `${path}.new`;
  try {
    const handle = await fs.open(beside, 'w');
    try {
      await handle.writeFile(bytes);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await beforeReplacing();
    await fs.rename(beside, path);
  } catch (error) {
    // Where it stays, the next one writes over it.
    await removeFile(beside).catch(() => {});
    throw error;
  }
  await syncFolder(folder);
}

/** The bytes of a file, or undefined where there is none. Rejects where it is no regular file, or a larger one. */
export async function readSmallFile(path: string, maxBytes: number): Promise<Buffer | undefined> {
  try {
    // Looked at first, because to open a pipe is to wait for whoever writes to it.
    const stats = await fs.stat(path);
    if (!stats.isFile()) throw new Error('it is not a file');
    if (stats.size > maxBytes) throw new Error(`it has ${stats.size} bytes instead of at most ${maxBytes}`);
    return await fs.readFile(path);
  } catch (error) {
    if (systemCodeOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}
