import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import express from 'express';
import type { Job } from '../../lib/index.js';
import { call } from '../helpers/client.js';
import { fileHandlePrototype } from '../helpers/file-handles.js';
import type { GatewayOptions } from '../helpers/gateway.js';
import { type KeptJobs, startWithKeptJobs } from '../helpers/kept-jobs.js';
import { tempFolders } from '../helpers/temp-folder.js';

const newFolder = tempFolders();
const DAY_S = 86_400;

let dir: string;
let kept: KeptJobs;

beforeEach(async () => {
  dir = await newFolder();
});

afterEach(async () => {
  jest.restoreAllMocks();
  await kept.gateway.close();
});

async function start(options: GatewayOptions = {}): Promise<void> {
  kept = await startWithKeptJobs(dir, { env: {}, ...options });
}

interface Sent {
  readonly status: number;
  readonly body: unknown;
  readonly headers: Record<string, unknown>;
}

/** Sends a body that is JSON unless it is a text, with the type that `curl -d` gives it. */
async function send(
  method: string,
  path: string,
  body?: unknown,
  headers: Record<string, string> = {},
): Promise<Sent> {
  const isRaw = typeof body === 'string' || Buffer.isBuffer(body) || body === undefined;
  const answer = await call(`${kept.gateway.url}/job-tracker/${path}`, {
    method,
    headers: { 'Content-Type': 'application/x-www-form-urlencoded', ...headers },
    ...(body !== undefined && { body: isRaw ? body : JSON.stringify(body) }),
  }).answer;
  return { status: answer.status, body: JSON.parse(answer.body.toString()), headers: answer.headers };
}

const patch = (body?: unknown, headers = {}) => send('PATCH', 'settings', body, headers);
const purge = (body?: unknown, headers = {}) => send('POST', 'purge', body, headers);
const inForce = async () => (await send('GET', 'settings')).body;
const atFirst = { tracking_enabled: true, retention_days: 0, fixed_by_environment: [] };

/** A job that ended so many days ago, with an image of so many bytes. */
async function keepJob(number: number, daysAgo: number, sizeBytes = 10): Promise<Job> {
  const path = await kept.keepFile(`2026-11-22/Job0000${number}-0`, 'png', Buffer.alloc(sizeBytes));
  const finished_at = Date.now() / 1000 - daysAgo * DAY_S;
  return kept.keepJob(number, { output_paths: [path], finished_at, bytes: sizeBytes });
}

const idsKept = async () => (await kept.gateway.tracker.jobs.list()).jobs.map(({ id }) => id).sort();

describe('settings', () => {
  test('are told', async () => {
    await start({ retention: '12h', enabled: false });
    const { status, body, headers } = await send('GET', 'settings');
    expect([status, body]).toEqual([
      200,
      { tracking_enabled: false, retention_days: 0.5, fixed_by_environment: [] },
    ]);
    expect(headers).toMatchObject({
      'content-type': 'application/json; charset=utf-8',
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
    });
  });

  test('are changed, kept, and count for the next purge', async () => {
    await start();
    await keepJob(1, 3);
    await keepJob(2, 1);
    const changed = { ...atFirst, tracking_enabled: false, retention_days: 2 };
    expect(await patch({ tracking_enabled: false })).toMatchObject({ status: 200 });
    expect(await patch({ retention_days: 2 })).toMatchObject({ status: 200, body: changed });
    expect(await inForce()).toEqual(changed);
    expect(JSON.parse(await readFile(join(dir, 'config.json'), 'utf8'))).toEqual({
      tracking_enabled: false,
      retention_days: 2,
    });
    expect((await purge()).body).toEqual({ jobs: 1, bytes: 10 });
    await kept.gateway.close();
    await start();
    expect(await inForce()).toEqual(changed);
  });

  test.each([
    [{ retention_days: '30' }, /^Expected `retention_days` to be a number of days .* got "30"$/],
    [{ tracking_enabled: 1 }, /^Expected `tracking_enabled` to be true or false, got 1$/],
    [{ retention: 5 }, /got one with "retention"$/],
    [{}, /got an empty one$/],
    [[], /got an array$/],
    ['"30"', /got a string$/],
    ['null', /got null$/],
  ])('%j is 400, and nothing changes', async (body, error) => {
    await start();
    expect(await patch(body)).toMatchObject({ status: 400, body: { error: expect.stringMatching(error) } });
    expect(await inForce()).toEqual(atFirst);
  });

  test('no body is 400', async () => {
    await start();
    expect(await patch()).toMatchObject({
      status: 400,
      body: { error: expect.stringMatching(/got (nothing|an empty one)$/) },
    });
  });

  test('that the environment has fixed are 409, which names the variable', async () => {
    await start({ env: { TRACKER_RETENTION: '30' } });
    const before = { ...atFirst, retention_days: 30, fixed_by_environment: ['retention_days'] };
    expect(await inForce()).toEqual(before);
    expect(await patch({ retention_days: 5, tracking_enabled: false })).toMatchObject({
      status: 409,
      body: { error: expect.stringContaining('TRACKER_RETENTION') },
    });
    expect(await inForce()).toEqual(before);
    expect(await patch({ tracking_enabled: false })).toMatchObject({ status: 200 });
  });

  test('that cannot be written are 503 with the reason', async () => {
    await start();
    // The first sweep is over.
    await purge({ dry_run: true });
    const handles = await fileHandlePrototype();
    jest.spyOn(handles, 'sync').mockRejectedValueOnce(new Error('ENOSPC: no space left on device'));
    expect(await patch({ retention_days: 5 })).toMatchObject({
      status: 503,
      body: { error: expect.stringMatching(/^The settings could not be written to .*ENOSPC/) },
    });
    expect(await inForce()).toEqual(atFirst);
    expect(await patch({ retention_days: 5 })).toMatchObject({ status: 200 });
  });

  test('say what is wrong with config.json', async () => {
    await writeFile(join(dir, 'config.json'), '{"retention_days":"a month"}');
    await start({ retention: 3 });
    expect(await inForce()).toEqual({
      ...atFirst,
      problem: expect.stringContaining('got "a month": jobs are kept for ever'),
    });
    expect(await patch({ retention_days: 31 })).toMatchObject({ body: { ...atFirst, retention_days: 31 } });
  });
});

describe('a purge', () => {
  test.each([
    ['no body', undefined, 1],
    ['an empty text', '', 1],
    ['an empty object', {}, 1],
    ['days', { older_than: 2 }, 2],
    ['a part of a day', { older_than: 0.5 }, 3],
    ['a duration', { older_than: '12h' }, 3],
    ['a long duration', { older_than: '365 days' }, 0],
    ['a second', { older_than: '1s' }, 3],
    ['an age, for real', { older_than: 2, dry_run: false }, 2],
  ])('with %s', async (_what, body, jobs) => {
    await start({ retention: 5, purgeEvery: '24d' });
    await keepJob(1, 9, 100);
    await keepJob(2, 3);
    await keepJob(3, 1);
    const expected = { jobs, bytes: jobs === 0 ? 0 : 100 + (jobs - 1) * 10 };
    expect(await purge(body)).toMatchObject({
      status: 200,
      body: expected,
      headers: { 'cache-control': 'no-store' },
    });
    expect(await idsKept()).toEqual(['Job00001', 'Job00002', 'Job00003'].slice(jobs));
  });

  test('that is dry removes nothing', async () => {
    await start();
    await keepJob(1, 9, 100);
    expect((await purge({ older_than: '1s', dry_run: true })).body).toEqual({ jobs: 1, bytes: 100 });
    expect((await purge({ dry_run: true })).body).toEqual({ jobs: 0, bytes: 0 });
    expect(await idsKept()).toEqual(['Job00001']);
  });

  const age =
    'Expected `older_than` to be a number of days above 0, or a duration such as "12h" ' +
    '(0 days mean "for ever" elsewhere; "1s" purges all that has ended)';
  test.each([
    [{ older_than: 0 }, `${age}, got 0`],
    [{ older_than: '0s' }, `${age}, got "0s"`],
    [{ older_than: -1 }, `${age}, got -1`],
    [{ older_than: '-1d' }, `${age}, got "-1d"`],
    [{ older_than: '30' }, `${age}, got "30"`],
    [{ older_than: 'a month' }, `${age}, got "a month"`],
    [{ older_than: 1e9 }, `${age}, got 1000000000`],
    [{ older_than: null }, `${age}, got null`],
    [{ older_than: 2, dry_run: 'true' }, 'Expected `dry_run` to be true or false, got "true"'],
    [
      { older_than: 2, dryRun: true },
      'Expected an object with older_than or dry_run, both or none, got one with "dryRun"',
    ],
    [
      '{"__proto__":1}',
      'Expected an object with older_than or dry_run, both or none, got one with "__proto__"',
    ],
    [[2], 'Expected a JSON object, got an array'],
    ['2', 'Expected a JSON object, got a number'],
    ['null', 'Expected a JSON object, got null'],
  ])('%j is 400, and nothing goes', async (body, error) => {
    await start();
    await keepJob(1, 9);
    expect(await purge(body)).toMatchObject({ status: 400, body: { error } });
    expect(await idsKept()).toEqual(['Job00001']);
  });

  test('goes on by the next request after one that failed', async () => {
    await start();
    await keepJob(1, 9);
    expect(await purge('{')).toMatchObject({ status: 400 });
    expect(await purge({ older_than: 2 })).toMatchObject({ body: { jobs: 1, bytes: 10 } });
    expect(kept.gateway.log).toEqual([
      'Removed 1 job(s) that had outlived their time, with 10 bytes of files',
    ]);
  });
});

describe('bodies', () => {
  test.each(['application/json', 'text/plain', 'application/octet-stream', 'multipart/form-data'])(
    'of type %s are JSON',
    async (type) => {
      await start();
      const answer = await patch('{"retention_days":1}', { 'Content-Type': type });
      expect(answer).toMatchObject({ status: 200, body: { ...atFirst, retention_days: 1 } });
    },
  );

  test('may be compressed, or come in pieces and without a type', async () => {
    await start();
    const zipped = gzipSync('{"retention_days":1}');
    expect(await patch(zipped, { 'Content-Encoding': 'gzip' })).toMatchObject({ status: 200 });
    const made = call(`${kept.gateway.url}/job-tracker/settings`, { method: 'PATCH', open: true });
    made.request.write('{"retention_');
    made.request.end('days":2}');
    expect((await made.answer).status).toBe(200);
    expect(await inForce()).toEqual({ ...atFirst, retention_days: 2 });
  });

  test.each([
    ['{', '{'],
    ['retention_days=30', 'retention_days=30'],
    [`{"a":${'x'.repeat(200)}`, `{"a":${'x'.repeat(95)}…`],
  ])('that are no JSON (%p) are 400', async (body, shown) => {
    await start();
    for (const ask of [patch, purge]) {
      expect(await ask(body)).toMatchObject({
        status: 400,
        body: { error: `Expected a JSON object, got ${JSON.stringify(shown)}` },
      });
    }
    expect(kept.gateway.log).toEqual([]);
  });

  test('that are too large are 413, also when compressed', async () => {
    await start();
    const large = `{"retention_days":1${' '.repeat(16 * 1024)}}`;
    const tooLarge = { status: 413, body: { error: 'Expected a body of at most 16 KB, got a larger one' } };
    for (const ask of [patch, purge]) {
      expect(await ask(large)).toMatchObject(tooLarge);
      expect(await ask(gzipSync(large), { 'Content-Encoding': 'gzip' })).toMatchObject(tooLarge);
    }
    expect(await patch(large.replace(' '.repeat(100), ''))).toMatchObject({ status: 200 });
    expect(kept.gateway.log).toEqual([]);
  });

  test('in an encoding that is not known are 415', async () => {
    await start();
    const answer = await patch('{}', { 'Content-Encoding': 'rot13' });
    expect(answer).toMatchObject({
      status: 415,
      body: { error: expect.stringMatching(/^Expected a JSON object, got one that cannot be read/) },
    });
    expect(kept.gateway.log).toEqual([]);
  });

  test('that a parser of the host has read are taken as they are', async () => {
    await start({
      front: (app) => {
        app.use(express.json());
        app.use(express.urlencoded({ extended: false }));
      },
    });
    const json = { 'Content-Type': 'application/json' };
    expect(await patch({ retention_days: 1 }, json)).toMatchObject({ status: 200 });
    expect(await purge({ older_than: 1 }, json)).toMatchObject({ status: 200 });
    // Neither parser reads this one.
    expect(await patch({ retention_days: 2 }, { 'Content-Type': 'text/plain' })).toMatchObject({
      status: 200,
    });
    expect(await inForce()).toEqual({ ...atFirst, retention_days: 2 });
    expect(await patch('retention_days=3')).toMatchObject({
      status: 400,
      body: { error: expect.stringMatching(/^Expected `retention_days` to be .* got "3"$/) },
    });
  });

  test('are left alone elsewhere', async () => {
    await start({
      behind: (app) => {
        app.post('/elsewhere', express.text({ type: () => true }), (req, res) => void res.json([req.body]));
      },
    });
    const answer = await call(`${kept.gateway.url}/elsewhere`, { body: 'x'.repeat(20_000) }).answer;
    expect(JSON.parse(answer.body.toString())[0]).toHaveLength(20_000);
  });
});

describe('a body that something in front has read', () => {
  test.each([['and not left, is no empty one', (req: express.Request) => req.resume()]])(
    '%s',
    async (_name, read) => {
      await start({
        retention: '1s',
        front: (app) =>
          app.use((req, _res, next) => {
            read(req);
            req.once('end', () => next());
          }),
      });
      await keepJob(1, 30);
      const refused = { error: 'Expected a JSON object, got a body that something has read and not left' };
      expect(await purge({ dry_run: true })).toMatchObject({ status: 400, body: refused });
      expect((await kept.gateway.tracker.jobs.list()).total).toBe(1);
      expect(await patch({ tracking_enabled: false })).toMatchObject({ status: 400, body: refused });
      // There is nothing to be read of it.
      expect((await purge()).status).toBe(200);
    },
  );

  test.each([
    ['express.raw()', express.raw({ type: () => true })],
    ['express.text()', express.text({ type: () => true })],
    ['express.json()', express.json({ type: () => true })],
  ])('and left by %s is understood', async (_name, parser) => {
    await start({ front: (app) => app.use(parser) });
    await keepJob(1, 30);
    expect(await purge({ older_than: 7, dry_run: true })).toMatchObject({
      status: 200,
      body: { jobs: 1, bytes: 10 },
    });
    expect((await kept.gateway.tracker.jobs.list()).total).toBe(1);
  });
});
