import { crc32 } from 'node:zlib';
import type { Job } from '../job.js';
import { keptJob, parseKept } from './kept-job.js';

/** One change: this is the job from now on, or there is none with this id from now on. */
export type JournalEntry = { readonly put: Job } | { readonly del: string };

/** Hexadecimal digits of the checksum, ahead of the space and the JSON. */
const CHECKSUM_LENGTH = 8;
/** How many places of a garbled line are tried, so that a large foreign file cannot hold up the start. */
const MOST_STARTS = 16;

/** The id that an entry is about. */
export function idOf(entry: JournalEntry): string {
  return 'put' in entry ? entry.put.id : entry.del;
}

/** The line for an entry: CRC-32 of the JSON in hexadecimal, a space, the JSON, a newline. */
export function encodeEntry(entry: JournalEntry): string {
  const json = JSON.stringify(entry);
  return `${checksumOf(json)} ${json}\n`;
}

/** Reads a line without its newline; undefined where it is not what was written. */
export function decodeEntry(line: Buffer): JournalEntry | undefined {
  const json = line.subarray(CHECKSUM_LENGTH + 1);
  if (line.toString('latin1', 0, CHECKSUM_LENGTH + 1) !== `${checksumOf(json)} `) return undefined;
  const entry = parseKept(json.toString()) as { put?: unknown; del?: unknown };
  if (typeof entry.del === 'string') return { del: entry.del };
  const put = keptJob(entry.put);
  return put === undefined ? undefined : { put };
}

/**
 * The good entries inside a line that is garbled as a whole. A damaged newline makes one line of two good ones; a kill
 * that is followed by more lines does the same with a half one.
 */
export function entriesWithin(line: Buffer): JournalEntry[] {
  const starts: number[] = [];
  for (let at = line.indexOf(' {"'); at !== -1; at = line.indexOf(' {"', at + 1)) {
    if (at >= CHECKSUM_LENGTH) starts.push(at - CHECKSUM_LENGTH);
  }
  const entries: JournalEntry[] = [];
  // A text that ends in ` {` looks like a start as well, so every end that is possible is tried.
  for (const start of starts.slice(0, MOST_STARTS)) {
    // What stands in the place of the newline ahead of a later entry is one byte.
    const ends = [...starts.filter((later) => later > start).map((later) => later - 1), line.length];
    for (const end of ends.slice(0, MOST_STARTS)) {
      const entry = decodeEntry(line.subarray(start, end));
      if (entry === undefined) continue;
      entries.push(entry);
      break;
    }
  }
  return entries;
}

function checksumOf(json: string | Buffer): string {
  return crc32(json).toString(16).padStart(CHECKSUM_LENGTH, '0');
}
