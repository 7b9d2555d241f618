import ms, { type StringValue } from 'ms';
import { JobTrackerError } from './errors.js';

/** setTimeout takes no more. */
const MAX_TIMER_MS = 2 ** 31 - 1;
/** A hundred years: who gives more days has meant another unit. */
export const MAX_RETENTION_DAYS = 36_500;
/** Who gives fewer days has slipped by a few digits, and what is purged is gone. */
const MIN_RETENTION_MS = 60_000;
export const DAY_MS = 24 * 60 * 60 * 1000;
/** So much of a wrong value is repeated. */
const MAX_SHOWN = 100;

/** Checks a value that somebody has given under a name; throws `INVALID_OPTION`. */
export type Check<T> = (name: string, value: unknown) => T;

export function boolean(name: string, value: unknown): boolean {
  if (typeof value !== 'boolean') throw invalid(name, 'true or false', value);
  return value;
}

export function path(name: string, value: unknown): string {
  if (typeof value !== 'string' || value.trim() === '') throw invalid(name, 'a path', value);
  return value;
}

/** An http or https URL, copied; it may hold credentials. */
export function backendUrl(name: string, value: unknown, example = 'http://127.0.0.1:7860'): URL {
  const expected = `a URL such as "${example}"`;
  const text = value instanceof URL ? value.href : value;
  if (typeof text !== 'string' || !URL.canParse(text)) throw invalid(name, expected, value);
  const url = new URL(text);
  if (url.protocol !== 'http:' && url.protocol !== 'https:') throw invalid(name, expected, value);
  if (url.search || url.hash) throw invalid(name, `${expected}, without a query or a fragment`, value);
  return url;
}

/** A text with a unit, in milliseconds: `ms` takes a bare number, or "30", for milliseconds, which nobody means. */
export function duration(name: string, value: unknown, orElse = ''): number {
  const expected = `a duration such as "100ms", "15s" or "24h"${orElse}`;
  const timeMs = durationMs(value);
  if (timeMs === undefined || !(timeMs > 0)) throw invalid(name, expected, value);
  if (timeMs > MAX_TIMER_MS) throw invalid(name, `${expected}, of at most 24 days`, value);
  return timeMs;
}

/** How long jobs are kept, in milliseconds: a number is days, a text has its unit. 0: for ever. */
export function retention(name: string, value: unknown): number {
  const expected = `a number of days from 0 (keep for ever) to ${MAX_RETENTION_DAYS}, or a duration such as "12h"`;
  if (value === 0) return 0;
  // For `ms` "6M" are minutes; whoever writes that of pictures means months.
  const isMonths = typeof value === 'string' && /M\s*$/.test(value);
  const timeMs = typeof value === 'number' ? daysMs(value) : durationMs(value);
  // Neither "0s" nor less than a millisecond may turn into "for ever".
  if (isMonths || timeMs === undefined || !(timeMs >= 1 && timeMs <= MAX_RETENTION_DAYS * DAY_MS))
    throw invalid(name, expected, value);
  return Math.round(timeMs);
}

/**
 * Days in milliseconds; undefined for what is no time to keep anything: less than a minute, or more than a hundred years.
 * 0 is for ever.
 */
export function daysMs(days: unknown): number | undefined {
  const timeMs = typeof days === 'number' ? Math.round(days * DAY_MS) : Number.NaN;
  const isTime = timeMs >= MIN_RETENTION_MS && timeMs <= MAX_RETENTION_DAYS * DAY_MS;
  return isTime || days === 0 ? timeMs : undefined;
}

function durationMs(value: unknown): number | undefined {
  if (typeof value !== 'string' || !/[a-z]/i.test(value) || value.length > 100) return undefined;
  return ms(value as StringValue);
}

export function bytes(name: string, value: unknown): number {
  if (!Number.isSafeInteger(value) || (value as number) < 1)
    throw invalid(name, 'a whole number of bytes from 1', value);
  return value as number;
}

export function countOrInfinity(name: string, value: unknown): number {
  if (value === Number.POSITIVE_INFINITY || (Number.isInteger(value) && (value as number) >= 1))
    return value as number;
  throw invalid(name, 'a whole number from 1, or Infinity', value);
}

export function callable(what: string): Check<(...args: never[]) => unknown> {
  return (name, value) => {
    if (typeof value !== 'function') throw invalid(name, what, value);
    return value as (...args: never[]) => unknown;
  };
}

export function methods(what: string, names: readonly string[]): Check<unknown> {
  return (name, value) => {
    const expected = `${what} with ${names.join(', ')}`;
    if (typeof value !== 'object' || value === null) throw invalid(name, expected, value);
    const missing = names.filter(
      (method) => typeof (value as Record<string, unknown>)[method] !== 'function',
    );
    if (missing.length > 0) throw unexpected(name, expected, `one without ${missing.join(', ')}`);
    return value;
  };
}

export function invalid(name: string, expected: string, got: unknown): JobTrackerError {
  return unexpected(name, expected, shown(got));
}

/** @param got how the value is described, where the value itself must not or cannot be shown. */
export function unexpected(name: string, expected: string, got: string): JobTrackerError {
  return new JobTrackerError('INVALID_OPTION', `Expected \`${name}\` to be ${expected}, got ${got}`);
}

function shown(got: unknown): string {
  if (got instanceof URL) return shown(got.href);
  if (typeof got === 'function') return 'a function';
  if (typeof got === 'object' && got !== null) return Array.isArray(got) ? 'an array' : 'an object';
  if (typeof got !== 'string') return String(got);
  // What stands in front of an @ may hold a password, however badly the address is written.
  const text = got.replace(/^([a-z][a-z\d+.-]*:\/\/)?.*@/is, '$1…@');
  return JSON.stringify(text.length <= MAX_SHOWN ? text : `${text.slice(0, MAX_SHOWN)}…`);
}
