import { resolve } from 'node:path';
import type { CredentialList } from './auth/credential-list.js';
import type { UserFunction } from './auth/identity.js';
import type { LoginFunction } from './auth/login-check.js';
import { credentialList, names, readEnvironment } from './environment.js';
import { JobTrackerError } from './errors.js';
import type { ImageStore } from './images/image-store.js';
import { consoleLogger, type Logger } from './logger.js';
import {
  backendUrl,
  boolean,
  bytes,
  type Check,
  callable,
  countOrInfinity,
  duration,
  invalid,
  methods,
  path,
  retention,
  unexpected,
} from './option-checks.js';
import type { GivenSetting } from './settings.js';
import type { JobStore } from './stores/job-store.js';
import { kindOf } from './value-kind.js';

/** A duration as the `ms` package writes it, always with its unit: `'100ms'`, `'15s'`, `'24h'`. */
export type Duration = `${number}${'' | ' '}${DurationUnit}`;
type DurationUnit = 'ms' | 's' | 'm' | 'h' | 'd' | 'w' | 'seconds' | 'minutes' | 'hours' | 'days' | 'weeks';

/** What `jobTracker()` takes. Every option may be left out. */
export interface JobTrackerOptions {
  /** The URL of Automatic1111 or a fork. With it the tracker forwards by itself (forward mode). Default: none. */
  readonly a1111?: string | URL;
  /**
   * The URL of ComfyUI. Its jobs are followed by it, so that without it they are not tracked. Where both are given,
   * Automatic1111 gets `/sdapi/` and what belongs to it, ComfyUI all the rest. Default: none.
   */
  readonly comfyui?: string | URL;
  /** `false`: the host's own handler forwards, also where a URL is given. Default: true where a URL is given. */
  readonly forward?: boolean;
  /** The folder for jobs.json and the images. Made when it is not there. Default: `'./job-tracker'`. */
  readonly dir?: string;
  /**
   * Whether generations are tracked at all. What `PATCH /job-tracker/settings` has saved goes first, `TRACKER_ENABLED`
   * before that. Default: true.
   */
  readonly enabled?: boolean;
  /**
   * How long jobs and their images are kept once they have ended: a number is days, a text has its unit (`'12h'`). What
   * `PATCH /job-tracker/settings` has saved goes first, `TRACKER_RETENTION` (days) before that. Default: 0, for ever.
   */
  readonly retention?: number | Duration;
  /** How often jobs that have outlived their time are looked for; also once at start. Default: `'6h'`. */
  readonly purgeEvery?: Duration;
  /** How many bytes the images may have together. The oldest finished jobs go first. Default: no limit. */
  readonly maxBytes?: number;
  /**
   * Who may come in, by HTTP Basic (RFC 7617): `'name:password,name2:password2'`, a function, or `'backend'`, so that
   * Automatic1111's own `--api-auth` decides. `TRACKER_AUTH` goes first. Default: everybody.
   */
  readonly auth?: string | LoginFunction;
  /**
   * Who makes a request, for hosts with logins of their own; undefined for nobody in particular. Default: the name of
   * the Basic login.
   */
  readonly user?: UserFunction;
  /**
   * The names of those who see everyone's jobs, change settings and purge; a text has commas between them.
   * `TRACKER_ADMINS` goes first. Default: nobody; everybody without logins, and the one of a list of one.
   */
  readonly admins?: string | readonly string[];
  /**
   * How long the backend may take to refuse a request before the head, with the job id, leaves ahead of its answer;
   * counted from the last byte of the request. `0`: the head leaves before the request is forwarded. `false`: it waits
   * for the backend's own. Default: `'100ms'`.
   */
  readonly headAfter?: Duration | 0 | false;
  /** How often a byte of JSON whitespace follows an early head until the answer comes. Default: `'15s'`. */
  readonly keepAlive?: Duration;
  /**
   * What becomes of a job whose client leaves before it has its answer. `'continue'`: it runs to its end and is kept.
   * `'cancel'`: it is Failed with `cancelled` where it can be: where it waits, or surely is the one that the backend runs.
   * Default: `'continue'`.
   */
  readonly onDisconnect?: 'continue' | 'cancel';
  /**
   * How long after its end a job's answer may still be had by sending the same request again, if it got lost on the way:
   * from the store, without generating anew. `false`: every request is a job of its own. Default: `'10m'`.
   */
  readonly retryWindow?: Duration | false;
  /** A job that runs longer is Failed with `timeout`, and its connection is reset. Default: `'24h'`. */
  readonly jobTimeout?: Duration;
  /** How many generations Automatic1111 gets at a time; ComfyUI queues by itself. Default: 1 in forward mode, `Infinity` in wrap mode. */
  readonly concurrency?: number;
  /** How many generations may wait; a further one is answered with 429. Default: 1000. */
  readonly maxQueue?: number;
  /** Where warnings and errors go. Default: the console. */
  readonly logger?: Logger;
  /** Where records are kept. Default: lowdb, in `jobs.json` below `dir`. */
  readonly store?: JobStore;
  /** Where images are kept. Default: the folder `output` below `dir`. */
  readonly images?: ImageStore;
  /** Where `TRACKER_*` variables are looked up; `{}` for nowhere. Default: `process.env`. */
  readonly env?: Readonly<Record<string, string | undefined>>;
}

/** The options with every default filled in, in the units that the code works with. */
export interface ResolvedOptions {
  readonly a1111: URL | undefined;
  readonly comfyui: URL | undefined;
  readonly forward: boolean;
  /** Absolute. */
  readonly dir: string;
  readonly enabled: GivenSetting<boolean>;
  /** 0: for ever. */
  readonly retentionMs: GivenSetting<number>;
  readonly purgeEveryMs: number;
  /** `Infinity` for no limit. */
  readonly maxBytes: number;
  readonly auth: CredentialList | LoginFunction | 'backend' | undefined;
  readonly user: UserFunction | undefined;
  /** Undefined: everybody where nobody has to log in, else nobody. */
  readonly admins: readonly string[] | undefined;
  readonly headAfterMs: number | false;
  readonly keepAliveMs: number;
  readonly onDisconnect: 'continue' | 'cancel';
  readonly retryWindowMs: number | false;
  readonly jobTimeoutMs: number;
  readonly concurrency: number;
  readonly maxQueue: number;
  readonly logger: Logger;
  readonly store: JobStore | undefined;
  readonly images: ImageStore | undefined;
}

const CHECKS: { readonly [Name in keyof Required<JobTrackerOptions>]: Check<unknown> } = {
  a1111: (name, value) => backendUrl(name, value),
  comfyui: (name, value) => backendUrl(name, value, 'http://127.0.0.1:8188'),
  forward: boolean,
  dir: path,
  enabled: boolean,
  retention,
  purgeEvery: (name, value) => duration(name, value),
  maxBytes: bytes,
  auth,
  user: callable('a function that tells who makes a request'),
  admins: adminNames,
  headAfter: (name, value) =>
    value === false ? false : value === 0 ? 0 : duration(name, value, ', 0 or false'),
  keepAlive: (name, value) => duration(name, value),
  onDisconnect: (name, value) => {
    if (value !== 'continue' && value !== 'cancel') throw invalid(name, '"continue" or "cancel"', value);
    return value;
  },
  retryWindow: (name, value) => (value === false ? false : duration(name, value, ', or false')),
  jobTimeout: (name, value) => duration(name, value),
  concurrency: countOrInfinity,
  maxQueue: countOrInfinity,
  logger: methods('a logger', ['info', 'warn', 'error']),
  store: methods('a JobStore', [
    'open',
    'insert',
    'update',
    'get',
    'list',
    'walk',
    'remove',
    'unfinished',
    'close',
  ]),
  images: methods('an ImageStore', ['open', 'create', 'read', 'remove']),
  env: (name, value) => {
    if (typeof value !== 'object' || value === null)
      throw invalid(name, 'an object such as process.env', value);
    return value;
  },
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
  const comfyui = given.comfyui as URL | undefined;
  const hasUrl = a1111 !== undefined || comfyui !== undefined;
  const forward = (given.forward as boolean | undefined) ?? hasUrl;
  if (forward && !hasUrl)
    throw invalid('forward', 'false where neither `a1111` nor `comfyui` is given', true);
  const env = readEnvironment((given.env as JobTrackerOptions['env']) ?? process.env);
  const login = env.auth ?? (given.auth as ResolvedOptions['auth']);
  if (login === 'backend' && !a1111) {
    throw invalid('auth', 'a list or a function where there is no `a1111` to ask', login);
  }
  return {
    a1111,
    comfyui,
    forward,
    dir: resolve((given.dir as string | undefined) ?? './job-tracker'),
    enabled: setting(env.enabled, given.enabled as boolean | undefined, true),
    retentionMs: setting(env.retentionMs, given.retention as number | undefined, 0),
    purgeEveryMs: (given.purgeEvery as number | undefined) ?? 6 * 60 * 60 * 1000,
    maxBytes: (given.maxBytes as number | undefined) ?? Number.POSITIVE_INFINITY,
    auth: login,
    user: given.user as UserFunction | undefined,
    admins: adminsAmong(login, given.user !== undefined, env.admins, given.admins as string[] | undefined),
    headAfterMs: (given.headAfter as number | false | undefined) ?? 100,
    keepAliveMs: (given.keepAlive as number | undefined) ?? 15_000,
    onDisconnect: (given.onDisconnect as ResolvedOptions['onDisconnect'] | undefined) ?? 'continue',
    retryWindowMs: (given.retryWindow as number | false | undefined) ?? 10 * 60 * 1000,
    jobTimeoutMs: (given.jobTimeout as number | undefined) ?? 24 * 60 * 60 * 1000,
    concurrency:
      env.concurrency ??
      (given.concurrency as number | undefined) ??
      (forward ? 1 : Number.POSITIVE_INFINITY),
    maxQueue: (given.maxQueue as number | undefined) ?? 1_000,
    logger: (given.logger as Logger | undefined) ?? consoleLogger,
    store: given.store as JobStore | undefined,
    images: given.images as ImageStore | undefined,
  };
}

function setting<T>(fixed: T | undefined, given: T | undefined, otherwise: T): GivenSetting<T> {
  return fixed === undefined ? { value: given ?? otherwise, fixed: false } : { value: fixed, fixed: true };
}

function auth(name: string, value: unknown): CredentialList | LoginFunction | 'backend' {
  if (typeof value === 'function') return value as LoginFunction;
  if (value === 'backend') return value;
  if (typeof value === 'string') return credentialList(name, value);
  throw unexpected(name, '"name:password,name2:password2", a function, or "backend"', kindOf(value));
}

function adminNames(name: string, value: unknown): readonly string[] {
  if (typeof value === 'string') return names(name, value);
  const isNames = Array.isArray(value) && value.every((one) => typeof one === 'string' && one.trim() !== '');
  if (!isNames) throw invalid(name, 'names, in an array or with commas between them', value);
  return [...(value as string[])];
}

/** The admins, where there is somebody who can be one. A name that nobody can log in with is a slip of the pen. */
function adminsAmong(
  login: ResolvedOptions['auth'],
  hasUserFunction: boolean,
  fromEnv: readonly string[] | undefined,
  given: readonly string[] | undefined,
): readonly string[] | undefined {
  const admins = fromEnv ?? given;
  const name = fromEnv ? 'TRACKER_ADMINS' : 'admins';
  const known = login instanceof Map && !hasUserFunction ? [...login.keys()] : undefined;
  if (!admins) return known?.length === 1 ? known : undefined;
  if (login === undefined && !hasUserFunction) {
    throw unexpected(name, 'absent where there is neither `auth` nor `user`', 'names');
  }
  const stranger = known && admins.find((admin) => !known.includes(admin));
  if (stranger !== undefined) throw invalid(name, `among the names of \`auth\``, stranger);
  return admins;
}
