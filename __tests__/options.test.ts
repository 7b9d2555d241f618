import { resolve } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { JobTrackerError, type JobTrackerOptions, jobTracker } from '../lib/index.js';
import { consoleLogger } from '../lib/logger.js';
import { type ResolvedOptions, resolveOptions } from '../lib/options.js';

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
const store = methods('open', 'insert', 'update', 'get', 'list', 'remove', 'unfinished', 'close');
const images = methods('open', 'create', 'read', 'remove');
const logger = methods('info', 'warn', 'error');

const defaults: ResolvedOptions = {
  a1111: undefined,
  forward: false,
  dir: resolve('./job-tracker'),
  headAfterMs: 100,
  keepAliveMs: 15_000,
  jobTimeoutMs: 86_400_000,
  concurrency: Number.POSITIVE_INFINITY,
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
    const names = ['a1111', 'forward', 'dir', 'headAfter', 'keepAlive', 'jobTimeout', 'concurrency'];
    const options = Object.fromEntries(
      [...names, 'logger', 'store', 'images'].map((name) => [name, undefined]),
    );
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
    ['forward', false, { forward: false }],
    ['dir', 'some/where', { dir: resolve('some/where') }],
    ['dir', '/absolute', { dir: resolve('/absolute') }],
    ['headAfter', '2s', { headAfterMs: 2_000 }],
    ['headAfter', '1.5 seconds', { headAfterMs: 1_500 }],
    ['headAfter', 0, { headAfterMs: 0 }],
    ['headAfter', false, { headAfterMs: false }],
    ['keepAlive', '15s', { keepAliveMs: 15_000 }],
    ['keepAlive', '1M', { keepAliveMs: 60_000 }],
    ['jobTimeout', '24d', { jobTimeoutMs: 24 * 86_400_000 }],
    ['concurrency', 1, { concurrency: 1 }],
    ['concurrency', 8, { concurrency: 8 }],
    ['concurrency', Number.POSITIVE_INFINITY, { concurrency: Number.POSITIVE_INFINITY }],
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
  const whole = 'a whole number from 1, or Infinity';
  const storeMethods = 'a JobStore with open, insert, update, get, list, remove, unfinished, close';

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
    ['forward', 'false', 'true or false', '"false"'],
    ['forward', 0, 'true or false', '0'],
    ['forward', null, 'true or false', 'null'],
    ['forward', true, 'false where no `a1111` is given', 'true'],
    ['dir', '', 'a path', '""'],
    ['dir', '  ', 'a path', '"  "'],
    ['dir', 7, 'a path', '7'],
    ['dir', new URL('file:///tmp/x'), 'a path', '"file:///tmp/x"'],
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
    ['logger', null, 'a logger with info, warn, error', 'null'],
    ['logger', methods('info', 'warn'), 'a logger with info, warn, error', 'one without error'],
    ['logger', console.log, 'a logger with info, warn, error', 'a function'],
    ['store', {}, storeMethods, 'one without open, insert, update, get, list, remove, unfinished, close'],
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

  test.each(['a111', 'retention', 'constructor', 'toString', 'hasOwnProperty', ''])(
    'an option that is not known: %p, even with undefined',
    (name) => {
      for (const value of [1, undefined]) {
        const message = refusalOf({ [name]: value });
        expect(message).toBe(
          'Expected the options to be among a1111, forward, dir, headAfter, keepAlive, jobTimeout, concurrency, ' +
            `logger, store, images, got \`${name}\``,
        );
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

test('jobTracker() itself throws, before it has touched anything', () => {
  expect(() => jobTracker({ keepAlive: '30' as never })).toThrow(/^Expected `keepAlive` to be a duration/);
});
