const LONGEST = 1024;
/** With the three words that Python's json writes and reads beyond the standard. */
const SCALAR = /^(?:true|false|null|NaN|-?Infinity|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?)$/;

/** A number or word of a JSON text, collected from passing chunks only to see whether it is one. */
export class Scalar {
  #text = '';

  add(chunk: Buffer, start: number, end: number): void {
    if (this.#text.length <= LONGEST) this.#text += chunk.toString('latin1', start, end);
  }

  /** Whether what was added is a number or a word of JSON, of at most 1,024 characters; ready for the next one. */
  takeIsValid(): boolean {
    const valid = this.#text.length <= LONGEST && SCALAR.test(this.#text);
    this.#text = '';
    return valid;
  }
}
