import type { Refusal } from './identity.js';
import type { Throttle } from './throttle.js';

/** RFC 7617: names and passwords are sent in UTF-8. */
const CHALLENGE = { 'WWW-Authenticate': 'Basic realm="sd-job-tracker", charset="UTF-8"' };

/** @param got what came in place of a right login; never a name or a password. */
export function notLoggedIn(got: string): Refusal {
  const error = `Expected a name and a password by HTTP Basic, got ${got}`;
  return { status: 401, headers: CHALLENGE, error };
}

export function tooManyWrongLogins({ limit, windowMs }: Throttle, blockedMs: number): Refusal {
  const seconds = Math.max(1, Math.ceil(blockedMs / 1000));
  const bound = `fewer than ${limit} wrong logins in ${windowMs / 1000} seconds`;
  return {
    status: 429,
    headers: { 'Retry-After': String(seconds) },
    error: `Expected ${bound} from one address, got more: try again in ${seconds} seconds`,
  };
}

export function undecided(error: string): Refusal {
  return { status: 503, headers: {}, error };
}
