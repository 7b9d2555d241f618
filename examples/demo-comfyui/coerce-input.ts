import { formatFloat, type PythonValue } from '../demo-shared/python-json.js';
import { isTruthy } from './request-json.js';

/** A value that cannot become what its input takes, in Python's words. */
export class NotConvertible extends Error {
  override readonly name = 'NotConvertible';
}

/** Brings a value to the type of its input; other types stay as they are. Throws `NotConvertible`. */
export function coerceInput(value: PythonValue, type: PythonValue): PythonValue {
  if (type === 'INT') return toInteger(value);
  if (type === 'FLOAT') return toFloat(value);
  if (type === 'STRING') return toText(value);
  if (type === 'BOOLEAN') return isTruthy(value);
  return value;
}

function toInteger(value: PythonValue): bigint {
  if (typeof value === 'bigint') return value;
  if (typeof value === 'boolean') return value ? 1n : 0n;
  if (typeof value === 'number') return BigInt(Math.trunc(value));
  if (typeof value === 'string' && /^\s*[-+]?\d+\s*$/.test(value)) {
    return BigInt(value.trim().replace(/^\+/, ''));
  }
  throw new NotConvertible(`invalid literal for int() with base 10: '${toText(value)}'`);
}

function toFloat(value: PythonValue): number {
  if (typeof value === 'number') return value;
  if (typeof value === 'bigint' || typeof value === 'boolean') return Number(value);
  if (typeof value === 'string' && value.trim() !== '' && !Number.isNaN(Number(value))) return Number(value);
  throw new NotConvertible(`could not convert string to float: '${toText(value)}'`);
}

function toText(value: PythonValue): string {
  if (typeof value === 'number') return formatFloat(value);
  if (typeof value === 'boolean') return value ? 'True' : 'False';
  return value === null ? 'None' : String(value);
}
