import { Base64Decoder, type Base64Verdict } from './base64-decoder.js';

/** Where the parts of a string go: `text`, where there is some, then `start` once, then `data`. */
export interface ImageStringOutput {
  /** Bytes that are not base64: the beginning of a data URL, or a short string that is no image. */
  text(bytes: Buffer): void;
  start(): void;
  data(bytes: Buffer, release: () => void): void;
}

export interface ImageStringOutcome {
  readonly verdict: Base64Verdict;
  readonly exact: boolean;
  readonly escapedSlashes: boolean;
}

/** A string that is not longer is looked at as a whole, and is text if it is not base64. */
const HEAD_BYTES = 4096;
/** `data:image/png;base64,` and its like, as it stands in JSON. */
const DATA_URL = /^data:[\w.+\\/;= -]{0,200};base64,/i;
/** Words without punctuation could be base64 with spaces in it, but are never so long. */
const PROSE = /^(?=.*\w \w)(?!.*[\w+/-]{24})/s;
const BACKSLASH = 0x5c;

/** One string of the `images` array, passing in chunks: an image as base64, or whatever else it may be. */
export class ImageString {
  readonly #output: ImageStringOutput;
  readonly #decoder: Base64Decoder;
  readonly #head = Buffer.allocUnsafe(HEAD_BYTES);
  #headBytes = 0;
  #stage: 'head' | 'decoding' | 'skipping' = 'head';

  constructor(output: ImageStringOutput) {
    this.#output = output;
    this.#decoder = new Base64Decoder((bytes, release) => output.data(bytes, release));
  }

  /** Raw bytes from between the quotes; `escaped` if there may be a backslash among them. */
  write(bytes: Buffer, escaped: boolean): void {
    let rest = bytes;
    if (this.#stage === 'head') {
      const copied = bytes.copy(this.#head, this.#headBytes);
      this.#headBytes += copied;
      if (copied === bytes.length) return;
      rest = bytes.subarray(copied);
      this.#leaveHead();
    }
    if (this.#stage === 'decoding') this.#decoder.write(rest, escaped);
  }

  /** @param cut true if the answer has ended within the string. */
  end(cut: boolean): ImageStringOutcome {
    if (this.#stage === 'head') return this.#endShort(cut);
    const outcome = this.#outcome(cut);
    if (outcome.verdict === 'not-base64') this.#skip();
    else this.#decoder.flush();
    return outcome;
  }

  #leaveHead(): void {
    const prefix = this.#dataUrl();
    if (this.#decodeHead(prefix)) {
      this.#stage = 'decoding';
      this.#start(prefix);
    } else {
      this.#skip();
      this.#output.start();
    }
  }

  #endShort(cut: boolean): ImageStringOutcome {
    const prefix = this.#dataUrl();
    const outcome = this.#decodeHead(prefix) ? this.#outcome(cut) : undefined;
    if (outcome && outcome.verdict !== 'not-base64') {
      this.#start(prefix);
      this.#decoder.flush();
      return outcome;
    }
    this.#skip();
    this.#start(this.#head.subarray(0, this.#headBytes));
    return { verdict: 'not-base64', exact: true, escapedSlashes: false };
  }

  /** Decodes what has come behind the prefix; at most 3 KiB, so that nothing is given out yet. False: not base64. */
  #decodeHead(prefix: Buffer): boolean {
    const characters = this.#head.subarray(prefix.length, this.#headBytes);
    if (PROSE.test(characters.toString('latin1'))) return false;
    this.#decoder.write(characters, characters.includes(BACKSLASH));
    return !this.#decoder.failed;
  }

  #dataUrl(): Buffer {
    const match = DATA_URL.exec(this.#head.toString('latin1', 0, this.#headBytes));
    return this.#head.subarray(0, match ? match[0].length : 0);
  }

  #start(text: Buffer): void {
    if (text.length > 0) this.#output.text(text);
    this.#output.start();
  }

  #skip(): void {
    this.#stage = 'skipping';
    this.#decoder.discard();
  }

  #outcome(cut: boolean): ImageStringOutcome {
    const ended = this.#decoder.end();
    const empty = ended === 'whole' && this.#decoder.sizeBytes === 0 && !cut;
    if (ended === 'not-base64' || empty) {
      return { verdict: 'not-base64', exact: false, escapedSlashes: false };
    }
    const { exact, escapedSlashes } = this.#decoder;
    return { verdict: cut ? 'truncated' : ended, exact, escapedSlashes };
  }
}
