import { JobTrackerError } from '../errors.js';
import { BACKEND_NAMES, JOB_STATUSES } from '../job.js';
import { isJobId } from '../job-id.js';
import type { JobQuery } from '../stores/job-store.js';

const DEFAULT_LIMIT = 50;
const MAX_LIMIT = 1_000;

type QueryValue = unknown;

/**
 * Reads the parameters of `GET /sdapi/v1/jobs`. Unknown parameters are left to others; an empty one counts as absent.
 *
 * @throws JobTrackerError `INVALID_PARAMETER`.
 */
export function parseListQuery(query: Readonly<Record<string, QueryValue>>): JobQuery {
  const ip = text(query, 'ip');
  const status = oneOf(query, 'status', JOB_STATUSES);
  const backend = oneOf(query, 'backend', BACKEND_NAMES);
  const search = text(query, 'q');
  const promptId = text(query, 'prompt_id');
  const after = wholeNumber(query, 'after', 0, Number.MAX_SAFE_INTEGER);
  const until = wholeNumber(query, 'until', 0, Number.MAX_SAFE_INTEGER);
  const before = text(query, 'before');
  if (before !== undefined && !isJobId(before)) throw invalid('before', 'the id of a job', before);
  return {
    ...(ip !== undefined && { ip }),
    ...(status !== undefined && { status }),
    ...(backend !== undefined && { backend }),
    ...(search !== undefined && { text: search }),
    ...(promptId !== undefined && { prompt_id: promptId }),
    ...(after !== undefined && { after }),
    ...(until !== undefined && { until }),
    ...(before !== undefined && { before }),
    limit: wholeNumber(query, 'limit', 1, MAX_LIMIT) ?? DEFAULT_LIMIT,
  };
}

/** Reads a parameter that is one of a few words, in any case. */
export function oneOf<Word extends string>(
  query: Readonly<Record<string, QueryValue>>,
  name: string,
  words: readonly Word[],
): Word | undefined {
  const given = text(query, name);
  if (given === undefined) return undefined;
  const word = words.find((candidate) => candidate.toLowerCase() === given.toLowerCase());
  if (word === undefined) throw invalid(name, `one of ${words.join(', ')}`, given);
  return word;
}

function wholeNumber(
  query: Readonly<Record<string, QueryValue>>,
  name: string,
  least: number,
  most: number,
): number | undefined {
  const given = text(query, name);
  if (given === undefined) return undefined;
  const number = /^\d{1,16}$/.test(given) ? Number(given) : Number.NaN;
  if (!(number >= least && number <= most)) {
    const range = most === Number.MAX_SAFE_INTEGER ? `from ${least}` : `from ${least} to ${most}`;
    throw invalid(name, `a whole number ${range}`, given);
  }
  return number;
}

/** Reads a parameter that is given once, or not at all; an empty one counts as absent. */
export function text(query: Readonly<Record<string, QueryValue>>, name: string): string | undefined {
  const given = Object.hasOwn(query, name) ? query[name] : undefined;
  if (given === undefined || given === '') return undefined;
  if (typeof given !== 'string') throw invalid(name, 'given once', given);
  return given;
}

export function invalid(name: string, expected: string, got: unknown): JobTrackerError {
  const shown = JSON.stringify(got).slice(0, 100);
  return new JobTrackerError('INVALID_PARAMETER', `Expected \`${name}\` to be ${expected}, got ${shown}`);
}
