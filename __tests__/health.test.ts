import { once } from 'node:events';
import { statfs, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import express from 'express';
import { Health, type HealthOptions, type HealthReport } from '../lib/health.js';
import { FileImageStore } from '../lib/images/file-image-store.js';
import type { ImageStore } from '../lib/images/image-store.js';
import { type JobTrackerOptions, jobTracker } from '../lib/index.js';
import { JobQueue } from '../lib/jobs/job-queue.js';
import type { JobStore } from '../lib/stores/job-store.js';
import { LowdbJobStore } from '../lib/stores/lowdb-job-store.js';
import { call } from './helpers/client.js';
import { collectLog } from './helpers/job-records.js';
import { rawClient, startRawServer } from './helpers/raw-http.js';
import { gate, type ScriptedBackend, startScriptedBackend } from './helpers/scripted-backend.js';
import { tempFolders } from './helpers/temp-folder.js';

const newFolder = tempFolders();
const cleanups: (() => unknown)[] = [];
const GIB = 1024 ** 3;

let folder: string;
let store: JobStore;
let images: ImageStore;
let backend: ScriptedBackend;

beforeEach(async () => {
  folder = await newFolder();
  const logger = collectLog();
  store = new LowdbJobStore({ folder, logger });
  images = new FileImageStore({ folder: join(folder, 'output'), logger });
  await store.open();
  await images.open();
  backend = await startScriptedBackend((res) => void res.end('{}'));
  cleanups.push(() => backend.close());
});

afterEach(async () => {
  jest.useRealTimers();
  await store.close();
  for (const cleanup of cleanups.splice(0)) await cleanup();
});

const a1111 = (url: string) => ({
  backend: { name: 'a1111' as const, title: 'Automatic1111', pingPath: '/internal/ping' },
  url: new URL(url),
});

const backendsOf = (all: HealthOptions['backends']['all'], queue = new JobQueue(1)) => ({
  all,
  counts: queue.counts,
});

const healthOf = (differences: Partial<HealthOptions> = {}) =>
  new Health({
    store,
    images,
    backends: backendsOf([a1111(backend.url)]),
    failure: () => undefined,
    folder,
    keptBytes: () => 7 * GIB,
    ...differences,
  });

/** Time stands still until the test lets it go on; everything else happens as ever. */
function holdClock(): void {
  jest.useFakeTimers({
    doNotFake: ['Date', 'hrtime', 'nextTick', 'performance', 'queueMicrotask', 'setImmediate', 'setInterval'],
  });
}

/** A store of which nothing is asked but a check. */
function checkedBy(check: () => Promise<void>): { check: () => Promise<void> } & JobStore & ImageStore {
  return { check } as { check: () => Promise<void> } & JobStore & ImageStore;
}

/** The address of a server that is no more. */
async function freeAddress(): Promise<string> {
  const server = await startRawServer(() => {});
  await server.close();
  return server.url;
}

describe('the report', () => {
  test('tells that all is well, what the queue does, and how full the disk is', async () => {
    const queue = new JobQueue(2);
    for (const id of ['a', 'b', 'c']) queue.enter(id);
    const report = await healthOf({ backends: backendsOf([a1111(backend.url)], queue) }).look();
    expect(report).toEqual({
      ok: true,
      store: { ok: true },
      images: { ok: true },
      backends: { a1111: { ok: true } },
      queue: { running: 2, waiting: 1 },
      disk: {
        free_bytes: expect.any(Number),
        total_bytes: expect.any(Number),
        images_bytes: 7 * GIB,
      },
    });
    const { bavail, blocks, bsize } = await statfs(folder);
    expect(report.disk.total_bytes).toBe(blocks * bsize);
    // Others write to the same disk.
    expect(Math.abs((report.disk.free_bytes as number) - bavail * bsize)).toBeLessThan(GIB);
  });

  test('has no backends where no address is known', async () => {
    expect(await healthOf({ backends: backendsOf([]) }).look()).toMatchObject({ ok: true, backends: {} });
  });

  test('leaves out what of the disk cannot be told', async () => {
    const { ok, disk } = await healthOf({ folder: join(folder, 'nowhere') }).look();
    expect([ok, disk]).toEqual([true, { images_bytes: 7 * GIB }]);
  });

  test('takes a store for well that cannot tell', async () => {
    const mute = {} as JobStore & ImageStore;
    expect(await healthOf({ store: mute, images: mute }).look()).toMatchObject({
      ok: true,
      store: { ok: true },
      images: { ok: true },
    });
  });

  test.each(['store', 'images'] as const)(
    'says what is wrong with the %s, and what is well',
    async (part) => {
      const failing = checkedBy(() => Promise.reject(new Error('the disk is full')));
      const report = await healthOf({ [part]: failing }).look();
      expect(report).toMatchObject({
        ok: false,
        store: { ok: true },
        images: { ok: true },
        backends: { a1111: { ok: true } },
        [part]: { ok: false, error: 'the disk is full' },
      });
    },
  );

  test('says why the tracker cannot keep jobs, and still looks at the rest', async () => {
    const unopened = new LowdbJobStore({ folder: await newFolder() });
    const check = jest.spyOn(unopened, 'check');
    const failing = checkedBy(() => Promise.reject(new Error('no rights')));
    const failure = () => 'The folder belongs to another process';
    const report = await healthOf({ failure, store: unopened, images: failing }).look();
    expect(report).toMatchObject({
      ok: false,
      store: { ok: false, error: 'The folder belongs to another process' },
      images: { ok: false, error: 'no rights' },
      backends: { a1111: { ok: true } },
    });
    expect(check).not.toHaveBeenCalled();
  });
});

describe('a backend', () => {
  test.each([200, 204, 302, 401, 404])('that answers %i is there', async (status) => {
    backend.script = (res) => void res.writeHead(status, { Location: '/' }).end();
    expect((await healthOf().look()).backends).toEqual({ a1111: { ok: true } });
  });

  test('is asked below the path of its address, with the login in it', async () => {
    const asked: (string | undefined)[] = [];
    backend.script = (res, _body, req) => {
      asked.push(req.method, req.url, req.headers.authorization);
      res.end();
    };
    const address = backend.url.replace('//', '//me:secret@');
    await healthOf({ backends: backendsOf([a1111(`${address}/sd/`)]) }).look();
    expect(asked).toEqual(['GET', '/sd/internal/ping', `Basic ${btoa('me:secret')}`]);
  });

  test('that is not there: its address is said, and its password is not', async () => {
    const address = await freeAddress();
    const report = await healthOf({
      backends: backendsOf([a1111(`${address.replace('//', '//me:secret@')}/sd`)]),
    }).look();
    expect(report).toMatchObject({
      ok: false,
      store: { ok: true },
      backends: {
        a1111: { ok: false, error: `Automatic1111 at ${address} cannot be reached (ECONNREFUSED)` },
      },
    });
    expect(JSON.stringify(report)).not.toMatch(/secret|me:/);
  });

  test('that does not speak HTTP is not there', async () => {
    const server = await startRawServer((socket) => void socket.end('220 mail.example ESMTP\r\n'));
    cleanups.push(() => server.close());
    const { backends } = await healthOf({ backends: backendsOf([a1111(server.url)]) }).look();
    expect(backends.a1111).toMatchObject({ ok: false, error: expect.stringContaining('not HTTP') });
  });

  test('that does not answer for three seconds is not there', async () => {
    holdClock();
    backend.script = () => {};
    const looking = healthOf().look();
    await backend.received();
    jest.advanceTimersByTime(2_999);
    expect(await stateOf(looking)).toBe('waits');
    jest.advanceTimersByTime(1);
    expect((await looking).backends).toEqual({
      a1111: { ok: false, error: `Automatic1111 at ${backend.url} did not answer within 3 seconds` },
    });
  });
});

describe('what hangs', () => {
  const parts = [
    { part: 'store', error: 'The record store did not answer within 3 seconds' },
    { part: 'images', error: 'The image store did not answer within 3 seconds' },
  ] as const;

  test.each(parts)('the $part: is not well after three seconds, and well again when it is', async (given) => {
    const { part, error } = given;
    holdClock();
    let checks = 0;
    const { opened, open } = gate();
    const stuck = checkedBy(() => {
      checks += 1;
      return opened;
    });
    const well = checkedBy(async () => {});
    const health = healthOf({ store: well, images: well, [part]: stuck });
    const looking = health.look();
    await backend.received();
    jest.advanceTimersByTime(2_999);
    expect(await stateOf(looking)).toBe('waits');
    jest.advanceTimersByTime(1);
    expect(await looking).toMatchObject({ ok: false, [part]: { ok: false, error } });

    // Nobody waits for it again, nor is it begun again, as long as it hangs.
    await settled();
    jest.advanceTimersByTime(1_000);
    expect(await health.look()).toMatchObject({ ok: false, [part]: { ok: false, error } });
    expect([checks, backend.bodies.length]).toEqual([1, 2]);

    open();
    await settled();
    jest.advanceTimersByTime(1_000);
    expect(await health.look()).toMatchObject({ ok: true, [part]: { ok: true } });
    expect(checks).toBe(2);
  });
});

describe('one look', () => {
  test('is for all who ask at once, and within a second', async () => {
    holdClock();
    let checks = 0;
    const counted = checkedBy(async () => {
      checks += 1;
    });
    const health = healthOf({ store: counted });
    const [first] = await Promise.all(Array.from({ length: 1_000 }, () => health.look()));
    await settled();
    jest.advanceTimersByTime(999);
    expect(await health.look()).toBe(first);
    expect([checks, backend.bodies.length]).toEqual([1, 1]);
    jest.advanceTimersByTime(1);
    expect(await health.look()).not.toBe(first);
    expect([checks, backend.bodies.length]).toEqual([2, 2]);
  });
});

describe('a tracker', () => {
  async function answerOf(dir: string, options: JobTrackerOptions = {}): Promise<[number, HealthReport]> {
    const tracker = jobTracker({ dir, logger: collectLog(), ...options });
    const server = createServer(express().use(tracker)).listen(0, '127.0.0.1');
    await Promise.all([once(server, 'listening'), tracker.ready.catch(() => {})]);
    const { port } = server.address() as AddressInfo;
    const { status, body } = await call(`http://127.0.0.1:${port}/job-tracker/health`).answer;
    server.close();
    await tracker.close();
    return [status, JSON.parse(body.toString())];
  }

  test('gives the report of its parts', async () => {
    const well = { ok: true, store: { ok: true }, images: { ok: true } };
    expect(await answerOf(await newFolder(), { a1111: backend.url })).toEqual([
      200,
      expect.objectContaining({ ...well, backends: { a1111: { ok: true } } }),
    ]);
    expect(await answerOf(await newFolder())).toEqual([
      200,
      expect.objectContaining({ ...well, backends: {} }),
    ]);
  });

  test('gives it also where its folder cannot be used', async () => {
    const dir = join(await newFolder(), 'file');
    await writeFile(dir, '');
    const [status, report] = await answerOf(dir, { a1111: backend.url });
    expect(status).toBe(503);
    expect(report).toMatchObject({
      ok: false,
      store: { ok: false, error: expect.stringContaining('there is a file of that name') },
      images: { ok: false },
      backends: { a1111: { ok: true } },
    });
  });
});

const settled = () => new Promise((resolve) => setImmediate(resolve));

async function stateOf(promise: Promise<unknown>): Promise<'waits' | 'done'> {
  // As long as a call over the network takes.
  const server = await startRawServer((socket) => void socket.end('x'));
  await rawClient(server.port, '').ended;
  await server.close();
  return Promise.race([promise.then(() => 'done' as const), settled().then(() => 'waits' as const)]);
}
