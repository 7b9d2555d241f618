import { execFileSync } from 'node:child_process';
import { mkdir, readFile, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import fc from 'fast-check';
import { Settings, type SettingsOptions } from '../lib/settings.js';
import { fileHandlePrototype } from './helpers/file-handles.js';
import { type CollectedLog, collectLog } from './helpers/job-records.js';
import { namesIn } from './helpers/store-folders.js';
import { tempFolders } from './helpers/temp-folder.js';

const newFolder = tempFolders();
const DAY_MS = 86_400_000;

let folder: string;
let path: string;
let log: CollectedLog;

beforeEach(async () => {
  folder = await newFolder();
  path = join(folder, 'config.json');
  log = collectLog();
});

afterEach(() => {
  jest.restoreAllMocks();
});

const option = <T>(value: T) => ({ value, fixed: false });
const fixed = <T>(value: T) => ({ value, fixed: true });

/** Settings whose options say: on, thirty days. */
async function opened(differences: Partial<SettingsOptions> = {}): Promise<Settings> {
  const settings = new Settings({
    folder,
    enabled: option(true),
    retentionMs: option(30 * DAY_MS),
    logger: log,
    ...differences,
  });
  await settings.open();
  return settings;
}

const write = (content: unknown) =>
  writeFile(
    path,
    typeof content === 'string' || Buffer.isBuffer(content) ? content : JSON.stringify(content),
  );
const config = async () => JSON.parse(await readFile(path, 'utf8'));
const inForce = ({ trackingEnabled, retentionMs }: Settings) => [trackingEnabled, retentionMs / DAY_MS];

describe('what counts', () => {
  test('the options, where there is no config.json, and no folder', async () => {
    const missing = join(folder, 'not', 'there');
    expect(inForce(await opened({ folder: missing }))).toEqual([true, 30]);
    expect(namesIn(folder)).toEqual([]);
    expect(log.errors).toEqual([]);
  });

  test('before the options: config.json, key by key', async () => {
    await write({ tracking_enabled: false });
    expect(inForce(await opened())).toEqual([false, 30]);
    await write({ retention_days: 0 });
    expect(inForce(await opened())).toEqual([true, 0]);
    await write({ retention_days: 0.5, tracking_enabled: true });
    expect(inForce(await opened({ enabled: option(false) }))).toEqual([true, 0.5]);
    await write({});
    expect(inForce(await opened())).toEqual([true, 30]);
  });

  test('before config.json: the environment', async () => {
    await write({ tracking_enabled: true, retention_days: 7 });
    const environment = { enabled: fixed(false), retentionMs: fixed(DAY_MS) };
    expect(inForce(await opened(environment))).toEqual([false, 1]);
    expect(inForce(await opened({ retentionMs: fixed(0) }))).toEqual([true, 0]);
  });

  test('what is described', async () => {
    expect((await opened()).describe()).toEqual({
      tracking_enabled: true,
      retention_days: 30,
      fixed_by_environment: [],
    });
    const settings = await opened({ enabled: fixed(false), retentionMs: fixed(DAY_MS / 4) });
    expect(settings.describe()).toEqual({
      tracking_enabled: false,
      retention_days: 0.25,
      fixed_by_environment: ['tracking_enabled', 'retention_days'],
    });
  });

  test('a byte order mark, and white space, are no matter', async () => {
    await write('\uFEFF{\r\n\t"retention_days": 7\r\n}\r\n');
    expect(inForce(await opened())).toEqual([true, 7]);
  });
});

describe('a value that makes no sense', () => {
  const days = 'a number of days from 0 (keep for ever) to 36500';
  test.each([
    ['"30"', '"30"'],
    ['"12h"', '"12h"'],
    ['-1', '-1'],
    ['1e9', '1000000000'],
    ['36500.1', '36500.1'],
    ['1e-9', '1e-9'],
    ['1e999', 'Infinity'],
    ['null', 'null'],
    ['true', 'true'],
    ['[]', 'an array'],
    ['{}', 'an object'],
  ])('retention_days %s: jobs are kept for ever, which is said', async (json, got) => {
    await write(`{"retention_days":${json},"tracking_enabled":false}`);
    const settings = await opened();
    expect(inForce(settings)).toEqual([false, 0]);
    const problem = `${path}: Expected \`retention_days\` to be ${days}, got ${got}: jobs are kept for ever until that is mended`;
    expect(log.errors).toEqual([problem]);
    expect(settings.problem).toBe(problem);
    expect(settings.describe()).toMatchObject({ retention_days: 0, problem });
  });

  test.each(['"true"', '1', '0', 'null', '{}'])(
    'tracking_enabled %s: the option counts, which is said',
    async (json) => {
      await write(`{"tracking_enabled":${json},"retention_days":7}`);
      for (const enabled of [true, false]) {
        const settings = await opened({ enabled: option(enabled) });
        expect(inForce(settings)).toEqual([enabled, 7]);
        const says = new RegExp(
          `^${path}: Expected \`tracking_enabled\` to be true or false, got .*: ` +
            `tracking is ${enabled ? 'on' : 'off'}, as the options say until that is mended$`,
        );
        expect(settings.problem).toMatch(says);
        expect(log.errors.splice(0)).toEqual([expect.stringMatching(says)]);
      }
    },
  );

  test('both of them', async () => {
    await write({ tracking_enabled: 'no', retention_days: 'no' });
    const settings = await opened();
    expect(inForce(settings)).toEqual([true, 0]);
    expect(settings.problem).toMatch(/tracking_enabled.*; .*retention_days/);
  });

  test('is reported also where the environment has decided', async () => {
    await write({ tracking_enabled: 5, retention_days: -5 });
    const settings = await opened({ enabled: fixed(false), retentionMs: fixed(DAY_MS) });
    expect(inForce(settings)).toEqual([false, 1]);
    expect(settings.problem).toMatch(
      /tracking_enabled.* got 5: TRACKER_ENABLED counts.*retention_days.* got -5: TRACKER_RETENTION counts/,
    );
  });
});

describe('a config.json that cannot be understood', () => {
  const broken: [what: string, content: string | Buffer, says: RegExp][] = [
    ['no JSON', 'retention_days = 30', /not valid JSON/],
    ['half of one', '{"retention_days": 30', /JSON/],
    ['empty', '', /JSON/],
    ['an array', '[30]', /it holds an array/],
    ['null', 'null', /it holds null/],
    ['a text', '"30"', /it holds a string/],
    ['in UTF-16', Buffer.from('\uFEFF{"retention_days":30}', 'utf16le'), /not valid for encoding/],
    ['too large', `{"retention_days":30${' '.repeat(65_536)}}`, /65557 bytes instead of at most 65536/],
  ];

  async function expectForEver(says: RegExp): Promise<void> {
    const settings = await opened();
    expect(inForce(settings)).toEqual([true, 0]);
    expect(settings.problem).toMatch(says);
    expect(settings.problem).toContain(`Expected ${path} to be a file with a JSON object, but it is not (`);
    expect(settings.problem).toMatch(
      /: tracking is on, as the options say and jobs are kept for ever until that is mended$/,
    );
    expect(log.errors).toEqual([settings.problem]);
  }

  test.each(broken)('%s: jobs are kept for ever, which is said', async (_what, content, says) => {
    await write(content);
    await expectForEver(says);
    expect(await readFile(path)).toEqual(Buffer.from(content));
  });

  test('a folder, or a pipe', async () => {
    await mkdir(path);
    await expectForEver(/it is not a file/);
    if (process.platform === 'win32') return;
    path = join(await newFolder(), 'config.json');
    folder = join(path, '..');
    execFileSync('mkfifo', [path]);
    log = collectLog();
    await expectForEver(/it is not a file/);
  });

  test('one that may not be read', async () => {
    await symlink(path, path);
    await expectForEver(/ELOOP/);
  });

  test('the environment counts all the same', async () => {
    await write('?');
    const settings = await opened({ retentionMs: fixed(DAY_MS) });
    expect(inForce(settings)).toEqual([true, 1]);
    expect(settings.problem).toMatch(/tracking is on, as the options say and TRACKER_RETENTION counts/);
  });

  test.each(broken)('%s: put aside by a change, never overwritten', async (_what, content) => {
    await write(content);
    const settings = await opened();
    const before = Date.now();
    await settings.change({ tracking_enabled: false });
    // What the change did not name has not changed: they were kept for ever.
    expect(inForce(settings)).toEqual([false, 0]);
    expect(settings.problem).toBeUndefined();
    expect(await config()).toEqual({ tracking_enabled: false, retention_days: 0 });
    const [aside = '', ...others] = namesIn(folder, 'config.json.');
    expect(others).toEqual([]);
    const [, time] = /^config\.json\.corrupt-(\d+)$/.exec(aside) ?? [];
    expect(Number(time)).toBeGreaterThanOrEqual(before);
    expect(Number(time)).toBeLessThanOrEqual(Date.now());
    expect(await readFile(join(folder, aside))).toEqual(Buffer.from(content));
    expect(log.warnings).toEqual([`${path} could not be understood and is now ${join(folder, aside)}`]);
    expect(inForce(await opened())).toEqual([false, 0]);
  });

  test('two in the same millisecond', async () => {
    jest.spyOn(Date, 'now').mockReturnValue(1_790_000_000_000);
    const settings = await opened();
    for (const content of ['one', 'two']) {
      await write(content);
      await settings.change({ retention_days: 1 });
    }
    const asides = namesIn(folder, 'config.json.').sort();
    expect(asides).toEqual(['config.json.corrupt-1790000000000', 'config.json.corrupt-1790000000000-2']);
    const contents = await Promise.all(asides.map((name) => readFile(join(folder, name), 'utf8')));
    expect(contents).toEqual(['one', 'two']);
  });

  test('a folder in its place is put aside, too', async () => {
    await mkdir(path);
    const settings = await opened();
    await settings.change({ retention_days: 7 });
    expect(await config()).toEqual({ retention_days: 7 });
    const [aside = ''] = namesIn(folder, 'config.json.corrupt-');
    expect((await stat(join(folder, aside))).isDirectory()).toBe(true);
  });
});

describe('a change', () => {
  test('counts once it has resolved, and after a restart', async () => {
    const settings = await opened({ folder: join(folder, 'new', 'one') });
    folder = join(folder, 'new', 'one');
    path = join(folder, 'config.json');
    await settings.change({ tracking_enabled: false });
    expect(inForce(settings)).toEqual([false, 30]);
    await settings.change({ retention_days: 0.5 });
    expect(inForce(settings)).toEqual([false, 0.5]);
    expect(await config()).toEqual({ tracking_enabled: false, retention_days: 0.5 });
    await settings.change({ retention_days: 0, tracking_enabled: true });
    expect(inForce(settings)).toEqual([true, 0]);
    expect(inForce(await opened())).toEqual([true, 0]);
    expect(namesIn(folder)).toEqual(['config.json']);
  });

  test('does not count before it is on the disk, synced: file, then name', async () => {
    const settings = await opened();
    const handles = await fileHandlePrototype();
    const steps: unknown[] = [];
    const { sync } = handles;
    jest.spyOn(handles, 'sync').mockImplementation(async function (this: typeof handles) {
      const isFolder = (await this.stat()).isDirectory();
      steps.push([isFolder ? 'folder' : 'file', namesIn(folder), settings.retentionMs / DAY_MS]);
      return sync.call(this);
    });
    await settings.change({ retention_days: 7 });
    expect(steps).toEqual([
      ['file', ['config.json.new'], 30],
      ['folder', ['config.json'], 30],
    ]);
    expect(settings.retentionMs).toBe(7 * DAY_MS);
  });

  test('keeps what a person has put under other keys, also after the start', async () => {
    await write('{"note":"mine","deep":{"list":[1,"ü"]},"__proto__":{"x":1},"retention_days":7}');
    const settings = await opened();
    await settings.change({ tracking_enabled: false });
    expect(JSON.stringify(await config())).toBe(
      '{"note":"mine","deep":{"list":[1,"ü"]},"__proto__":{"x":1},"retention_days":7,"tracking_enabled":false}',
    );
    await write({ note: 'another', retention_days: 9 });
    await settings.change({ tracking_enabled: true });
    expect(await config()).toEqual({ note: 'another', retention_days: 9, tracking_enabled: true });
    expect(inForce(settings)).toEqual([true, 9]);
  });

  test('mends the value that it names, and no other', async () => {
    await write({ tracking_enabled: 'yes', retention_days: 'a month' });
    const settings = await opened();
    await settings.change({ tracking_enabled: false });
    expect(inForce(settings)).toEqual([false, 0]);
    expect(await config()).toEqual({ tracking_enabled: false, retention_days: 'a month' });
    expect(settings.problem).toMatch(/retention_days/);
    expect(settings.problem).not.toMatch(/tracking_enabled/);
    await settings.change({ retention_days: 31 });
    expect([settings.problem, ...inForce(settings)]).toEqual([undefined, false, 31]);
    expect(namesIn(folder)).toEqual(['config.json']);
  });

  test('a config.json that somebody has broken meanwhile does not change what is in force', async () => {
    await write({ retention_days: 7 });
    const settings = await opened();
    await write('{"retention_days": 7, }');
    await settings.change({ tracking_enabled: false });
    expect(inForce(settings)).toEqual([false, 7]);
    expect(inForce(await opened())).toEqual([false, 7]);
    expect(namesIn(folder, 'config.json.corrupt-')).toHaveLength(1);
  });

  const keys = 'an object with tracking_enabled or retention_days, or both';
  test.each([
    [undefined, `Expected \`settings\` to be ${keys}, got nothing`],
    [null, `Expected \`settings\` to be ${keys}, got null`],
    [[], `Expected \`settings\` to be ${keys}, got an array`],
    ['{}', `Expected \`settings\` to be ${keys}, got a string`],
    [5, `Expected \`settings\` to be ${keys}, got a number`],
    [{}, `Expected \`settings\` to be ${keys}, got an empty one`],
    [{ retention: 5 }, `Expected \`settings\` to be ${keys}, got one with "retention"`],
    [{ retention_days: 5, x: 1 }, `Expected \`settings\` to be ${keys}, got one with "x"`],
    [JSON.parse('{"__proto__":1}'), `Expected \`settings\` to be ${keys}, got one with "__proto__"`],
    [{ tracking_enabled: 'true' }, 'Expected `tracking_enabled` to be true or false, got "true"'],
    [{ tracking_enabled: 1 }, 'Expected `tracking_enabled` to be true or false, got 1'],
    [{ tracking_enabled: null }, 'Expected `tracking_enabled` to be true or false, got null'],
    ...(['30', '12h', -1, 1e9, Number.NaN, 1e-9, null, undefined, true] as const).map((value) => [
      { tracking_enabled: false, retention_days: value },
      `Expected \`retention_days\` to be a number of days from 0 (keep for ever) to 36500, got ${typeof value === 'string' ? `"${value}"` : value}`,
    ]),
  ])('%j is refused, and nothing changes', async (patch, message) => {
    await write({ retention_days: 7 });
    const settings = await opened();
    await expect(settings.change(patch)).rejects.toMatchObject({ code: 'INVALID_PARAMETER', message });
    expect(inForce(settings)).toEqual([true, 7]);
    expect(await readFile(path, 'utf8')).toBe('{"retention_days":7}');
  });

  test('of what the environment has decided is refused, with all that comes along', async () => {
    for (const [environment, patch, name] of [
      [{ enabled: fixed(true) }, { tracking_enabled: false, retention_days: 5 }, 'TRACKER_ENABLED'],
      [{ retentionMs: fixed(0) }, { tracking_enabled: false, retention_days: 5 }, 'TRACKER_RETENTION'],
    ] as const) {
      const settings = await opened(environment);
      const before = inForce(settings);
      await expect(settings.change(patch)).rejects.toMatchObject({
        code: 'FIXED_BY_ENVIRONMENT',
        message: expect.stringContaining(name),
      });
      expect(inForce(settings)).toEqual(before);
      expect(namesIn(folder)).toEqual([]);
    }
    const settings = await opened({ enabled: fixed(true) });
    await settings.change({ retention_days: 5 });
    expect(inForce(settings)).toEqual([true, 5]);
    // What makes no sense is said first.
    await expect(settings.change({ tracking_enabled: 'no' })).rejects.toMatchObject({
      code: 'INVALID_PARAMETER',
    });
  });

  test('that cannot be written changes nothing, and one after it can', async () => {
    await write('broken');
    const settings = await opened();
    const handles = await fileHandlePrototype();
    const full = Object.assign(new Error('ENOSPC: no space left on device'), { code: 'ENOSPC' });
    jest.spyOn(handles, 'sync').mockRejectedValueOnce(full);
    const change = { tracking_enabled: false, retention_days: 1 };
    await expect(settings.change(change)).rejects.toMatchObject({
      code: 'NOT_STORED',
      message: `The settings could not be written to ${path}: ENOSPC: no space left on device`,
      cause: full,
    });
    expect(inForce(settings)).toEqual([true, 0]);
    expect(settings.problem).toBeDefined();
    expect(namesIn(folder)).toEqual(['config.json']);
    expect(await readFile(path, 'utf8')).toBe('broken');
    await settings.change(change);
    expect(inForce(settings)).toEqual([false, 1]);
  });

  test('what a killed process has left beside it is no hindrance', async () => {
    await writeFile(`${path}.new`, '{"retention_days": 1, "half of it');
    const settings = await opened();
    await settings.change({ retention_days: 7 });
    expect(namesIn(folder)).toEqual(['config.json']);
    expect(await config()).toEqual({ retention_days: 7 });
  });

  test('and others at once are made one after the other; the last one counts', async () => {
    const settings = await opened();
    const changes = Array.from({ length: 30 }, (_, n) =>
      settings.change(n % 3 === 0 ? { tracking_enabled: n % 2 === 0 } : { retention_days: n }),
    );
    const wrong = settings.change({ retention_days: -1 });
    const opening = settings.open();
    await expect(wrong).rejects.toMatchObject({ code: 'INVALID_PARAMETER' });
    await Promise.all([...changes, opening]);
    expect(inForce(settings)).toEqual([false, 29]);
    expect(await config()).toEqual({ tracking_enabled: false, retention_days: 29 });
  });

  test('is what was given at the time of the call', async () => {
    const settings = await opened();
    const patch = { retention_days: 7 };
    const changing = settings.change(patch);
    patch.retention_days = -1;
    await changing;
    expect(inForce(settings)).toEqual([true, 7]);
  });
});

test('whatever is in config.json: nothing throws, and nothing that makes no sense ever makes jobs go', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.oneof(
        fc.json(),
        fc.string(),
        fc.record({ retention_days: fc.anything(), tracking_enabled: fc.anything() }).map((value) => {
          try {
            return JSON.stringify(value);
          } catch {
            return '';
          }
        }),
        fc.double().map((value) => JSON.stringify({ retention_days: value })),
        fc.double({ min: 0, max: 0.001 }).map((value) => JSON.stringify({ retention_days: value })),
      ),
      async (content) => {
        log.errors.length = 0;
        await write(content);
        const settings = await opened();
        let given: unknown;
        try {
          given = JSON.parse(content);
        } catch {
          given = 'broken';
        }
        const isObject = typeof given === 'object' && given !== null && !Array.isArray(given);
        const days = isObject ? (given as { retention_days?: unknown }).retention_days : 'broken';
        // Less than a minute is no time to keep anything.
        const isDays =
          typeof days === 'number' && days <= 36_500 && (days === 0 || Math.round(days * DAY_MS) >= 60_000);
        const expected = days === undefined ? 30 * DAY_MS : isDays ? Math.round(days * DAY_MS) : 0;
        expect(settings.retentionMs).toBe(expected);
        expect(settings.problem !== undefined).toBe(log.errors.length === 1);
      },
    ),
    { numRuns: 200 },
  );
});
