import type { FileHandle } from 'node:fs/promises';

/*
 * A snapshot ends with a line of 32 spaces and tabs: the CRC-32 of all the bytes before that line, highest bit first, a
 * tab for 1. It is white space, so the file stays plain JSON; and it is in the file, so that no crash can part the two.
 */
const BITS = 32;
export const CHECKSUM_LINE_LENGTH = BITS + 1;

/** The checksum as a line of white space. */
export function checksumLine(checksum: number): string {
  const bits = checksum.toString(2).padStart(BITS, '0');
  return `${bits.replaceAll('0', ' ').replaceAll('1', '\t')}\n`;
}

/** The checksum that a file ends with, or undefined where it has none, as a file that others wrote. */
export async function readChecksumLine(handle: FileHandle, sizeBytes: number): Promise<number | undefined> {
  if (sizeBytes < CHECKSUM_LINE_LENGTH) return undefined;
  const line = Buffer.alloc(CHECKSUM_LINE_LENGTH);
  const { bytesRead } = await handle.read(line, 0, CHECKSUM_LINE_LENGTH, sizeBytes - CHECKSUM_LINE_LENGTH);
  const text = line.toString('latin1', 0, bytesRead);
  if (!/^[ \t]{32}\n$/.test(text)) return undefined;
  return Number.parseInt(text.slice(0, BITS).replaceAll(' ', '0').replaceAll('\t', '1'), 2);
}
