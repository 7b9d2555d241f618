import { lstat, realpath } from 'node:fs/promises';
import path from 'node:path';
import { systemCodeOf } from '../errors.js';

const LONGEST = 1024;

/**
 * True for a path that may be one of a store: relative, with forward slashes, every segment there and none beginning
 * with a dot (so no `..`, and nothing hidden), without backslashes, colons (drives, alternate streams) and NUL.
 */
export function isStoredPath(storedPath: string): boolean {
  if (storedPath.length > LONGEST || /[\\:\0]/.test(storedPath)) return false;
  return storedPath.split('/').every((segment) => segment !== '' && !segment.startsWith('.'));
}

/** True where `inner` is `outer` or lies in it. Both are real paths. */
export function isWithin(outer: string, inner: string): boolean {
  const relative = path.relative(outer, inner);
  return !path.isAbsolute(relative) && relative.split(path.sep)[0] !== '..';
}

/**
 * The real path of a kept file; undefined where there is none. Only a regular file that lies in `root` itself is one:
 * a symbolic link is not, and neither is what is reached through a folder that leads out of `root`.
 *
 * @param root the real path of the store's folder.
 */
export async function locateStoredFile(root: string, storedPath: string): Promise<string | undefined> {
  if (!isStoredPath(storedPath)) return undefined;
  const joined = path.join(root, storedPath);
  try {
    const folder = await realpath(path.dirname(joined));
    if (!isWithin(root, folder)) return undefined;
    const file = path.join(folder, path.basename(joined));
    return (await lstat(file)).isFile() ? file : undefined;
  } catch (error) {
    if (meansMissing(error)) return undefined;
    throw error;
  }
}

/** True for the system's ways of saying that there is no such file. */
export function meansMissing(error: unknown): boolean {
  return ['ENOENT', 'ENOTDIR', 'ELOOP', 'ENAMETOOLONG'].includes(systemCodeOf(error) ?? '');
}
