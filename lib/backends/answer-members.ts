import { ObjectScanner } from '../json/object-scanner.js';
import type { TextEdit } from '../json/text-edits.js';
import { TopLevelMembers } from '../json/top-level-members.js';

/** Bytes of the text from `start` to `end`, `end` exclusive. */
export interface Place {
  readonly start: number;
  readonly end: number;
}

/**
 * Finds, in the text of an answer that passes in chunks, the array `images` and the members of the object `parameters`.
 * Only places are kept, however large the values are: A1111 repeats the images of ControlNet in its `parameters`.
 */
export class AnswerMembers {
  readonly #scanner: ObjectScanner;
  #chunk: Buffer = Buffer.alloc(0);
  #chunkOffset = 0;
  #images: Place | undefined;
  #parameters = new TopLevelMembers({ maxValueBytes: 0 });
  #parametersStart = 0;
  /** Up to where the passing `parameters` have been looked at; undefined while other members pass. */
  #lookedAt: number | undefined;

  constructor() {
    this.#scanner = new ObjectScanner({
      memberStart: (name, start) => {
        if (name !== 'parameters') return false;
        this.#parameters = new TopLevelMembers({ maxValueBytes: 0 });
        this.#parametersStart = start;
        this.#lookedAt = start;
        return false;
      },
      memberEnd: (name, start, end) => {
        if (name === 'images') this.#images = { start, end };
        if (name !== 'parameters') return;
        this.#lookInside(end);
        this.#parameters.end();
        this.#lookedAt = undefined;
      },
    });
  }

  write(chunk: Buffer): void {
    this.#chunk = chunk;
    this.#scanner.write(chunk);
    this.#lookInside(this.#chunkOffset + chunk.length);
    this.#chunkOffset += chunk.length;
  }

  /** The value of the last `images`, once it has passed. */
  get images(): Place | undefined {
    return this.#images;
  }

  /** The value of a member of the last `parameters`, once it has passed. */
  parameter(name: string): Place | undefined {
    const member = this.#parameters.get(name);
    return member && { start: this.#parametersStart + member.start, end: this.#parametersStart + member.end };
  }

  /** The edits that make of the text what A1111 answers to a client that wants no images. */
  get editsWithoutImages(): TextEdit[] {
    const echo = this.parameter('send_images');
    const edits: TextEdit[] = [];
    if (this.#images) edits.push({ ...this.#images, text: '[]' });
    if (echo) edits.push({ ...echo, text: 'false' });
    return edits.sort((a, b) => a.start - b.start);
  }

  #lookInside(end: number): void {
    if (this.#lookedAt === undefined) return;
    const from = this.#lookedAt - this.#chunkOffset;
    this.#parameters.write(this.#chunk.subarray(from, end - this.#chunkOffset));
    this.#lookedAt = end;
  }
}
