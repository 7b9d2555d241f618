/** Chunks of fewer bytes are gathered: a client may send its bytes one by one. */
const SMALL_BYTES = 4 * 1024;
const GATHER_BYTES = 64 * 1024;
/** So many taken places may stay at the front of the list. */
const SLACK = 1024;

/** Bytes in memory, first in, first out. Adding and taking cost the same however many chunks there are. */
export class ByteQueue {
  #chunks: Buffer[] = [];
  /** The place of the oldest chunk. */
  #first = 0;
  #sizeBytes = 0;
  /** Room that the last chunk, if it was gathered, can still grow into. */
  #gathering: Buffer | undefined;

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  push(chunk: Buffer): void {
    this.#sizeBytes += chunk.length;
    const last = this.#first < this.#chunks.length ? this.#chunks.at(-1) : undefined;
    if (chunk.length >= SMALL_BYTES || last === undefined || !this.#append(last, chunk)) {
      this.#chunks.push(chunk);
      this.#gathering = undefined;
    }
  }

  /** Takes the oldest chunk; undefined where there is none. */
  shift(): Buffer | undefined {
    const chunk = this.#chunks[this.#first];
    if (chunk) this.drop(chunk.length);
    return chunk;
  }

  /** The oldest chunks, at most so many, without taking them. */
  peek(count: number): Buffer[] {
    return this.#chunks.slice(this.#first, this.#first + count);
  }

  /** Takes so many bytes away from the front. */
  drop(sizeBytes: number): void {
    this.#sizeBytes -= sizeBytes;
    for (let left = sizeBytes; left > 0; ) {
      const chunk = this.#chunks[this.#first] as Buffer;
      if (left < chunk.length) {
        this.#chunks[this.#first] = chunk.subarray(left);
        // What is left of a gathered chunk no longer begins where its room does.
        if (this.#first === this.#chunks.length - 1) this.#gathering = undefined;
        return;
      }
      left -= chunk.length;
      this.#first += 1;
    }
    if (this.#first === this.#chunks.length) this.clear();
    else if (this.#first > SLACK && this.#first > this.#chunks.length / 2) {
      this.#chunks.splice(0, this.#first);
      this.#first = 0;
    }
  }

  clear(): void {
    this.#chunks = [];
    this.#first = 0;
    this.#sizeBytes = 0;
    this.#gathering = undefined;
  }

  /** Puts a small chunk behind the last one, in the same buffer. Returns false where there is no room. */
  #append(last: Buffer, chunk: Buffer): boolean {
    const sizeBytes = last.length + chunk.length;
    if (this.#gathering === undefined) {
      if (last.length >= SMALL_BYTES) return false;
      this.#gathering = Buffer.allocUnsafe(GATHER_BYTES);
      last.copy(this.#gathering);
    }
    if (sizeBytes > GATHER_BYTES) return false;
    chunk.copy(this.#gathering, last.length);
    this.#chunks[this.#chunks.length - 1] = this.#gathering.subarray(0, sizeBytes);
    return true;
  }
}
