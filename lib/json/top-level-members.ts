import type { ObjectListener, ScanResult } from './object-listener.js';
import { ObjectScanner } from './object-scanner.js';

const MOST_MEMBERS = 10_000;

export interface TopLevelMembersOptions {
  /** A raw value of more bytes is known by its place only. 64 KiB by default. */
  readonly maxValueBytes?: number;
  /** Once the kept values have so many bytes together, further ones are known by their place only. 1 MiB by default. */
  readonly maxTotalBytes?: number;
}

/** A member of a JSON object: the place of its raw value in bytes, `end` exclusive, and its text unless it is large. */
export interface TopLevelMember {
  readonly start: number;
  readonly end: number;
  readonly text?: string;
}

/**
 * The members of a JSON object that passes in chunks, with their raw text: nothing is parsed, so that a 64-bit integer
 * or a `7.0` is what it was. Of an object with more than 10,000 names the first 10,000 are kept.
 */
export class TopLevelMembers {
  readonly #maxValueBytes: number;
  readonly #maxTotalBytes: number;
  readonly #scanner: ObjectScanner;
  readonly #members = new Map<string, TopLevelMember>();
  #chunk: Buffer = Buffer.alloc(0);
  #chunkOffset = 0;
  #totalBytes = 0;
  /** The value that is passing: where it began, and what earlier chunks had of it. */
  #valueStart: number | undefined;
  #valuePieces: Buffer[] = [];
  #result: ScanResult | undefined;

  constructor({ maxValueBytes = 64 * 1024, maxTotalBytes = 1024 * 1024 }: TopLevelMembersOptions = {}) {
    this.#maxValueBytes = maxValueBytes;
    this.#maxTotalBytes = maxTotalBytes;
    const listener: ObjectListener = {
      memberStart: (_name, start) => {
        this.#valueStart = start;
        return false;
      },
      memberEnd: (name, start, end) => this.#keep(name, start, end),
    };
    this.#scanner = new ObjectScanner(listener);
  }

  write(chunk: Buffer): void {
    this.#chunk = chunk;
    this.#scanner.write(chunk);
    this.#keepPiece();
    this.#chunkOffset += chunk.length;
  }

  end(): ScanResult {
    this.#result = this.#scanner.end();
    return this.#result;
  }

  /** True once `end` has been called and the bytes were one whole JSON object. */
  get whole(): boolean {
    return this.#result?.complete === true;
  }

  /** The member of this name; the last one where there are several, as in Python's json and in JSON.parse. */
  get(name: string): TopLevelMember | undefined {
    return this.#members.get(name);
  }

  /** The names, each once, in the order in which they came first. */
  names(): IterableIterator<string> {
    return this.#members.keys();
  }

  /** Keeps what the current chunk has of a value that goes on in the next one, while it is small enough. */
  #keepPiece(): void {
    if (this.#valueStart === undefined) return;
    const sizeBytes = this.#chunkOffset + this.#chunk.length - this.#valueStart;
    if (sizeBytes > this.#maxValueBytes) this.#valuePieces = [];
    else this.#valuePieces.push(Buffer.from(this.#chunk.subarray(this.#startInChunk(this.#valueStart))));
  }

  #keep(name: string, start: number, end: number): void {
    const pieces = this.#valuePieces;
    this.#valueStart = undefined;
    this.#valuePieces = [];
    const earlier = this.#members.get(name);
    if (!earlier && this.#members.size >= MOST_MEMBERS) return;
    if (earlier?.text !== undefined) this.#totalBytes -= earlier.end - earlier.start;
    const sizeBytes = end - start;
    if (sizeBytes > this.#maxValueBytes || this.#totalBytes + sizeBytes > this.#maxTotalBytes) {
      this.#members.set(name, { start, end });
      return;
    }
    this.#totalBytes += sizeBytes;
    const last = this.#chunk.subarray(this.#startInChunk(start), end - this.#chunkOffset);
    const text = pieces.length === 0 ? last.toString() : Buffer.concat([...pieces, last]).toString();
    this.#members.set(name, { start, end, text });
  }

  #startInChunk(start: number): number {
    return Math.max(0, start - this.#chunkOffset);
  }
}

/** The members of a JSON object that is all there. */
export function topLevelMembersOf(text: Buffer, options?: TopLevelMembersOptions): TopLevelMembers {
  const members = new TopLevelMembers(options);
  members.write(text);
  members.end();
  return members;
}
