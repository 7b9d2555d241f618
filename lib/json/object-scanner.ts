import { MemberName } from './member-name.js';
import type { ObjectListener, ScanFailure, ScanResult, ValueKind } from './object-listener.js';
import { Scalar } from './scalar.js';
import { StringEnd } from './string-end.js';

type State =
  | 'start'
  | 'first-name'
  | 'next-name'
  | 'name'
  | 'colon'
  | 'value'
  | 'string'
  | 'scalar'
  | 'nested'
  | 'nested-string'
  | 'after-value'
  | 'first-element'
  | 'next-element'
  | 'element'
  | 'after-element'
  | 'end'
  | 'failed';

const BYTE_ORDER_MARK = [0xef, 0xbb, 0xbf];
const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const COLON = 0x3a;
const ARRAY_START = 0x5b;
const ARRAY_END = 0x5d;
const OBJECT_START = 0x7b;
const OBJECT_END = 0x7d;

const isSpace = (byte: number) => byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09;

/**
 * Reads the top level of a JSON object in passing chunks, however they are cut, in constant memory and without parsing
 * a value: what is inside of values is only skipped, by counting brackets and by finding the ends of strings. So a
 * mistake deep inside (`[1,,2]`) is not noticed; one at the top level, or one that leaves the object open, is. Nothing
 * in the input makes it throw.
 */
export class ObjectScanner {
  readonly #listener: ObjectListener;
  readonly #name = new MemberName();
  readonly #stringEnd = new StringEnd();
  readonly #scalar = new Scalar();
  #state: State = 'start';
  #result: ScanResult | undefined;
  /** The offset of the current chunk in the input. */
  #chunkOffset = 0;
  /** Where the text that has not been told yet begins in the current chunk. */
  #textStart = 0;
  #markBytes = 0;
  #memberName: string | undefined;
  #memberStart = 0;
  #depth = 0;
  #outermostEnd = OBJECT_END;
  #inWantedArray = false;

  constructor(listener: ObjectListener) {
    this.#listener = listener;
  }

  write(chunk: Buffer): void {
    this.#textStart = 0;
    for (let at = 0; at < chunk.length; ) at = this.#step(chunk, at);
    if (this.#state !== 'element') this.#tellText(chunk, chunk.length);
    this.#chunkOffset += chunk.length;
  }

  end(): ScanResult {
    this.#result ??=
      this.#state === 'end'
        ? { complete: true }
        : { complete: false, reason: 'ended-early', offset: this.#chunkOffset };
    return this.#result;
  }

  /** Takes what is at `at`; returns where to go on. */
  #step(chunk: Buffer, at: number): number {
    switch (this.#state) {
      case 'name':
        return this.#readName(chunk, at);
      case 'string':
        return this.#skipString(chunk, at);
      case 'element':
        return this.#readElement(chunk, at);
      case 'scalar':
        return this.#readScalar(chunk, at);
      case 'nested':
        return this.#skipNested(chunk, at);
      case 'nested-string':
        return this.#skipNestedString(chunk, at);
      case 'failed':
        return chunk.length;
      default:
        return this.#readStructure(chunk, at, chunk[at] as number);
    }
  }

  #readStructure(chunk: Buffer, at: number, byte: number): number {
    if (this.#state === 'start') return this.#readStart(chunk, at, byte);
    if (isSpace(byte)) return at + 1;
    switch (this.#state) {
      case 'first-name':
      case 'next-name':
        if (byte === QUOTE) return this.#go('name', at + 1);
        if (byte === OBJECT_END && this.#state === 'first-name') return this.#go('end', at + 1);
        break;
      case 'colon':
        if (byte === COLON) return this.#go('value', at + 1);
        break;
      case 'value':
        return this.#startMember(at, byte);
      case 'after-value':
        if (byte === COMMA) return this.#go('next-name', at + 1);
        if (byte === OBJECT_END) return this.#go('end', at + 1);
        break;
      case 'first-element':
      case 'next-element':
        if (byte === ARRAY_END && this.#state === 'first-element') return this.#endMember(at + 1);
        if (byte === QUOTE) return this.#startElement(chunk, at);
        return this.#startValue(at, byte);
      case 'after-element':
        if (byte === COMMA) return this.#go('next-element', at + 1);
        if (byte === ARRAY_END) return this.#endMember(at + 1);
        break;
      case 'end':
        return this.#fail('garbage-after-end', chunk, at);
    }
    return this.#fail('malformed', chunk, at);
  }

  #readStart(chunk: Buffer, at: number, byte: number): number {
    const atMark = this.#chunkOffset + at === this.#markBytes && this.#markBytes < BYTE_ORDER_MARK.length;
    if (atMark && byte === BYTE_ORDER_MARK[this.#markBytes]) {
      this.#markBytes += 1;
      return at + 1;
    }
    const insideMark = atMark && this.#markBytes > 0;
    if (!insideMark && isSpace(byte)) return at + 1;
    if (!insideMark && byte === OBJECT_START) return this.#go('first-name', at + 1);
    return this.#fail('not-an-object', chunk, at);
  }

  #readName(chunk: Buffer, at: number): number {
    const quote = this.#stringEnd.find(chunk, at);
    const end = quote < 0 ? chunk.length : quote;
    if (quote < 0) {
      this.#name.add(chunk.subarray(at, end));
      return chunk.length;
    }
    try {
      this.#memberName = this.#name.take(chunk.subarray(at, end));
    } catch {
      // A name that JSON cannot read is the input's fault, and ends in the result like any other.
      return this.#fail('malformed', chunk, quote);
    }
    return this.#go('colon', quote + 1);
  }

  #startMember(at: number, byte: number): number {
    this.#memberStart = this.#chunkOffset + at;
    const kind = kindOf(byte);
    const wanted =
      this.#memberName !== undefined &&
      this.#listener.memberStart?.(this.#memberName, this.#memberStart, kind) === true;
    if (!wanted || kind !== 'array') return this.#startValue(at, byte);
    this.#inWantedArray = true;
    return this.#go('first-element', at + 1);
  }

  #startValue(at: number, byte: number): number {
    switch (byte) {
      case QUOTE:
        return this.#go('string', at + 1);
      case ARRAY_START:
      case OBJECT_START:
        this.#depth = 1;
        this.#outermostEnd = byte === ARRAY_START ? ARRAY_END : OBJECT_END;
        return this.#go('nested', at + 1);
      default:
        return this.#go('scalar', at);
    }
  }

  /** `at` is behind the value. */
  #endValue(at: number): number {
    return this.#inWantedArray ? this.#go('after-element', at) : this.#endMember(at);
  }

  #endMember(at: number): number {
    this.#inWantedArray = false;
    if (this.#memberName !== undefined) {
      this.#listener.memberEnd?.(this.#memberName, this.#memberStart, this.#chunkOffset + at);
    }
    return this.#go('after-value', at);
  }

  #skipString(chunk: Buffer, at: number): number {
    const quote = this.#stringEnd.find(chunk, at);
    return quote < 0 ? chunk.length : this.#endValue(quote + 1);
  }

  #startElement(chunk: Buffer, quote: number): number {
    this.#tellText(chunk, quote + 1);
    this.#listener.elementStart?.();
    return this.#go('element', quote + 1);
  }

  #readElement(chunk: Buffer, at: number): number {
    const quote = this.#stringEnd.find(chunk, at);
    const bytes = chunk.subarray(at, quote < 0 ? chunk.length : quote);
    if (bytes.length > 0) this.#listener.elementBytes?.(bytes, bytes.includes(BACKSLASH));
    if (quote < 0) return chunk.length;
    this.#listener.elementEnd?.();
    this.#textStart = quote;
    return this.#endValue(quote + 1);
  }

  #readScalar(chunk: Buffer, at: number): number {
    let end = at;
    while (end < chunk.length && !endsScalar(chunk[end] as number)) end += 1;
    this.#scalar.add(chunk, at, end);
    if (end === chunk.length) return end;
    return this.#scalar.takeIsValid() ? this.#endValue(end) : this.#fail('malformed', chunk, end);
  }

  #skipNested(chunk: Buffer, start: number): number {
    for (let at = start; at < chunk.length; at += 1) {
      const byte = chunk[at];
      if (byte === QUOTE) return this.#go('nested-string', at + 1);
      if (byte === ARRAY_START || byte === OBJECT_START) this.#depth += 1;
      else if (byte === ARRAY_END || byte === OBJECT_END) {
        this.#depth -= 1;
        if (this.#depth > 0) continue;
        return byte === this.#outermostEnd ? this.#endValue(at + 1) : this.#fail('malformed', chunk, at);
      }
    }
    return chunk.length;
  }

  #skipNestedString(chunk: Buffer, at: number): number {
    const quote = this.#stringEnd.find(chunk, at);
    return quote < 0 ? chunk.length : this.#go('nested', quote + 1);
  }

  #go(state: State, at: number): number {
    this.#state = state;
    return at;
  }

  #fail(reason: ScanFailure, chunk: Buffer, at: number): number {
    this.#result = { complete: false, reason, offset: this.#chunkOffset + at };
    return this.#go('failed', chunk.length);
  }

  #tellText(chunk: Buffer, end: number): void {
    if (end > this.#textStart) this.#listener.text?.(chunk.subarray(this.#textStart, end));
    this.#textStart = end;
  }
}

function kindOf(byte: number): ValueKind {
  if (byte === QUOTE) return 'string';
  if (byte === ARRAY_START) return 'array';
  return byte === OBJECT_START ? 'object' : 'scalar';
}

function endsScalar(byte: number): boolean {
  return isSpace(byte) || byte === COMMA || byte === ARRAY_END || byte === OBJECT_END;
}
