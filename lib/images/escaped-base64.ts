const BACKSLASH = 0x5c;
const SLASH = 0x2f;
const LETTER_U = 0x75;
const LINE_BREAK = 0x0a;
const WHITE_SPACE = new Set([...'nrt'].map((letter) => letter.charCodeAt(0)));
/** Stands for any character that base64 does not have. */
const FOREIGN = 0;

/** Undoes JSON's escapes in base64 that passes in chunks, and keeps account of how its slashes were written. */
export class EscapedBase64 {
  #begun: Buffer = Buffer.alloc(0);
  #escapedSlash = false;
  #bareSlash = false;
  #otherEscape = false;

  /** True while the last bytes were the beginning of an escape. */
  get waiting(): boolean {
    return this.#begun.length > 0;
  }

  /** True if the result tells how it was written: no escapes but of slashes, and of every slash or of none. */
  get exact(): boolean {
    return !this.waiting && !this.#otherEscape && !(this.#escapedSlash && this.#bareSlash);
  }

  /** True if there were slashes and each was written as `\/`. */
  get everySlash(): boolean {
    return this.#escapedSlash && !this.#bareSlash;
  }

  /** Takes note of bytes without a backslash, while none is `waiting`. */
  pass(bytes: Buffer): Buffer {
    this.#bareSlash ||= bytes.includes(SLASH);
    return bytes;
  }

  unescape(bytes: Buffer): Buffer {
    const raw = this.waiting ? Buffer.concat([this.#begun, bytes]) : bytes;
    const text = Buffer.allocUnsafe(raw.length);
    let length = 0;
    let at = 0;
    while (at < raw.length) {
      const byte = raw[at] as number;
      let size = 1;
      if (byte === BACKSLASH) {
        size = raw[at + 1] === LETTER_U ? 6 : 2;
        if (at + size > raw.length) break;
      } else if (byte === SLASH) this.#bareSlash = true;
      text[length] = size === 1 ? byte : this.#meaning(raw, at);
      length += 1;
      at += size;
    }
    this.#begun = Buffer.from(raw.subarray(at));
    return text.subarray(0, length);
  }

  /** The character for which the escape at `at` stands. */
  #meaning(raw: Buffer, at: number): number {
    const letter = raw[at + 1] as number;
    if (letter === SLASH) {
      this.#escapedSlash = true;
      return SLASH;
    }
    this.#otherEscape = true;
    if (WHITE_SPACE.has(letter)) return LINE_BREAK;
    const ascii = /^u(00[0-7][0-9a-f])$/i.exec(raw.toString('latin1', at + 1, at + 6));
    return ascii ? Number.parseInt(ascii[1] as string, 16) : FOREIGN;
  }
}
