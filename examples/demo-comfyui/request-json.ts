import type { DemoRequest } from '../demo-shared/demo-request.js';
import {
  isList,
  type PythonDict,
  PythonJsonError,
  type PythonValue,
  parsePythonJson,
} from '../demo-shared/python-json.js';

/** What in Python would be an exception that nobody expects: it becomes the 500 of the server. */
export class UnexpectedInput extends Error {
  override readonly name = 'UnexpectedInput';
}

/** The body as an object, whatever its `Content-Type`. Throws `UnexpectedInput`. */
export function readObject({ body }: DemoRequest): PythonDict {
  let value: PythonValue;
  try {
    value = parsePythonJson(new TextDecoder('utf-8', { fatal: true }).decode(body));
  } catch (error) {
    // a RangeError is nested deeper than the stack, a TypeError is no UTF-8
    const isRefusal =
      error instanceof PythonJsonError || error instanceof RangeError || error instanceof TypeError;
    if (!isRefusal) throw error;
    throw new UnexpectedInput(`Expected JSON, got: ${error.message}`);
  }
  return requireObject(value, 'the body');
}

/** Throws `UnexpectedInput`. */
export function requireObject(value: PythonValue | undefined, what: string): PythonDict {
  if (value instanceof Map) return value;
  throw new UnexpectedInput(`Expected ${what} to be an object`);
}

/** As Python's `if value:`. */
export function isTruthy(value: PythonValue | undefined): boolean {
  if (value instanceof Map) return value.size > 0;
  if (value !== undefined && isList(value)) return value.length > 0;
  return Boolean(value);
}

/** The strings of a list, which is all that an id can be. Throws `UnexpectedInput` where it is no list. */
export function readIds(value: PythonValue | undefined): string[] {
  if (value === undefined || !isList(value)) throw new UnexpectedInput('Expected a list of ids');
  return value.filter((id) => typeof id === 'string');
}

/** A whole number as Python's `int` reads it; undefined where there is none. Throws `UnexpectedInput`. */
export function readInteger(text: string | null): number | undefined {
  if (text === null) return undefined;
  if (!/^\s*[-+]?\d+\s*$/.test(text)) throw new UnexpectedInput(`Expected an integer, got ${text}`);
  return Number(text);
}
