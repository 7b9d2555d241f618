import { resolve } from 'node:path';
import ms, { type StringValue } from 'ms';
import { JobTrackerError } from './errors.js';
import type { ImageStore } from './images/image-store.js';
import { consoleLogger, type Logger } from './logger.js';
import type { JobStore } from './stores/job-store.js';

/** A duration as the `ms` package writes it, always with its unit: `'100ms'`, `'15s'`, `'24h'`. */
export type Duration = `${number}${'' | ' '}${DurationUnit}`;
type DurationUnit = 'ms' | 's' | 'm' | 'h' | 'd' | 'w' | 'seconds' | 'minutes' | 'hours' | 'days' | 'weeks';

/** What `jobTracker()` takes. Every option may be left out. */
export interface JobTrackerOptions {
  /** The URL of Automatic1111 or a fork. With it the tracker forwards by itself (forward mode). Default: none. */
  readonly a1111?: string | URL;
  /** `false`: the host's own handler forwards, also where a URL is given. Default: true where a URL is given. */
  readonly forward?: boolean;
  /** The folder for jobs.json and the images. Made when it is not there. Default: `'./job-tracker'`. */
  readonly dir?: string;
  /**
   * How long the backend may take to refuse a request before the head, with the job id, leaves ahead of its answer;
   * counted from the last byte of the request. `0`: the head leaves before the request is forwarded. `false`: it waits
   * for the backend's own. Default: `'100ms'`.
   */
  readonly headAfter?: Duration | 0 | false;
  /** How often a byte of JSON whitespace follows an early head until the answer comes. Default: `'15s'`. */
  readonly keepAlive?: Duration;
  /** A job that runs longer is Failed with `timeout`, and its connection is reset. Default: `'24h'`. */
  readonly jobTimeout?: Duration;
  /** How many generations the backend gets at a time. Default: 1 in forward mode, `Infinity` in wrap mode. */
  readonly concurrency?: number;
  /** Where warnings and errors go. Default: the console. */
  readonly logger?: Logger;
  /** Where records are kept. Default: lowdb, in `jobs.json` below `dir`. */
  readonly store?: JobStore;
  /** Where images are kept. Default: the folder `output` below `dir`. */
  readonly images?: ImageStore;
}

/** The options with every default filled in, in the units that the code works with. */
export interface ResolvedOptions {
  readonly a1111: URL | undefined;
  readonly forward: boolean;
  /** Absolute. */
  readonly dir: string;
  readonly headAfterMs: number | false;
  readonly keepAliveMs: number;
  readonly jobTimeoutMs: number;
  readonly concurrency: number;
  readonly logger: Logger;
  readonly store: JobStore | undefined;
  readonly images: ImageStore | undefined;
}

/** setTimeout takes no more. */
const MAX_TIMER_MS = 2 ** 31 - 1;
/** So much of a wrong value is repeated. */
const MAX_SHOWN = 100;

type Check<T> = (name: string, value: unknown) => T;

const CHECKS: { readonly [Name in keyof Required<JobTrackerOptions>]: Check<unknown> } = {
  a1111: backendUrl,
  forward: boolean,
  dir: nonEmptyText,
  headAfter: (name, value) =>
    value === false ? false : value === 0 ? 0 : duration(name, value, ', 0 or false'),
  keepAlive: (name, value) => duration(name, value),
  jobTimeout: (name, value) => duration(name, value),
  concurrency: (name, value) => {
    if (value === Number.POSITIVE_INFINITY || (Number.isInteger(value) && (value as number) >= 1))
      return value;
    throw invalid(name, 'a whole number from 1, or Infinity', value);
  },
  logger: methods('a logger', ['info', 'warn', 'error']),
  store: methods('a JobStore', ['open', 'insert', 'update', 'get', 'list', 'remove', 'unfinished', 'close']),
  images: methods('an ImageStore', ['open', 'create', 'read', 'remove']),
};

/**
 * Checks the options and fills in the defaults. Nothing is changed in what was given; `undefined` is absent.
 *
 * @throws JobTrackerError `INVALID_OPTION` that names the option, what was expected and what came.
 */
export function resolveOptions(options: JobTrackerOptions = {}): ResolvedOptions {
  if (typeof options !== 'object' || options === null || Array.isArray(options)) {
    throw invalid('options', 'an object', options);
  }
  const given: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(options)) {
    if (!Object.hasOwn(CHECKS, name)) {
      const known = Object.keys(CHECKS).join(', ');
      throw new JobTrackerError(
        'INVALID_OPTION',
        `Expected the options to be among ${known}, got \`${name}\``,
      );
    }
    if (value !== undefined) given[name] = CHECKS[name as keyof JobTrackerOptions](name, value);
  }
  const a1111 = given.a1111 as URL | undefined;
  const forward = (given.forward as boolean | undefined) ?? a1111 !== undefined;
  if (forward && !a1111) throw invalid('forward', 'false where no `a1111` is given', true);
  return {
    a1111,
    forward,
    dir: resolve((given.dir as string | undefined) ?? './job-tracker'),
    headAfterMs: (given.headAfter as number | false | undefined) ?? 100,
    keepAliveMs: (given.keepAlive as number | undefined) ?? 15_000,
    jobTimeoutMs: (given.jobTimeout as number | undefined) ?? 24 * 60 * 60 * 1000,
    concurrency: (given.concurrency as number | undefined) ?? (forward ? 1 : Number.POSITIVE_INFINITY),
    logger: (given.logger as Logger | undefined) ?? consoleLogger,
    store: given.store as JobStore | undefined,
    images: given.images as ImageStore | undefined,
  };
}

function boolean(name: string, value: unknown): boolean {
  if (typeof value !== 'boolean') throw invalid(name, 'true or false', value);
  return value;
}

function nonEmptyText(name: string, value: unknown): string {
  if (typeof value !== 'string' || value.trim() === '') throw invalid(name, 'a path', value);
  return value;
}

function backendUrl(name: string, value: unknown): URL {
  const expected = 'a URL such as "http://127.0.0.1:7860"';
  const text = value instanceof URL ? value.href : value;
  if (typeof text !== 'string' || !URL.canParse(text)) throw invalid(name, expected, value);
  const url = new URL(text);
  if (url.protocol !== 'http:' && url.protocol !== 'https:') throw invalid(name, expected, value);
  if (url.search || url.hash) throw invalid(name, `${expected}, without a query or a fragment`, value);
  return url;
}

/** A text with a unit: `ms` takes a bare number, or "30", for milliseconds, which nobody means. */
function duration(name: string, value: unknown, orElse = ''): number {
  const expected = `a duration such as "100ms", "15s" or "24h"${orElse}`;
  if (typeof value !== 'string' || !/[a-z]/i.test(value) || value.length > 100)
    throw invalid(name, expected, value);
  const timeMs = ms(value as StringValue);
  if (timeMs === undefined || !(timeMs > 0)) throw invalid(name, expected, value);
  if (timeMs > MAX_TIMER_MS) throw invalid(name, `${expected}, of at most 24 days`, value);
  return timeMs;
}

function methods(what: string, names: readonly string[]): Check<unknown> {
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

function invalid(name: string, expected: string, got: unknown): JobTrackerError {
  return unexpected(name, expected, shown(got));
}

function unexpected(name: string, expected: string, got: string): JobTrackerError {
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
