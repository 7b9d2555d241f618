import { type CredentialList, parseCredentialList } from './auth/credential-list.js';
import { daysMs, invalid, MAX_RETENTION_DAYS, unexpected } from './option-checks.js';

/** What `TRACKER_*` variables say, checked; undefined where a variable is absent or empty. */
export interface Environment {
  readonly enabled: boolean | undefined;
  readonly retentionMs: number | undefined;
  readonly auth: CredentialList | 'backend' | undefined;
  readonly admins: readonly string[] | undefined;
  readonly concurrency: number | undefined;
}

const ON = ['1', 'true', 'yes', 'on'];
const OFF = ['0', 'false', 'no', 'off'];

/** @throws JobTrackerError `INVALID_OPTION` that names the variable, what was expected and what came. */
export function readEnvironment(env: Readonly<Record<string, string | undefined>>): Environment {
  const read = <T>(name: string, parse: (name: string, text: string) => T): T | undefined => {
    const text = env[name]?.trim();
    return text ? parse(name, text) : undefined;
  };
  return {
    enabled: read('TRACKER_ENABLED', onOrOff),
    retentionMs: read('TRACKER_RETENTION', days),
    auth: read('TRACKER_AUTH', (name, text) => (text === 'backend' ? text : credentialList(name, text))),
    admins: read('TRACKER_ADMINS', names),
    concurrency: read('TRACKER_CONCURRENCY', slots),
  };
}

/** @throws JobTrackerError `INVALID_OPTION`, which repeats no password. */
export function credentialList(name: string, text: string): CredentialList {
  const list = parseCredentialList(text);
  if (typeof list !== 'string') return list;
  throw unexpected(name, '"name:password,name2:password2"', list);
}

/** Names with commas between them. */
export function names(name: string, text: string): readonly string[] {
  const list = text.split(',').map((one) => one.trim());
  if (list.some((one) => one === '')) throw invalid(name, 'names with commas between them', text);
  return list;
}

function onOrOff(name: string, text: string): boolean {
  const word = text.toLowerCase();
  if (ON.includes(word)) return true;
  if (OFF.includes(word)) return false;
  throw invalid(name, `one of ${[...ON, ...OFF].join(', ')}`, text);
}

function days(name: string, text: string): number {
  const timeMs = /^\d{1,6}(\.\d{1,6})?$/.test(text) ? daysMs(Number(text)) : undefined;
  if (timeMs === undefined) {
    throw invalid(name, `a number of days from 0 (keep for ever) to ${MAX_RETENTION_DAYS}`, text);
  }
  return timeMs;
}

function slots(name: string, text: string): number {
  const number = /^\d{1,4}$/.test(text) ? Number(text) : Number.NaN;
  if (!(number >= 1 && number <= 1_000)) throw invalid(name, 'a whole number from 1 to 1000', text);
  return number;
}
