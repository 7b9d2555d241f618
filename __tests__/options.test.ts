import { resolve } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { JobTrackerError, type JobTrackerOptions, jobTracker } from '../lib/index.js';
import { consoleLogger } from '../lib/logger.js';
import { type ResolvedOptions, resolveOptions } from '../lib/options.js';

const OPTION_NAMES = [
  'a1111',
  'comfyui',
  'forward',
  'dir',
  'enabled',
  'retention',
  'purgeEvery',
  'maxBytes',
  'auth',
  'user',
  'admins',
  'headAfter',
  'keepAlive',
  'onDisconnect',
  'retryWindow',
  'jobTimeout',
  'concurrency',
  'maxQueue',
  'logger',
  'store',
  'images',
  'env',
];

/** What JavaScript may hand over, whatever the types say. */
const given = (options: unknown) => options as JobTrackerOptions;

function refusalOf(options: unknown): string {
  try {
    resolveOptions(given(options));
  } catch (error) {
    expect(error).toBeInstanceOf(JobTrackerError);
    expect((error as JobTrackerError).code).toBe('INVALID_OPTION');
    return (error as JobTrackerError).message;
  }
  throw new Error('the options were taken');
}

const methods = (...names: string[]) => Object.fromEntries(names.map((name) => [name, () => {}]));
const STORE_METHODS = ['open', 'insert', 'update', 'get', 'list', 'walk', 'remove', 'unfinished', 'close'];
const store = methods(...STORE_METHODS);
const images = methods('open', 'create', 'read', 'remove');
const logger = methods('info', 'warn', 'error');
const login = () => true;
const whoIsIt = () => 'ann';

const DAY_MS = 86_400_000;

const defaults: ResolvedOptions = {
  a1111: undefined,
  comfyui: undefined,
  forward: false,
  dir: resolve('./job-tracker'),
  enabled: { value: true, fixed: false },
  retentionMs: { value: 0, fixed: false },
  purgeEveryMs: 21_600_000,
  maxBytes: Number.POSITIVE_INFINITY,
  auth: undefined,
  user: undefined,
  admins: undefined,
  headAfterMs: 100,
  keepAliveMs: 15_000,
  onDisconnect: 'continue',
  retryWindowMs: 600_000,
  jobTimeoutMs: 86_400_000,
  concurrency: Number.POSITIVE_INFINITY,
  maxQueue: 1_000,
  logger: consoleLogger,
  store: undefined,
  images: undefined,
};

describe('defaults', () => {
  test.each([
    ['nothing', undefined],
    ['no options', {}],
  ])('%s: wrap mode', (_name, options) => {
    expect(resolveOptions(options)).toEqual(defaults);
  });

  test('a URL makes it forward mode, one generation at a time', () => {
    expect(resolveOptions({ a1111: 'http://127.0.0.1:7860' })).toEqual({
      ...defaults,
      a1111: new URL('http://127.0.0.1:7860'),
      forward: true,
      concurrency: 1,
    });
  });

  test('undefined is absent, for every option', () => {
    const options = Object.fromEntries(OPTION_NAMES.map((name) => [name, undefined]));
    expect(resolveOptions(given(options))).toEqual(defaults);
  });
});

describe('valid values', () => {
  const valid: [string, unknown, Partial<ResolvedOptions>][] = [
    [
      'a1111',
      'https://user:pass@sd.example:8443/base',
      { a1111: new URL('https://user:pass@sd.example:8443/base') },
    ],
    ['a1111', new URL('http://[::1]:7860'), { a1111: new URL('http://[::1]:7860') }],
    ['comfyui', 'http://gpu:8188/', { comfyui: new URL('http://gpu:8188/') }],
    ['forward', false, { forward: false }],
    ['dir', 'some/where', { dir: resolve('some/where') }],
    ['dir', '/absolute', { dir: resolve('/absolute') }],
    ['enabled', false, { enabled: { value: false, fixed: false } }],
    ['retention', 0, { retentionMs: { value: 0, fixed: false } }],
    ['retention', 30, { retentionMs: { value: 30 * DAY_MS, fixed: false } }],
    ['retention', 0.5, { retentionMs: { value: DAY_MS / 2, fixed: false } }],
    ['retention', '12h', { retentionMs: { value: DAY_MS / 2, fixed: false } }],
    ['retention', '90 days', { retentionMs: { value: 90 * DAY_MS, fixed: false } }],
    ['retention', 36_500, { retentionMs: { value: 36_500 * DAY_MS, fixed: false } }],
    ['purgeEvery', '1h', { purgeEveryMs: 3_600_000 }],
    ['maxBytes', 20e9, { maxBytes: 20_000_000_000 }],
    ['auth', 'ann:secret', { auth: new Map([['ann', 'secret']]), admins: ['ann'] }],
    [
      'auth',
      'ann:one, bob:tw:o ',
      {
        auth: new Map([
          ['ann', 'one'],
          ['bob', 'tw:o '],
        ]),
        admins: undefined,
      },
    ],
    ['auth', login, { auth: login, admins: undefined }],
    ['user', whoIsIt, { user: whoIsIt, admins: undefined }],
    ['env', {}, {}],
    ['headAfter', '2s', { headAfterMs: 2_000 }],
    ['headAfter', '1.5 seconds', { headAfterMs: 1_500 }],
    ['headAfter', 0, { headAfterMs: 0 }],
    ['headAfter', false, { headAfterMs: false }],
    ['keepAlive', '15s', { keepAliveMs: 15_000 }],
    ['keepAlive', '1M', { keepAliveMs: 60_000 }],
    ['retryWindow', '1h', { retryWindowMs: 3_600_000 }],
    ['retryWindow', false, { retryWindowMs: false }],
    ['jobTimeout', '24d', { jobTimeoutMs: 24 * 86_400_000 }],
    ['concurrency', 1, { concurrency: 1 }],
    ['concurrency', 8, { concurrency: 8 }],
    ['concurrency', Number.POSITIVE_INFINITY, { concurrency: Number.POSITIVE_INFINITY }],
    ['maxQueue', 1, { maxQueue: 1 }],
    ['maxQueue', Number.POSITIVE_INFINITY, { maxQueue: Number.POSITIVE_INFINITY }],
    ['onDisconnect', 'continue', { onDisconnect: 'continue' }],
    ['onDisconnect', 'cancel', { onDisconnect: 'cancel' }],
    ['logger', logger, { logger } as unknown as Partial<ResolvedOptions>],
    ['logger', console, { logger: console }],
    ['store', store, { store } as unknown as Partial<ResolvedOptions>],
    ['images', images, { images } as unknown as Partial<ResolvedOptions>],
  ];

  test.each(valid)('%s: %p', (name, value, expected) => {
    expect(resolveOptions(given({ [name]: value }))).toMatchObject(expected);
  });

  test('a store may be an instance of a class, with its methods on the prototype', () => {
    const instance = Object.create(store);
    expect(resolveOptions(given({ store: instance })).store).toBe(instance);
  });

  test('a URL without forwarding leaves wrap mode as it is', () => {
    const { a1111, forward, concurrency } = resolveOptions({
      a1111: 'http://127.0.0.1:7860',
      forward: false,
    });
    expect([a1111?.href, forward, concurrency]).toEqual([
      'http://127.0.0.1:7860/',
      false,
      Number.POSITIVE_INFINITY,
    ]);
  });

  test('what was given is neither changed nor shared', () => {
    const a1111 = new URL('http://127.0.0.1:7860');
    const options = Object.freeze({ a1111, dir: 'x', headAfter: '1s' as const });
    const resolved = resolveOptions(options);
    expect(options).toEqual({ a1111: new URL('http://127.0.0.1:7860'), dir: 'x', headAfter: '1s' });
    expect(resolved.a1111).not.toBe(a1111);
    a1111.port = '1';
    expect(resolved.a1111?.port).toBe('7860');
  });
});

describe('invalid values', () => {
  const url = 'a URL such as "http://127.0.0.1:7860"';
  const duration = 'a duration such as "100ms", "15s" or "24h"';
  const days = 'a number of days from 0 (keep for ever) to 36500, or a duration such as "12h"';
  const list = '"name:password,name2:password2"';
  const whole = 'a whole number from 1, or Infinity';
  const storeMethods = `a JobStore with ${STORE_METHODS.join(', ')}`;

  const invalid: [string, unknown, string, string][] = [
    ['a1111', '', url, '""'],
    ['a1111', 'sd.example', url, '"sd.example"'],
    ['a1111', '127.0.0.1:7860', url, '"127.0.0.1:7860"'],
    ['a1111', 'localhost:7860', url, '"localhost:7860"'],
    ['a1111', 'ftp://127.0.0.1', url, '"ftp://127.0.0.1"'],
    ['a1111', new URL('file:///tmp'), url, '"file:///tmp"'],
    [
      'a1111',
      'http://127.0.0.1:7860/?a=b',
      `${url}, without a query or a fragment`,
      '"http://127.0.0.1:7860/?a=b"',
    ],
    [
      'a1111',
      'http://127.0.0.1:7860/#a',
      `${url}, without a query or a fragment`,
      '"http://127.0.0.1:7860/#a"',
    ],
    ['a1111', 7860, url, '7860'],
    ['a1111', null, url, 'null'],
    ['a1111', ['http://127.0.0.1:7860'], url, 'an array'],
    ['a1111', Object.create(null), url, 'an object'],
    ['comfyui', 'gpu:8188', 'a URL such as "http://127.0.0.1:8188"', '"gpu:8188"'],
    ['forward', 'false', 'true or false', '"false"'],
    ['forward', 0, 'true or false', '0'],
    ['forward', null, 'true or false', 'null'],
    ['forward', true, 'false where neither `a1111` nor `comfyui` is given', 'true'],
    ['dir', '', 'a path', '""'],
    ['dir', '  ', 'a path', '"  "'],
    ['dir', 7, 'a path', '7'],
    ['dir', new URL('file:///tmp/x'), 'a path', '"file:///tmp/x"'],
    ['enabled', 1, 'true or false', '1'],
    ['enabled', 'yes', 'true or false', '"yes"'],
    ['retention', -1, days, '-1'],
    ['retention', Number.NaN, days, 'NaN'],
    ['retention', Number.POSITIVE_INFINITY, days, 'Infinity'],
    ['retention', 36_501, days, '36501'],
    // Milliseconds, by mistake.
    ['retention', 7 * DAY_MS, days, '604800000'],
    ['retention', '30', days, '"30"'],
    ['retention', '-1d', days, '"-1d"'],
    ['retention', '0s', days, '"0s"'],
    ['retention', '6M', days, '"6M"'],
    ['retention', 0.0001, days, '0.0001'],
    ['retention', 'for ever', days, '"for ever"'],
    ['retention', '1e9 days', days, '"1e9 days"'],
    ['retention', 1e-12, days, '1e-12'],
    ['retention', true, days, 'true'],
    ['retention', null, days, 'null'],
    ['purgeEvery', 6, duration, '6'],
    ['maxBytes', 0, 'a whole number of bytes from 1', '0'],
    ['maxBytes', 1.5, 'a whole number of bytes from 1', '1.5'],
    ['maxBytes', '20GB', 'a whole number of bytes from 1', '"20GB"'],
    ['maxBytes', Number.POSITIVE_INFINITY, 'a whole number of bytes from 1', 'Infinity'],
    ['auth', 'ann', list, 'one without a colon'],
    ['auth', '', list, 'one without a colon'],
    ['auth', ':', list, 'one without a name'],
    ['auth', ':secret', list, 'one without a name'],
    ['auth', 'ann:', list, 'one without a password'],
    ['auth', 'ann: ', list, 'one without a password'],
    ['auth', 'ann:one,', list, 'an entry (number 2) without a colon'],
    ['auth', 'ann:one,bob:', list, 'an entry (number 2) without a password'],
    ['auth', 'ann:one,ann:two', list, 'the name "ann" twice'],
    ['auth', 7, `${list}, a function, or "backend"`, 'a number'],
    ['auth', null, `${list}, a function, or "backend"`, 'null'],
    ['auth', { ann: 'secret' }, `${list}, a function, or "backend"`, 'an object'],
    ['auth', ['ann:secret'], `${list}, a function, or "backend"`, 'an array'],
    ['auth', 'backend', 'a list or a function where there is no `a1111` to ask', '"backend"'],
    ['user', 'ann', 'a function that tells who makes a request', '"ann"'],
    ['admins', '', 'names with commas between them', '""'],
    ['admins', 'ann,,bob', 'names with commas between them', '"ann,,bob"'],
    ['admins', ['ann', ''], 'names, in an array or with commas between them', 'an array'],
    ['admins', [7], 'names, in an array or with commas between them', 'an array'],
    ['admins', 'ann', 'absent where there is neither `auth` nor `user`', 'names'],
    ['env', 'TRACKER_AUTH=a:b', 'an object such as process.env', '"TRACKER_AUTH=a:b"'],
    ['headAfter', '30', `${duration}, 0 or false`, '"30"'],
    ['headAfter', 30, `${duration}, 0 or false`, '30'],
    ['headAfter', true, `${duration}, 0 or false`, 'true'],
    ['headAfter', '0ms', `${duration}, 0 or false`, '"0ms"'],
    ['keepAlive', '30', duration, '"30"'],
    ['keepAlive', 'abc', duration, '"abc"'],
    ['keepAlive', '-1d', duration, '"-1d"'],
    ['keepAlive', '', duration, '""'],
    ['keepAlive', ' ', duration, '" "'],
    ['keepAlive', 0, duration, '0'],
    ['keepAlive', false, duration, 'false'],
    ['keepAlive', 1e9, duration, '1000000000'],
    ['keepAlive', '1e9 days', duration, '"1e9 days"'],
    ['keepAlive', '1000000000 days', `${duration}, of at most 24 days`, '"1000000000 days"'],
    ['keepAlive', '25d', `${duration}, of at most 24 days`, '"25d"'],
    ['keepAlive', `${'1'.repeat(200)}s`, duration, `"${'1'.repeat(100)}…"`],
    ['keepAlive', Symbol('1s'), duration, 'Symbol(1s)'],
    ['retryWindow', 0, `${duration}, or false`, '0'],
    ['retryWindow', true, `${duration}, or false`, 'true'],
    ['jobTimeout', '30', duration, '"30"'],
    ['jobTimeout', '1 year', `${duration}, of at most 24 days`, '"1 year"'],
    ['jobTimeout', null, duration, 'null'],
    ['concurrency', 0, whole, '0'],
    ['concurrency', -1, whole, '-1'],
    ['concurrency', 1.5, whole, '1.5'],
    ['concurrency', Number.NaN, whole, 'NaN'],
    ['concurrency', Number.NEGATIVE_INFINITY, whole, '-Infinity'],
    ['concurrency', '4', whole, '"4"'],
    ['concurrency', 4n, whole, '4'],
    ['maxQueue', 0, whole, '0'],
    ['maxQueue', 2.5, whole, '2.5'],
    ['maxQueue', '9', whole, '"9"'],
    ['onDisconnect', 'Cancel', '"continue" or "cancel"', '"Cancel"'],
    ['onDisconnect', false, '"continue" or "cancel"', 'false'],
    ['logger', null, 'a logger with info, warn, error', 'null'],
    ['logger', methods('info', 'warn'), 'a logger with info, warn, error', 'one without error'],
    ['logger', console.log, 'a logger with info, warn, error', 'a function'],
    ['store', {}, storeMethods, `one without ${STORE_METHODS.join(', ')}`],
    ['store', { ...store, list: true }, storeMethods, 'one without list'],
    ['store', './jobs.json', storeMethods, '"./jobs.json"'],
    [
      'images',
      methods('open', 'create', 'read'),
      'an ImageStore with open, create, read, remove',
      'one without remove',
    ],
  ];

  test.each(invalid)('%s: %p', (name, value, expected, got) => {
    expect(refusalOf({ [name]: value })).toBe(`Expected \`${name}\` to be ${expected}, got ${got}`);
  });

  test.each([
    [null, 'null'],
    [[], 'an array'],
    ['http://127.0.0.1:7860', '"http://127.0.0.1:7860"'],
    [1, '1'],
  ])('options that are %p', (options, got) => {
    expect(refusalOf(options)).toBe(`Expected \`options\` to be an object, got ${got}`);
  });

  test.each(['a111', 'retain', 'constructor', 'toString', 'hasOwnProperty', ''])(
    'an option that is not known: %p, even with undefined',
    (name) => {
      for (const value of [1, undefined]) {
        const message = refusalOf({ [name]: value });
        expect(message).toBe(`Expected the options to be among ${OPTION_NAMES.join(', ')}, got \`${name}\``);
      }
    },
  );

  test('`__proto__` in options that come from a JSON file', () => {
    expect(refusalOf(JSON.parse('{"__proto__":{"dir":"/etc"}}'))).toMatch(/, got `__proto__`$/);
  });

  test.each([
    'ftp://user:hunter2@127.0.0.1',
    'http://user:hunter2@127.0.0.1:7860/?a',
    'http://user:hunter2@127.0.0.1:7860/#a',
    'http://user:hunter2@127.0.0.1:99999',
    'http://user:hunt/hunter2@127.0.0.1:7860',
    'http://user:at@hunter2@127.0.0.1:port',
    'http://user:hunt#hunter2@127.0.0.1:port',
    'http://user:hunt\nhunter2@127.0.0.1:port',
    'user:hunter2@127.0.0.1:7860',
    `ftp://user:${'long'.repeat(30)}hunter2@127.0.0.1`,
    new URL('ftp://user:hunter2@127.0.0.1'),
  ])('no password is repeated: %j', (address) => {
    const message = refusalOf({ a1111: address });
    expect(message).not.toContain('hunter2');
    expect(message).toContain('…@127.0.0.1');
  });
});

describe('admins', () => {
  const auth = 'ann:one,bob:two';

  test.each([
    [{ auth, admins: 'bob' }, ['bob']],
    [{ auth, admins: ' ann , bob ' }, ['ann', 'bob']],
    [{ auth, admins: ['ann'] }, ['ann']],
    [{ auth, admins: [] }, []],
    [{ auth: 'ann:one', admins: [] }, []],
    [{ auth: login, admins: 'anybody' }, ['anybody']],
    [{ user: whoIsIt, admins: 'anybody' }, ['anybody']],
    // The host's own names come first there.
    [{ auth: 'ann:one', user: whoIsIt }, undefined],
    [{ auth, user: whoIsIt, admins: 'anybody' }, ['anybody']],
  ])('%j', (options, admins) => {
    expect(resolveOptions(options).admins).toEqual(admins);
  });

  test('a name that is not in the list', () => {
    expect(refusalOf({ auth, admins: 'ann,bop' })).toBe(
      'Expected `admins` to be among the names of `auth`, got "bop"',
    );
  });
});

describe('the environment', () => {
  const a1111 = 'http://127.0.0.1:7860';
  const fixed = <T>(value: T) => ({ value, fixed: true });

  test.each<[Record<string, string>, JobTrackerOptions, Partial<ResolvedOptions>]>([
    ...['1', 'true', 'YES', ' on '].map(
      (word) =>
        [{ TRACKER_ENABLED: word }, { enabled: false }, { enabled: fixed(true) }] as [
          Record<string, string>,
          JobTrackerOptions,
          Partial<ResolvedOptions>,
        ],
    ),
    ...['0', 'False', 'no', 'off'].map(
      (word) =>
        [{ TRACKER_ENABLED: word }, {}, { enabled: fixed(false) }] as [
          Record<string, string>,
          JobTrackerOptions,
          Partial<ResolvedOptions>,
        ],
    ),
    [{ TRACKER_ENABLED: '' }, { enabled: false }, { enabled: { value: false, fixed: false } }],
    [{ TRACKER_RETENTION: '0' }, { retention: 7 }, { retentionMs: fixed(0) }],
    [{ TRACKER_RETENTION: '30' }, {}, { retentionMs: fixed(30 * DAY_MS) }],
    [{ TRACKER_RETENTION: '0.5' }, {}, { retentionMs: fixed(DAY_MS / 2) }],
    [{ TRACKER_RETENTION: ' ' }, { retention: 7 }, { retentionMs: { value: 7 * DAY_MS, fixed: false } }],
    [{ TRACKER_AUTH: 'ann:one' }, { auth: login }, { auth: new Map([['ann', 'one']]), admins: ['ann'] }],
    [{ TRACKER_AUTH: 'backend' }, { a1111 }, { auth: 'backend', admins: undefined }],
    [{ TRACKER_AUTH: 'ann:1,bob:2', TRACKER_ADMINS: 'bob' }, { admins: 'x' }, { admins: ['bob'] }],
    [{ TRACKER_CONCURRENCY: '3' }, { a1111, concurrency: 1 }, { concurrency: 3 }],
  ])('%j over %j', (env, options, expected) => {
    expect(resolveOptions({ ...options, env })).toMatchObject(expected);
  });

  test.each([
    [
      { TRACKER_ENABLED: 'maybe' },
      'TRACKER_ENABLED',
      'one of 1, true, yes, on, 0, false, no, off',
      '"maybe"',
    ],
    [{ TRACKER_ENABLED: '2' }, 'TRACKER_ENABLED', 'one of 1, true, yes, on, 0, false, no, off', '"2"'],
    ...['-1', '0.000001', '7d', 'abc', '1e9', '36501', '604800000', '0.0000000', '٣'].map(
      (text) =>
        [
          { TRACKER_RETENTION: text },
          'TRACKER_RETENTION',
          'a number of days from 0 (keep for ever) to 36500',
          `"${text}"`,
        ] as const,
    ),
    [{ TRACKER_AUTH: 'ann' }, 'TRACKER_AUTH', '"name:password,name2:password2"', 'one without a colon'],
    [{ TRACKER_ADMINS: 'ann' }, 'TRACKER_ADMINS', 'absent where there is neither `auth` nor `user`', 'names'],
    [
      { TRACKER_AUTH: 'ann:1', TRACKER_ADMINS: 'bob' },
      'TRACKER_ADMINS',
      'among the names of `auth`',
      '"bob"',
    ],
    [{ TRACKER_CONCURRENCY: '0' }, 'TRACKER_CONCURRENCY', 'a whole number from 1 to 1000', '"0"'],
  ])('%j is refused', (env, name, expected, got) => {
    expect(refusalOf({ env })).toBe(`Expected \`${name}\` to be ${expected}, got ${got}`);
  });

  test('no password of it is repeated', () => {
    for (const text of [
      'ann:hunter2,bob',
      'hunter2',
      ':hunter2',
      'ann:hunter2,ann:hunter2',
      'a:b,hunter2:',
    ]) {
      const message = refusalOf({ env: { TRACKER_AUTH: text } });
      expect(message.replace('name:password,name2:password2', '')).not.toContain('hunter2');
    }
  });

  test('is the process’s own, unless another is given', () => {
    process.env.TRACKER_RETENTION = '3';
    try {
      expect(resolveOptions().retentionMs).toEqual(fixed(3 * DAY_MS));
      expect(resolveOptions({ env: {} }).retentionMs).toEqual({ value: 0, fixed: false });
    } finally {
      delete process.env.TRACKER_RETENTION;
    }
  });
});

test('jobTracker() itself throws, before it has touched anything', () => {
  expect(() => jobTracker({ keepAlive: '30' as never })).toThrow(/^Expected `keepAlive` to be a duration/);
});
