import type { DemoRequest } from '../demo-shared/demo-request.js';
import {
  type PythonDict,
  PythonJsonError,
  type PythonValue,
  parsePythonJson,
} from '../demo-shared/python-json.js';
import { httpException, validationError } from './api-error.js';
import { requireDict } from './validate-fields.js';

/** Stands for a body whose `Content-Type` is not JSON. */
export const NOT_JSON = Symbol('not JSON');

/** A body as FastAPI sees it: undefined where there is none. */
export type RequestJson = PythonValue | typeof NOT_JSON | undefined;

/** Throws an `ApiError`: 422 for what is not JSON though it should be, 400 for what is no text. */
export function parseRequest({ body, headers }: DemoRequest): RequestJson {
  if (body.length === 0) return undefined;
  const type = (headers['content-type'] ?? '').split(';', 1)[0]?.trim().toLowerCase();
  if (type && !/^application\/(.*\+)?json$/.test(type)) return NOT_JSON;
  const text = decodeText(body);
  try {
    return parsePythonJson(text);
  } catch (error) {
    if (error instanceof PythonJsonError) throw jsonError(error, text);
    if (error instanceof RangeError) throw unreadable(); // nested deeper than the stack
    throw error;
  }
}

/** The body as a dict. Throws a 422 `ApiError`. */
export function requireBody(json: RequestJson): PythonDict {
  if (json === undefined || json === null) {
    throw validationError([{ loc: ['body'], msg: 'field required', type: 'value_error.missing' }]);
  }
  return requireDict(json === NOT_JSON ? false : json);
}

function decodeText(body: Buffer): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(body);
  } catch {
    throw unreadable();
  }
}

function unreadable(): Error {
  return httpException(400, 'There was an error parsing the body');
}

function jsonError(error: PythonJsonError, doc: string): Error {
  const { reason, position, line, column } = error;
  const place = { pos: BigInt(position), lineno: BigInt(line), colno: BigInt(column) };
  return validationError([
    {
      loc: ['body', BigInt(position)],
      msg: error.message,
      type: 'value_error.jsondecode',
      ctx: { msg: reason, doc, ...place },
    },
  ]);
}
