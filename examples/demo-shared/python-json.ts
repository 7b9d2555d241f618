/**
 * A value as Python's `json` module has it: a bigint is an `int` and a number is a `float`, so that `7.0` stays `7.0`
 * and a seed of 64 bits stays exact. A parsed object is a Map, which keeps the order of all keys.
 */
export type PythonValue =
  | null
  | boolean
  | string
  | bigint
  | number
  | readonly PythonValue[]
  | PythonDict
  | { readonly [key: string]: PythonValue };

export type PythonDict = ReadonlyMap<string, PythonValue>;

/** A text that is not JSON, in the words of Python's `json.JSONDecodeError`. */
export class PythonJsonError extends Error {
  override readonly name = 'JSONDecodeError';
  /** What was wrong, without the place. */
  readonly reason: string;
  /** The place, in code points from 0. */
  readonly position: number;
  readonly line: number;
  readonly column: number;

  constructor(reason: string, text: string, index: number) {
    const before = [...text.slice(0, index)];
    const line = before.filter((character) => character === '\n').length + 1;
    const column = before.length - before.lastIndexOf('\n');
    super(`${reason}: line ${line} column ${column} (char ${before.length})`);
    this.reason = reason;
    this.position = before.length;
    this.line = line;
    this.column = column;
  }
}

/** Parses JSON. Throws `PythonJsonError`; the constants `NaN` and `Infinity`, which Python adds to JSON, are refused. */
export function parsePythonJson(text: string): PythonValue {
  const parser = new Parser(text);
  const value = parser.value();
  parser.end();
  return value;
}

const SPACE = /[ \t\n\r]*/y;
const NUMBER = /(-?(?:0|[1-9]\d*))(\.\d+)?([eE][-+]?\d+)?/y;
// biome-ignore lint/suspicious/noControlCharactersInRegex: JSON forbids control characters in a string
const PLAIN_CHARACTERS = /[^"\\\u0000-\u001f]*/y;
const CONSTANTS = [
  ['null', null],
  ['true', true],
  ['false', false],
] as const;
const ESCAPES: Readonly<Record<string, string>> = {
  '"': '"',
  '\\': '\\',
  '/': '/',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
};

class Parser {
  readonly #text: string;
  #index = 0;

  constructor(text: string) {
    this.#text = text;
  }

  value(): PythonValue {
    this.#take(SPACE);
    const first = this.#text[this.#index];
    if (first === '"') return this.#string();
    if (first === '{') return this.#object();
    if (first === '[') return this.#array();
    for (const [word, constant] of CONSTANTS) {
      if (this.#text.startsWith(word, this.#index)) {
        this.#index += word.length;
        return constant;
      }
    }
    const number = this.#take(NUMBER);
    if (!number) throw this.#error('Expecting value');
    const [all, digits, fraction, exponent] = number;
    return fraction === undefined && exponent === undefined ? BigInt(digits ?? all) : Number(all);
  }

  end(): void {
    this.#take(SPACE);
    if (this.#index < this.#text.length) throw this.#error('Extra data');
  }

  #object(): PythonDict {
    const object = new Map<string, PythonValue>();
    this.#index += 1;
    if (this.#next('}')) return object;
    do {
      this.#take(SPACE);
      if (this.#text[this.#index] !== '"') {
        throw this.#error('Expecting property name enclosed in double quotes');
      }
      const key = this.#string();
      if (!this.#next(':')) throw this.#error("Expecting ':' delimiter");
      object.set(key, this.value());
    } while (this.#next(','));
    if (!this.#next('}')) throw this.#error("Expecting ',' delimiter");
    return object;
  }

  #array(): PythonValue[] {
    const array: PythonValue[] = [];
    this.#index += 1;
    if (this.#next(']')) return array;
    do array.push(this.value());
    while (this.#next(','));
    if (!this.#next(']')) throw this.#error("Expecting ',' delimiter");
    return array;
  }

  #string(): string {
    const start = this.#index;
    this.#index += 1;
    let string = '';
    for (;;) {
      string += this.#take(PLAIN_CHARACTERS)?.[0] ?? '';
      const stop = this.#text[this.#index];
      if (stop === undefined) throw this.#error('Unterminated string starting at', start);
      if (stop !== '\\' && stop !== '"') throw this.#error('Invalid control character at');
      this.#index += 1;
      if (stop === '"') return string;
      string += this.#escape();
    }
  }

  #escape(): string {
    const letter = this.#text[this.#index] ?? '';
    if (letter === 'u') {
      const digits = this.#text.slice(this.#index + 1, this.#index + 5);
      if (!/^[0-9a-fA-F]{4}$/.test(digits)) throw this.#error('Invalid \\uXXXX escape');
      this.#index += 5;
      return String.fromCharCode(Number.parseInt(digits, 16));
    }
    const character = ESCAPES[letter];
    if (character === undefined) throw this.#error('Invalid \\escape', this.#index - 1);
    this.#index += 1;
    return character;
  }

  /** Skips spaces and then the character, if it is there. */
  #next(character: string): boolean {
    this.#take(SPACE);
    if (this.#text[this.#index] !== character) return false;
    this.#index += 1;
    return true;
  }

  #take(pattern: RegExp): RegExpExecArray | null {
    pattern.lastIndex = this.#index;
    const match = pattern.exec(this.#text);
    if (match) this.#index += match[0].length;
    return match;
  }

  #error(reason: string, index = this.#index): PythonJsonError {
    return new PythonJsonError(reason, this.#text, index);
  }
}

/** As A1111's answers are written: no spaces, characters beyond ASCII as they are. */
export function dumpCompact(value: PythonValue): string {
  return dump(value, ',', ':', JSON.stringify);
}

/** As Python's `json.dumps` writes by default: `, ` and `: `, characters beyond ASCII escaped. */
export function dumpSpaced(value: PythonValue): string {
  return dump(value, ', ', ': ', (text) =>
    JSON.stringify(text).replace(
      /[\u007f-\uffff]/g,
      (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
    ),
  );
}

function dump(value: PythonValue, comma: string, colon: string, quote: (text: string) => string): string {
  if (typeof value === 'string') return quote(value);
  if (typeof value === 'number') return formatFloat(value);
  if (value === null || typeof value !== 'object') return String(value);
  if (isList(value)) return `[${value.map((item) => dump(item, comma, colon, quote)).join(comma)}]`;
  const entries = value instanceof Map ? [...value] : Object.entries(value);
  const pairs = entries.map(([key, item]) => quote(key) + colon + dump(item, comma, colon, quote));
  return `{${pairs.join(comma)}}`;
}

/** `Array.isArray` does not narrow readonly arrays. */
export function isList(value: PythonValue): value is readonly PythonValue[] {
  return Array.isArray(value);
}

/** A float as Python's `repr` writes it: `7.0`, `0.75`, `1e-05`, `1e+16`. */
export function formatFloat(value: number): string {
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e16)) {
    return value.toExponential().replace(/e([-+])(\d)$/, 'e$10$2');
  }
  if (Number.isInteger(value)) return `${Object.is(value, -0) ? '-0' : value}.0`;
  return String(value);
}
