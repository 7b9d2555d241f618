import fs from 'node:fs/promises';
import { crc32 } from 'node:zlib';
import { systemCodeOf } from '../errors.js';
import type { Job } from '../job.js';
import { isExtensionRecord, jobFromForeignRecord } from './extension-jobs.js';
import { readLines } from './file-lines.js';
import { type JobMap, keptJob, parseKept } from './kept-job.js';
import { CHECKSUM_LINE_LENGTH, readChecksumLine } from './snapshot-checksum.js';

const TOO_LARGE = ['ERR_STRING_TOO_LONG', 'ERR_FS_FILE_TOO_LARGE'];
const BYTE_ORDER_MARK = Buffer.from([0xef, 0xbb, 0xbf]);

/**
 * What a snapshot was found to be.
 *
 * - `whole`: as we wrote it
 * - `foreign`: a readable array that another program or a person wrote, `leftOut` records of which make no sense
 * - `damaged`: neither; `jobs` is empty, see `salvageSnapshot`
 */
export type SnapshotFindings = { readonly jobs: JobMap; readonly sizeBytes: number } & (
  | { readonly state: 'whole' | 'damaged' }
  | { readonly state: 'foreign'; readonly leftOut: number; readonly fromExtension: boolean }
);

/** Reads a snapshot. Undefined where there is no such file; rejects with the system's error. */
export async function readSnapshot(path: string): Promise<SnapshotFindings | undefined> {
  const ending = await readEnding(path);
  if (ending === undefined) return undefined;
  const { sizeBytes, checksum } = ending;
  if (checksum !== undefined) {
    const jobs: JobMap = new Map();
    const lines = await readRecordLines(path, sizeBytes - CHECKSUM_LINE_LENGTH, (record) =>
      addJob(jobs, keptJob(record)),
    );
    if (lines.whole && lines.checksum === checksum) return { state: 'whole', jobs, sizeBytes };
  } else {
    const records: unknown[] = [];
    const lines = await readRecordLines(path, sizeBytes, (record) => records.push(record) > 0);
    const foreign = lines.whole ? records : await parseWhole(path);
    if (foreign !== undefined) return { state: 'foreign', sizeBytes, ...takeOver(foreign) };
  }
  return { state: 'damaged', jobs: new Map(), sizeBytes };
}

/** The jobs of those lines of a damaged snapshot that can still be read. */
export async function salvageSnapshot(path: string): Promise<JobMap> {
  const jobs: JobMap = new Map();
  await readLines(path, {
    onLine: (line) => {
      addJob(jobs, jobFromForeignRecord(parseRecordLine(line).record));
      return true;
    },
  });
  return jobs;
}

async function readEnding(path: string): Promise<{ sizeBytes: number; checksum?: number } | undefined> {
  try {
    const handle = await fs.open(path, 'r');
    try {
      const { size: sizeBytes } = await handle.stat();
      const checksum = await readChecksumLine(handle, sizeBytes);
      return checksum === undefined ? { sizeBytes } : { sizeBytes, checksum };
    } finally {
      await handle.close();
    }
  } catch (error) {
    if (systemCodeOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}

/**
 * Hands on every record of a file that has one record a line between `[` and `]`; ends at the first line that is not so,
 * or for which `take` answers false. The checksum is that of all the bytes but a leading byte order mark.
 */
async function readRecordLines(
  path: string,
  endBytes: number,
  take: (record: unknown) => boolean,
): Promise<{ whole: boolean; checksum: number }> {
  let checksum = 0;
  let isStart = true;
  let place = 'start' as 'start' | 'records' | 'last record' | 'end' | 'lost';
  await readLines(
    path,
    {
      onBytes: (bytes) => {
        checksum = crc32(isStart ? withoutMark(bytes) : bytes, checksum);
        isStart = false;
      },
      onLine: (bytes) => {
        const line = place === 'start' ? withoutMark(bytes) : bytes;
        if (place === 'records') {
          const { record, isLast } = parseRecordLine(line);
          if (record === undefined || !take(record)) place = 'lost';
          else if (isLast) place = 'last record';
          return place !== 'lost';
        }
        const text = trimmed(line).toString('latin1');
        if (place === 'start') place = text === '[' ? 'records' : text === '[]' ? 'end' : 'lost';
        else if (place === 'last record') place = text === ']' ? 'end' : 'lost';
        else if (text !== '') place = 'lost';
        return place !== 'lost';
      },
    },
    endBytes,
  );
  return { whole: place === 'end', checksum };
}

/** Parses the record on a line; undefined where there is none. The last one has no comma behind it. */
function parseRecordLine(line: Buffer): { record: object | undefined; isLast: boolean } {
  const text = trimmed(line).toString();
  const isLast = !text.endsWith(',');
  try {
    const value = parseKept(isLast ? text : text.slice(0, -1));
    const isRecord = typeof value === 'object' && value !== null && !Array.isArray(value);
    return { record: isRecord ? value : undefined, isLast };
  } catch (error) {
    if (error instanceof SyntaxError) return { record: undefined, isLast };
    throw error;
  }
}

/** Parses a file as one piece of JSON: an array, or undefined where it is none or larger than a string may be. */
async function parseWhole(path: string): Promise<unknown[] | undefined> {
  try {
    const value = parseKept(withoutMark(await fs.readFile(path)).toString());
    return Array.isArray(value) ? value : undefined;
  } catch (error) {
    if (error instanceof SyntaxError || TOO_LARGE.includes(systemCodeOf(error) ?? '')) return undefined;
    throw error;
  }
}

function takeOver(records: readonly unknown[]): { jobs: JobMap; leftOut: number; fromExtension: boolean } {
  const known = records.map(jobFromForeignRecord).filter((job) => job !== undefined);
  const fromExtension = records.some(isExtensionRecord);
  // We walk in creation order, and nothing says that the extension's file has that order.
  if (fromExtension) known.sort((a, b) => a.timestamp - b.timestamp);
  const jobs: JobMap = new Map();
  for (const job of known) addJob(jobs, job);
  return { jobs, leftOut: records.length - known.length, fromExtension };
}

function addJob(jobs: JobMap, job: Job | undefined): boolean {
  if (job !== undefined) jobs.set(job.id, job);
  return job !== undefined;
}

/** Cuts what JSON calls white space, and nothing else, off both ends. */
function trimmed(line: Buffer): Buffer {
  let start = 0;
  let end = line.length;
  while (start < end && isWhiteSpace(line[start])) start += 1;
  while (end > start && isWhiteSpace(line[end - 1])) end -= 1;
  return line.subarray(start, end);
}

function isWhiteSpace(byte: number | undefined): boolean {
  return byte === 0x20 || byte === 0x09 || byte === 0x0d || byte === 0x0a;
}

function withoutMark(bytes: Buffer): Buffer {
  return bytes.subarray(0, 3).equals(BYTE_ORDER_MARK) ? bytes.subarray(3) : bytes;
}
