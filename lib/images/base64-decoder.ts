import { BufferPool, type PooledBuffer } from './buffer-pool.js';
import { EscapedBase64 } from './escaped-base64.js';

/** The most characters that are decoded at once; with longer strings V8 is several times slower. */
const SLICE = 64 * 1024;
const BUFFER_BYTES = 1024 * 1024;
/** Whole groups of three bytes, so that a buffer is full between two groups of four characters. */
const FULL_BYTES = BUFFER_BYTES - (BUFFER_BYTES % 3);

const ALPHABET = /^[A-Za-z0-9+/_-]*$/;
const PADDING = /^=*$/;
const WHITE_SPACE = /[ \t\r\n]+/g;
const MINUS = 0x2d;
const UNDERSCORE = 0x5f;

const buffers = new BufferPool({ sizeBytes: BUFFER_BYTES, keep: 4 });

/**
 * - `whole`: base64 from the first character to the last
 * - `truncated`: base64 that stops inside of a byte
 * - `not-base64`: there are other characters in it
 */
export type Base64Verdict = 'whole' | 'truncated' | 'not-base64';

/**
 * Decodes the base64 in a JSON string that passes in chunks, as its bytes stand between the quotes. Node's own decoder
 * does the work. It skips characters that it does not know and stops at `=`, and then gives fewer bytes than it should
 * have: only there, a slow exact look is taken.
 */
export class Base64Decoder {
  readonly #emit: (bytes: Buffer, release: () => void) => void;
  readonly #source = new EscapedBase64();
  #output: PooledBuffer | undefined;
  #filledBytes = 0;
  #sizeBytes = 0;
  /** Up to four characters, kept back because what ends the string is looked at in `end`. */
  #held = '';
  /** How many `=` have come. Only `=` and white space may follow, and `#held` is what they pad. */
  #padding = 0;
  #plain = true;
  #failed = false;

  /** @param emit gets the decoded bytes in buffers of 1 MiB, and has each for itself until it calls `release`. */
  constructor(emit: (bytes: Buffer, release: () => void) => void) {
    this.#emit = emit;
  }

  /** True once something has come that is not base64; nothing more is decoded then. */
  get failed(): boolean {
    return this.#failed;
  }

  /** How many bytes have been decoded. */
  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /**
   * True if the decoded bytes, encoded again, are the very characters of the string, with every slash escaped if
   * `escapedSlashes` is true. To be asked after `end`.
   */
  get exact(): boolean {
    return this.#plain && !this.#failed && this.#source.exact;
  }

  /** True if there are slashes and each is written as `\/`. To be asked after `end`. */
  get escapedSlashes(): boolean {
    return this.#source.everySlash;
  }

  /** @param escaped whether there may be a backslash among the bytes. */
  write(bytes: Buffer, escaped: boolean): void {
    if (this.#failed) return;
    const text = escaped || this.#source.waiting ? this.#source.unescape(bytes) : this.#source.pass(bytes);
    // The alphabet of URLs is decoded like the usual one, without a sign.
    if (this.#plain && (text.includes(MINUS) || text.includes(UNDERSCORE))) this.#plain = false;
    this.#decode(text);
  }

  /** The string has ended. Bytes that have not filled a buffer wait for `flush` or `discard`. */
  end(): Base64Verdict {
    if (this.#padding === 0) {
      const held = this.#held;
      this.#held = '';
      this.#decodeCarefully(held);
    }
    if (this.#failed) return 'not-base64';
    const tail = Buffer.from(this.#held, 'base64');
    if (tail.toString('base64') !== this.#held + '='.repeat(this.#padding)) this.#plain = false;
    if (tail.length > 0) this.#advance(tail.copy(this.#room(), this.#filledBytes));
    return this.#held.length === 1 || this.#source.waiting ? 'truncated' : 'whole';
  }

  /** Gives out the bytes that have not filled a buffer. */
  flush(): void {
    if (!this.#output) return;
    const { buffer, release } = this.#output;
    const bytes = buffer.subarray(0, this.#filledBytes);
    this.#output = undefined;
    this.#filledBytes = 0;
    this.#emit(bytes, release);
  }

  /** Forgets the bytes that have not been given out. */
  discard(): void {
    this.#output?.release();
    this.#output = undefined;
    this.#filledBytes = 0;
  }

  #decode(text: Buffer): void {
    let at = 0;
    while (at < text.length && !this.#failed) {
      if (this.#padding > 0) {
        this.#decodeCarefully(text.toString('latin1', at));
        return;
      }
      const left = text.length - at;
      const taken = this.#held === '' ? Math.min(SLICE, left - 1 - ((left - 1) % 4)) : 4 - this.#held.length;
      if (left <= taken || (taken === 0 && this.#held === '')) {
        this.#held += text.toString('latin1', at);
        return;
      }
      const groups = this.#held + text.toString('latin1', at, at + taken);
      this.#held = '';
      at += taken;
      const decoded = this.#decodeGroups(groups);
      if (decoded < groups.length) this.#decodeCarefully(groups.slice(decoded));
    }
  }

  /** Takes groups of four characters; returns how many characters were base64 until something else came. */
  #decodeGroups(groups: string): number {
    let at = 0;
    while (at < groups.length) {
      const room = this.#room();
      const sizeBytes = Math.min(((groups.length - at) / 4) * 3, FULL_BYTES - this.#filledBytes);
      const characters = (sizeBytes / 3) * 4;
      const slice = characters === groups.length ? groups : groups.slice(at, at + characters);
      if (room.write(slice, this.#filledBytes, sizeBytes, 'base64') < sizeBytes) break;
      this.#advance(sizeBytes);
      at += characters;
    }
    return at;
  }

  /** Takes any characters, with nothing held; what is left of a group of four is held then. */
  #decodeCarefully(characters: string): void {
    const dense = characters.replace(WHITE_SPACE, '');
    if (dense.length < characters.length) this.#plain = false;
    const firstPadding = this.#padding > 0 ? 0 : dense.indexOf('=');
    const bodyEnd = firstPadding < 0 ? dense.length : firstPadding;
    const body = dense.slice(0, bodyEnd);
    if (!ALPHABET.test(body) || !PADDING.test(dense.slice(bodyEnd))) {
      this.#failed = true;
      return;
    }
    this.#padding += dense.length - bodyEnd;
    if (body === '') return;
    const groupsEnd = body.length - (body.length % 4);
    this.#decodeGroups(body.slice(0, groupsEnd));
    this.#held = body.slice(groupsEnd);
  }

  #room(): Buffer {
    this.#output ??= buffers.take();
    return this.#output.buffer;
  }

  #advance(sizeBytes: number): void {
    this.#sizeBytes += sizeBytes;
    this.#filledBytes += sizeBytes;
    if (this.#filledBytes >= FULL_BYTES) this.flush();
  }
}
