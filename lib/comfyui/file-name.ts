import { posix } from 'node:path';
import type { ComfyUIFile } from '../job.js';

/** An annotated name ends with one of these; ComfyUI cuts one character more, the blank in between. */
const ANNOTATIONS = ['output', 'input', 'temp'];

/** The file that the query of a `GET /view` names, read as ComfyUI reads it; undefined where it names none. */
export function viewedFile(query: URLSearchParams): ComfyUIFile | undefined {
  const given = query.get('filename') ?? '';
  const annotation = ANNOTATIONS.find((type) => given.endsWith(`[${type}]`));
  const filename = posix.basename(annotation ? given.slice(0, -annotation.length - 3) : given);
  if (filename === '') return undefined;
  const type = annotation ?? query.get('type') ?? 'output';
  return { filename, subfolder: query.get('subfolder') ?? '', type };
}

/** By this two names are told to be of the same file. */
export function exactKey({ filename, subfolder, type }: ComfyUIFile): string {
  return JSON.stringify([type, normalized(subfolder), filename]);
}

/**
 * The same for all names that some system may take for one and the same file: Windows and macOS look past case, Windows
 * past dots at the end, and takes a backslash for a slash.
 */
export function looseKey({ filename, subfolder, type }: ComfyUIFile): string {
  const folder = loose(subfolder).split('/').map(trimmed).join('/');
  const name = trimmed(posix.basename(loose(filename)).replace(/:.*/s, ''));
  return JSON.stringify([type, normalized(folder), name]);
}

/** True where a subfolder may lead to the same place as one that is written in another way. */
export function leadsOut({ subfolder }: ComfyUIFile): boolean {
  return /^(?:\/|\.\.(?:\/|$)|[a-z]:)/.test(normalized(loose(subfolder)));
}

function normalized(folder: string): string {
  return folder === '' ? '' : posix.normalize(folder).replace(/\/$/, '').replace(/^\.$/, '');
}

function loose(text: string): string {
  return text.replaceAll('\\', '/').normalize('NFC').toLowerCase();
}

function trimmed(segment: string): string {
  return /^\.{1,2}$/.test(segment) ? segment : segment.replace(/[. ]+$/, '');
}
