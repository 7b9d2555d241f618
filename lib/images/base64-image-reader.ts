import type { ValueKind } from '../json/object-listener.js';
import { ObjectScanner } from '../json/object-scanner.js';
import type { AnswerImage, AnswerSummary, ByteRange } from './answer-summary.js';
import { ImageString } from './image-string.js';

/**
 * Takes the parts of an answer as they pass. For each string of the `images` array: `imageStart`, `imageData` as often
 * as needed, `imageEnd`.
 */
export interface ImageSink {
  /**
   * The answer without the base64 of its images, in order. The strings' quotes are in it, so that the text of a whole
   * answer is JSON. The bytes are a view of the chunk that was written.
   */
  text(bytes: Buffer): void;
  imageStart(index: number): void;
  /** Decoded bytes, at most 1 MiB of them. They are the sink's until it calls `release`, which it must. */
  imageData(index: number, bytes: Buffer, release: () => void): void;
  /** With the verdict `not-base64` there is no image, and bytes that came of it are to be thrown away. */
  imageEnd(index: number, image: AnswerImage): void;
}

/**
 * Reads the answer of A1111 (`{"images": ["<base64>", ...], "parameters": {...}, "info": "..."}`, in any order and with
 * anything else) in passing chunks, however they are cut. The strings of the top-level `images` array are decoded; all
 * the rest is text. If `images` occurs several times, each one counts. Holds one buffer of 1 MiB at most.
 */
export class Base64ImageReader {
  readonly #sink: ImageSink;
  readonly #scanner: ObjectScanner;
  readonly #images: AnswerImage[] = [];
  readonly #ranges = new Map<string, ByteRange>();
  #imagesMember: AnswerSummary['imagesMember'] = 'none';
  #textBytes = 0;
  /** How many bytes of the answer so far are not in the text. */
  #cutBytes = 0;
  #string: ImageString | undefined;
  #textOffset = 0;
  #decodedBytes = 0;

  constructor(sink: ImageSink) {
    this.#sink = sink;
    this.#scanner = new ObjectScanner({
      memberStart: (name, _start, kind) => this.#memberStart(name, kind),
      memberEnd: (name, start, end) => this.#memberEnd(name, start, end),
      elementStart: () => this.#elementStart(),
      elementBytes: (bytes, escaped) => this.#elementBytes(bytes, escaped),
      elementEnd: () => this.#endString(false),
      text: (bytes) => this.#text(bytes),
    });
  }

  write(chunk: Buffer): void {
    this.#scanner.write(chunk);
  }

  /** The answer has ended, well or not. To be called once. */
  end(): AnswerSummary {
    this.#endString(true);
    const parameters = this.#ranges.get('parameters');
    const info = this.#ranges.get('info');
    return {
      images: this.#images,
      imagesMember: this.#imagesMember,
      ...(parameters && { parameters }),
      ...(info && { info }),
      textBytes: this.#textBytes,
      json: this.#scanner.end(),
    };
  }

  #memberStart(name: string, kind: ValueKind): boolean {
    if (name !== 'images') return false;
    if (this.#imagesMember !== 'array') this.#imagesMember = kind === 'array' ? 'array' : 'other';
    return true;
  }

  #memberEnd(name: string, start: number, end: number): void {
    if (name !== 'parameters' && name !== 'info') return;
    this.#ranges.set(name, { start: start - this.#cutBytes, end: end - this.#cutBytes });
  }

  #elementStart(): void {
    const index = this.#images.length;
    this.#decodedBytes = 0;
    this.#string = new ImageString({
      text: (bytes) => {
        this.#cutBytes -= bytes.length;
        this.#text(bytes);
      },
      start: () => {
        this.#textOffset = this.#textBytes;
        this.#sink.imageStart(index);
      },
      data: (bytes, release) => {
        this.#decodedBytes += bytes.length;
        this.#sink.imageData(index, bytes, release);
      },
    });
  }

  #elementBytes(bytes: Buffer, escaped: boolean): void {
    this.#cutBytes += bytes.length;
    this.#string?.write(bytes, escaped);
  }

  #endString(cut: boolean): void {
    if (!this.#string) return;
    const outcome = this.#string.end(cut);
    this.#string = undefined;
    const index = this.#images.length;
    const image = { index, textOffset: this.#textOffset, sizeBytes: this.#decodedBytes, ...outcome };
    this.#images.push(image);
    this.#sink.imageEnd(index, image);
  }

  #text(bytes: Buffer): void {
    this.#textBytes += bytes.length;
    this.#sink.text(bytes);
  }
}
