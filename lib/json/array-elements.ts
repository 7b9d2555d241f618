import { StringEnd } from './string-end.js';

const QUOTE = 0x22;
const COMMA = 0x2c;
const ARRAY_START = 0x5b;
const ARRAY_END = 0x5d;
const OBJECT_START = 0x7b;
const OBJECT_END = 0x7d;

/** The place of a raw value in bytes, `end` exclusive. */
export interface ValuePlace {
  readonly start: number;
  readonly end: number;
}

/**
 * The elements of a JSON array, by their places, without parsing one: for texts that may be large, and whose numbers
 * JavaScript could not repeat. Undefined where the text is no whole array. Blanks around an element belong to its place.
 */
export function arrayElements(text: Buffer, { start, end }: ValuePlace): ValuePlace[] | undefined {
  let at = start;
  while (at < end && isSpace(text[at] as number)) at += 1;
  if (text[at] !== ARRAY_START) return undefined;
  const elements: ValuePlace[] = [];
  let depth = 0;
  let elementStart = at + 1;
  for (; at < end; at += 1) {
    const byte = text[at] as number;
    if (byte === QUOTE) {
      const quote = new StringEnd().find(text, at + 1);
      if (quote < 0) return undefined;
      at = quote;
    } else if (byte === ARRAY_START || byte === OBJECT_START) {
      depth += 1;
    } else if (byte === ARRAY_END || byte === OBJECT_END) {
      depth -= 1;
      if (depth > 0) continue;
      const last = { start: elementStart, end: at };
      if (elements.length > 0 || !isBlank(text, last)) elements.push(last);
      return byte === ARRAY_END ? elements : undefined;
    } else if (byte === COMMA && depth === 1) {
      elements.push({ start: elementStart, end: at });
      elementStart = at + 1;
    }
  }
  return undefined;
}

function isBlank(text: Buffer, { start, end }: ValuePlace): boolean {
  for (let at = start; at < end; at += 1) if (!isSpace(text[at] as number)) return false;
  return true;
}

function isSpace(byte: number): boolean {
  return byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09;
}
