import type { PythonValue } from '../../demo-shared/python-json.js';
import type { FolderType } from '../comfy-files.js';
import type { NodeContext } from './node-type.js';

export interface SaveOptions {
  readonly type: FolderType;
  readonly prefix: string;
  readonly extension: string;
  /** For `%width%` and `%height%` in the prefix. */
  readonly size?: { readonly width: number; readonly height: number };
}

/** Writes files under the next free numbers. Returns what the history says of them. */
export function saveFiles(
  { files, execution, ended }: NodeContext,
  contents: readonly Buffer[],
  { type, prefix, extension, size }: SaveOptions,
): PythonValue[] {
  ended.throwIfAborted();
  const { subfolder, nextName } = files.numbered(type, fillIn(prefix, size));
  return contents.map((bytes, index) => {
    const filename = nextName(extension).replaceAll('%batch_num%', String(index));
    const path = files.path(type, subfolder, filename) as string;
    files.write(path, bytes);
    execution.files.push(path);
    return { filename, subfolder, type };
  });
}

function fillIn(prefix: string, size: SaveOptions['size'], now = new Date()): string {
  const values: Record<string, number | undefined> = {
    width: size?.width,
    height: size?.height,
    year: now.getFullYear(),
    month: now.getMonth() + 1,
    day: now.getDate(),
    hour: now.getHours(),
    minute: now.getMinutes(),
    second: now.getSeconds(),
  };
  return prefix.replace(/%(\w+)%/g, (whole, name: string) => {
    const value = values[name];
    if (value === undefined) return whole;
    return name === 'width' || name === 'height' ? String(value) : String(value).padStart(2, '0');
  });
}
