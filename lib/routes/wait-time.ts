import type { IncomingHttpHeaders } from 'node:http';
import ms, { type StringValue } from 'ms';
import { readPreferences } from '../http/preferences.js';
import { invalid, text } from './list-query.js';

/** Proxies in between rarely hold an idle connection for longer. */
const MAX_WAIT_SECONDS = 300;

/** How long a client would wait for a job's end. */
export interface WaitTime {
  readonly waitMs: number;
  /** For `Preference-Applied`, where it was the header that asked for it. */
  readonly applied?: string;
}

/**
 * Reads `?wait=25`, `?wait=25s`, or else `Prefer: wait=25` (RFC 7240), whose wish is met as far as it can be: up to 300
 * seconds, and one that makes no sense is ignored.
 *
 * @throws JobTrackerError `INVALID_PARAMETER` for a parameter that makes no sense.
 */
export function parseWaitTime(
  query: Readonly<Record<string, unknown>>,
  headers: IncomingHttpHeaders,
): WaitTime | undefined {
  const given = text(query, 'wait');
  if (given !== undefined) {
    const waitMs = timeOf(given);
    if (waitMs !== undefined && waitMs >= 0 && waitMs <= MAX_WAIT_SECONDS * 1000) return { waitMs };
    const expected = `a whole number of seconds, or a duration such as "25s", up to ${MAX_WAIT_SECONDS} seconds`;
    throw invalid('wait', expected, given);
  }
  const preferred = readPreferences(headers.prefer).get('wait') ?? '';
  if (!/^\d{1,10}$/.test(preferred)) return undefined;
  const seconds = Math.min(Number(preferred), MAX_WAIT_SECONDS);
  return { waitMs: seconds * 1000, applied: `wait=${seconds}` };
}

/** In milliseconds: a bare number is seconds, as in the header. */
function timeOf(given: string): number | undefined {
  if (/^\d{1,10}$/.test(given)) return Number(given) * 1000;
  return /[a-z]/i.test(given) && given.length <= 100 ? ms(given as StringValue) : undefined;
}
