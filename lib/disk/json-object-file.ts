import fs from 'node:fs/promises';
import { messageOf } from '../errors.js';
import { isObject, kindOf } from '../value-kind.js';
import { freeName, readSmallFile } from './durable-fs.js';

/**
 * Reads a file that holds one JSON object, in UTF-8, with a byte order mark or without. Undefined where there is no
 * file; rejects, with a message that names the file, where it cannot be read or is something else.
 */
export async function readJsonObject(
  path: string,
  maxBytes: number,
): Promise<Record<string, unknown> | undefined> {
  try {
    const bytes = await readSmallFile(path, maxBytes);
    if (bytes === undefined) return undefined;
    const value: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
    if (isObject(value)) return value;
    throw new Error(`it holds ${kindOf(value)}`);
  } catch (error) {
    const message = `Expected ${path} to be a file with a JSON object, but it is not (${messageOf(error)})`;
    throw new Error(message, { cause: error });
  }
}

/** Gives a file that nobody can make sense of another name, so that it may be replaced. Resolves to that name. */
export async function putAside(path: string): Promise<string> {
  const aside = await freeName(`${path}.corrupt-${Date.now()}`);
  try {
    // The old name stays until it is replaced, so that there is something under it at every moment.
    await fs.link(path, aside);
  } catch {
    // A folder, or a filesystem without links.
    await fs.rename(path, aside);
  }
  return aside;
}
