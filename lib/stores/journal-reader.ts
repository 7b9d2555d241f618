import { systemCodeOf } from '../errors.js';
import { readLines } from './file-lines.js';
import { decodeEntry, entriesWithin, type JournalEntry } from './journal-line.js';

/** What a journal was found to be. */
export interface JournalFindings {
  readonly sizeBytes: number;
  /** The length of a last line that is not whole, as a process leaves it that is killed while it writes. */
  readonly tornBytes: number;
  /** How many other lines are not what was written. */
  readonly garbledLines: number;
  /** True where the last line is good, but nothing may be appended to it because its newline is missing. */
  readonly unterminated: boolean;
}

/** Hands every good entry of a journal to `apply`, in order. Undefined where there is no such file. */
export async function replayJournal(
  path: string,
  apply: (entry: JournalEntry) => void,
): Promise<JournalFindings | undefined> {
  let sizeBytes = 0;
  let garbledLines = 0;
  let unterminated = false;
  let tornBytes = 0;
  try {
    await readLines(path, {
      onLine: (line, terminated) => {
        // A bad line with more behind it, good or bad, was not the one that a kill cuts short.
        if (tornBytes > 0) garbledLines += 1;
        tornBytes = 0;
        const lengthBytes = line.length + (terminated ? 1 : 0);
        sizeBytes += lengthBytes;
        const entry = decodeEntry(line);
        if (entry !== undefined) {
          apply(entry);
          unterminated = !terminated;
          return true;
        }
        const within = entriesWithin(line);
        for (const found of within) apply(found);
        // A NUL is no part of JSON: that is a hole or a foreign file, and no line of ours that was cut short.
        if (within.length > 0 || line.includes(0)) garbledLines += 1;
        else tornBytes = lengthBytes;
        return true;
      },
    });
  } catch (error) {
    if (systemCodeOf(error) === 'ENOENT') return undefined;
    throw error;
  }
  return { sizeBytes, tornBytes, garbledLines, unterminated };
}
