const QUOTE = 0x22;
const BACKSLASH = 0x5c;

/** Finds where a JSON string ends, in passing chunks. */
export class StringEnd {
  #insideEscape = false;

  /** The index of the quote that ends the string, looked for from `start`; -1 where the string goes on. */
  find(chunk: Buffer, start: number): number {
    let from = start;
    if (this.#insideEscape && from < chunk.length) {
      this.#insideEscape = false;
      from += 1;
    }
    for (;;) {
      const quote = chunk.indexOf(QUOTE, from);
      const end = quote < 0 ? chunk.length : quote;
      let backslashes = 0;
      while (end - backslashes > from && chunk[end - backslashes - 1] === BACKSLASH) backslashes += 1;
      const escaped = backslashes % 2 === 1;
      if (quote < 0) {
        this.#insideEscape = escaped;
        return -1;
      }
      if (!escaped) return quote;
      from = quote + 1;
    }
  }
}
