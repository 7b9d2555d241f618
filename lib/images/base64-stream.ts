import type { StoredFile } from './image-store.js';

/** Bytes that become 64 KiB of base64, without padding. */
const PIECE_BYTES = 48 * 1024;

/** How many characters the base64 of so many bytes has, padding included. */
export function base64Length(sizeBytes: number): number {
  return Math.ceil(sizeBytes / 3) * 4;
}

/**
 * The base64 of a kept file, `base64Length` characters of it, in pieces and in constant memory. Throws where the file
 * has become shorter than it was when it was opened.
 *
 * @param escapedSlashes write each slash as `\/`, as PHP does in JSON; the result is longer then.
 */
export async function* streamBase64(
  file: StoredFile,
  { escapedSlashes = false }: { escapedSlashes?: boolean } = {},
): AsyncGenerator<Buffer, void> {
  for (let start = 0; start < file.sizeBytes; start += PIECE_BYTES) {
    const expected = Math.min(PIECE_BYTES, file.sizeBytes - start);
    const bytes = await file.slice(start, expected);
    if (bytes.length < expected) {
      throw new Error(`Expected ${file.sizeBytes} bytes in a kept file, found ${start + bytes.length}`);
    }
    const text = bytes.toString('base64');
    yield Buffer.from(escapedSlashes ? text.replaceAll('/', '\\/') : text, 'latin1');
  }
}
