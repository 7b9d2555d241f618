import { type FileHandle, open } from 'node:fs/promises';

/** What every open file has its methods from, so that a test can watch them or let them fail. */
export async function fileHandlePrototype(): Promise<FileHandle> {
  const handle = await open(process.execPath, 'r');
  try {
    return Object.getPrototypeOf(handle) as FileHandle;
  } finally {
    await handle.close();
  }
}
