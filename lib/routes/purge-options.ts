import { JobTrackerError } from '../errors.js';
import { boolean, invalid, retention } from '../option-checks.js';
import type { PurgeOptions } from '../retention/retention.js';
import { isObject, kindOf } from '../value-kind.js';

const KEYS = ['older_than', 'dry_run'];

/**
 * Reads the body of `POST /job-tracker/purge`: `{older_than?: days or "12h", dry_run?: boolean}`, or none at all.
 *
 * @throws JobTrackerError `INVALID_PARAMETER`.
 */
export function parsePurgeOptions(body: unknown = {}): PurgeOptions {
  if (!isObject(body)) throw refused(`Expected a JSON object, got ${kindOf(body)}`);
  const stranger = Object.keys(body).find((key) => !KEYS.includes(key));
  if (stranger !== undefined) {
    const got = JSON.stringify(stranger.slice(0, 100));
    throw refused(`Expected an object with ${KEYS.join(' or ')}, both or none, got one with ${got}`);
  }
  try {
    return {
      ...('older_than' in body && { olderThanMs: olderThanMs(body.older_than) }),
      ...('dry_run' in body && { dryRun: boolean('dry_run', body.dry_run) }),
    };
  } catch (error) {
    throw refused((error as JobTrackerError).message);
  }
}

function olderThanMs(value: unknown): number {
  let timeMs = 0;
  try {
    timeMs = retention('older_than', value);
  } catch {
    // It speaks of how long jobs are kept, and takes 0 for "for ever".
  }
  if (timeMs > 0) return timeMs;
  const expected =
    'a number of days above 0, or a duration such as "12h" (0 days mean "for ever" elsewhere; "1s" purges all that has ended)';
  throw invalid('older_than', expected, value);
}

function refused(message: string): JobTrackerError {
  return new JobTrackerError('INVALID_PARAMETER', message);
}
