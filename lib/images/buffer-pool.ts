/** A buffer on loan. */
export interface PooledBuffer {
  readonly buffer: Buffer;
  /** Gives it back; from then on it may be overwritten. Calls after the first do nothing. */
  readonly release: () => void;
}

/** Lends buffers of one size, and keeps a few that came back for the next who asks. */
export class BufferPool {
  readonly #sizeBytes: number;
  readonly #keep: number;
  readonly #free: Buffer[] = [];

  constructor({ sizeBytes, keep }: { sizeBytes: number; keep: number }) {
    this.#sizeBytes = sizeBytes;
    this.#keep = keep;
  }

  take(): PooledBuffer {
    const buffer = this.#free.pop() ?? Buffer.allocUnsafeSlow(this.#sizeBytes);
    let lent = true;
    const release = () => {
      if (lent && this.#free.length < this.#keep) this.#free.push(buffer);
      lent = false;
    };
    return { buffer, release };
  }
}
