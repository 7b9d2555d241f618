import { chmod, mkdir, readFile } from 'node:fs/promises';
import type { ServerResponse } from 'node:http';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import type { HealthReport } from '../lib/health.js';
import type { Job } from '../lib/index.js';
import { type Answer, call, getJson, post } from './helpers/client.js';
import { type CompiledProgram, compileProgram, listening } from './helpers/compiled-program.js';
import { type Gateway, type GatewayOptions, startGateway } from './helpers/gateway.js';
import { until } from './helpers/kept-jobs.js';
import { canMountLoopDisk, makeLoopDisk } from './helpers/loop-disk.js';
import {
  answerWith,
  bigPng,
  gate,
  type ScriptedBackend,
  sendAnswer,
  startScriptedBackend,
} from './helpers/scripted-backend.js';
import { canMountSmallDisk, mountSmallDisk, type SmallDisk } from './helpers/small-disk.js';
import { tempFolders } from './helpers/temp-folder.js';

const newFolder = tempFolders();
const image = bigPng(20_000);
const answer = answerWith([image]);
const KB = 1024;
const CLOSE_WITHIN_MS = 10_000;

let dir: string;
let backend: ScriptedBackend;
/** What the backend does with a generation; all else, such as being asked whether it is there, it answers. */
let onGeneration: (res: ServerResponse) => void;
let gateway: Gateway | undefined;
let url: string;
const cleanUps: (() => void)[] = [];

beforeEach(async () => {
  dir = join(await newFolder(), 'tracker');
  onGeneration = (res) => sendAnswer(res, answer);
  backend = await startScriptedBackend((res, _body, req) => {
    if (req.method === 'POST') onGeneration(res);
    else res.end('{}');
  });
});

afterEach(async () => {
  try {
    // A disk that is not given back outlives the test.
    await Promise.race([gateway?.close(), sleep(CLOSE_WITHIN_MS, undefined, { ref: false })]);
  } finally {
    gateway = undefined;
    await backend.close();
    for (const cleanUp of cleanUps.splice(0).reverse()) cleanUp();
  }
});

function disk(folder: string, sizeKb: number): SmallDisk {
  const mounted = mountSmallDisk(folder, sizeKb);
  cleanUps.push(mounted.remove);
  return mounted;
}

async function start(options: GatewayOptions = {}): Promise<void> {
  gateway = await startGateway({ dir, a1111: backend.url, ...options });
  url = gateway.url;
}

/** A generation, whose answer must be the backend's to the byte, whatever the disk does. */
async function generate(prompt = 'p', expected = answer): Promise<Answer> {
  const given = await post(`${url}/sdapi/v1/txt2img`, { prompt }).answer;
  expect(given.status).toBe(200);
  expect(given.body.subarray(given.body.indexOf('{')).equals(expected)).toBe(true);
  return given;
}

/** The job of an answer, once it has ended. Its end is told to nobody while it is not durable. */
async function jobOf({ headers }: Answer): Promise<Job> {
  let job: Job | undefined;
  await until(async () => {
    job = await gateway?.tracker.jobs.get(headers['x-job-id'] as string);
    return job?.finished_at !== undefined;
  });
  return job as Job;
}

function connections(): Promise<number> {
  return new Promise((resolve) => gateway?.server.getConnections((_error, count) => resolve(count)));
}

async function expectKept(given: Answer): Promise<void> {
  const job = await jobOf(given);
  expect(job).toMatchObject({ status: 'Completed' });
  const kept = await readFile(join(dir, 'output', job.output_paths[0] as string));
  expect(kept.equals(image)).toBe(true);
}

async function health(): Promise<{ status: number; report: HealthReport }> {
  const { status, body } = await call(`${url}/job-tracker/health`).answer;
  return { status, report: JSON.parse(body.toString()) as HealthReport };
}

async function unwell(part: 'store' | 'images', reason: RegExp): Promise<void> {
  await until(async () => !(await health()).report[part].ok);
  const { status, report } = await health();
  expect(status).toBe(503);
  expect(report[part]).toEqual({ ok: false, error: expect.stringMatching(reason) });
  const other = part === 'store' ? 'images' : 'store';
  expect(report[other]).toEqual({ ok: true });
}

const well = () => until(async () => (await health()).status === 200);
const said = (pattern: RegExp) => (gateway?.log ?? []).filter((line) => pattern.test(line));

(canMountSmallDisk ? describe : describe.skip)('a full disk under', () => {
  test('the journal: generations go on without an id, which is said once; and with one as soon as there is room', async () => {
    const records = disk(dir, 128);
    disk(join(dir, 'output'), 4096);
    await start();
    const before = await generate();
    records.fillUp();
    // The journal's last page may have room left.
    const large = 'x'.repeat(5000);
    for (const _ of [1, 2, 3]) expect((await generate(large)).headers).not.toHaveProperty('x-job-id');
    await unwell('store', /ENOSPC/);
    expect(said(/goes on without a job id/)).toHaveLength(1);
    expect(said(/Records cannot be written to/)).toHaveLength(1);
    expect(gateway?.log).toHaveLength(3);
    records.freeUp();
    await well();
    await expectKept(await generate());
    await expectKept(before);
    // Nothing was made twice.
    expect(backend.bodies.filter(({ length }) => length > 0)).toHaveLength(5);
  });

  test('the journal, while a job runs: what it came to is kept in memory until there is room', async () => {
    const records = disk(dir, 128);
    disk(join(dir, 'output'), 4096);
    await start();
    const prompt = 'x'.repeat(5000);
    onGeneration = (res) => {
      records.fillUp();
      sendAnswer(res, answer);
    };
    const given = await generate(prompt);
    await expectKept(given);
    await unwell('store', /ENOSPC/);
    records.freeUp();
    await well();
    await gateway?.close();
    await start();
    await expectKept(given);
  });

  test('the journal, while a job ends: whoever waits for that is told', async () => {
    const records = disk(dir, 128);
    disk(join(dir, 'output'), 4096);
    await start();
    const held = gate();
    onGeneration = async (res) => {
      await held.opened;
      records.fillUp();
      sendAnswer(res, answer);
    };
    const prompt = 'x'.repeat(5000);
    const lost = post(`${url}/sdapi/v1/txt2img`, { prompt });
    const { headers } = await lost.head;
    lost.request.destroy();
    await until(async () => (await connections()) === 0);
    const again = generate(prompt);
    const waiting = getJson<Job>(`${url}/sdapi/v1/job/${headers['x-job-id']}?wait=20`);
    await until(async () => (await connections()) === 2);
    held.open();
    expect((await again).headers['x-job-id']).toBe(headers['x-job-id']);
    expect(await waiting).toMatchObject({ status: 'Completed' });
    records.freeUp();
    await well();
    await expectKept(await again);
  });

  test('the snapshot: jobs are recorded all the same', async () => {
    const records = disk(dir, 512);
    disk(join(dir, 'output'), 4096);
    await start();
    for (let n = 0; n < 8; n += 1) await generate('x'.repeat(20_000));
    records.fillUp(32 * KB);
    const given = await generate();
    expect(given.headers).toHaveProperty('x-job-id');
    await unwell('store', /ENOSPC/);
    expect(said(/jobs\.json could not be brought up to date/)).toHaveLength(1);
    expect((await generate()).headers).toHaveProperty('x-job-id');
    records.freeUp();
    await generate();
    await well();
    expect(said(/jobs\.json is up to date again/)).toHaveLength(1);
    await expectKept(given);
  });

  test('the images: answers pass unchanged, their jobs are Failed, and Completed as soon as there is room', async () => {
    const images = disk(join(dir, 'output'), 256);
    await start();
    await expectKept(await generate());
    images.fillUp();
    for (const _ of [1, 2]) {
      expect(await jobOf(await generate())).toMatchObject({
        status: 'Failed',
        error: { code: 'not_stored', message: expect.stringContaining('ENOSPC') },
        output_paths: [],
      });
    }
    await unwell('images', /ENOSPC/);
    images.freeUp();
    await well();
    await expectKept(await generate());
  });

  test('the images, that becomes full within an answer: what is whole is kept, and nothing else is there', async () => {
    const images = disk(join(dir, 'output'), 512);
    await start();
    const two = answerWith([image, bigPng(3_000_000)]);
    onGeneration = (res) => sendAnswer(res, two);
    const job = await jobOf(await generate('p', two));
    expect(job).toMatchObject({ status: 'Failed', error: { code: 'not_stored' } });
    expect(job.output_paths).toHaveLength(1);
    const kept = await readFile(join(images.folder, job.output_paths[0] as string));
    expect(kept.equals(image)).toBe(true);
    await well();
    onGeneration = (res) => sendAnswer(res, answer);
    await expectKept(await generate());
  });

  test('the spool: a slow client gets everything, and the job is Completed', async () => {
    await start();
    disk(join(dir, 'spool'), 64).fillUp();
    const large = bigPng(20_000_000);
    const largeAnswer = answerWith([large]);
    onGeneration = (res) => sendAnswer(res, largeAnswer);
    const request = post(`${url}/sdapi/v1/txt2img`, { prompt: 'p' }, { unread: true });
    const { headers } = await request.head;
    const chunks: Buffer[] = [];
    for await (const chunk of await request.incoming) chunks.push(chunk as Buffer);
    const body = Buffer.concat(chunks);
    expect(body.subarray(body.indexOf('{')).equals(largeAnswer)).toBe(true);
    const job = (await gateway?.ended(headers['x-job-id'] as string)) as Job;
    expect(job.status).toBe('Completed');
    expect((await readFile(join(dir, 'output', job.output_paths[0] as string))).equals(large)).toBe(true);
  });

  test('the requests: a large one reaches the backend as it is', async () => {
    await start();
    disk(join(dir, 'requests'), 64).fillUp();
    const prompt = 'x'.repeat(5_000_000);
    await expectKept(await generate(prompt));
    expect(JSON.parse(backend.bodies[0]?.toString() ?? '')).toMatchObject({ prompt });
  });
});

(canMountSmallDisk ? describe : describe.skip)('a disk that becomes read-only under', () => {
  test('the images: answers pass unchanged, and are kept again once it can be written', async () => {
    const images = disk(join(dir, 'output'), 4096);
    await start();
    const before = await generate();
    await expectKept(before);
    images.becomeReadOnly();
    expect(await jobOf(await generate())).toMatchObject({
      status: 'Failed',
      error: { code: 'not_stored', message: expect.stringContaining('EROFS') },
    });
    await unwell('images', /EROFS/);
    await expectKept(before);
    images.becomeWritable();
    await well();
    await expectKept(await generate());
  });

  (canMountLoopDisk ? test : test.skip)(
    'the records, as the kernel does it when it finds an error: they are written again once it is mounted anew',
    async () => {
      const ext4 = await makeLoopDisk(64);
      cleanUps.push(ext4.remove);
      dir = join(ext4.folder, 'tracker');
      await start();
      const before = await generate();
      await expectKept(before);
      ext4.becomeReadOnly();
      for (const _ of [1, 2]) expect((await generate()).headers).not.toHaveProperty('x-job-id');
      await until(async () => !(await health()).report.store.ok);
      expect((await health()).report).toMatchObject({
        store: { error: expect.stringContaining('EROFS') },
        images: { error: expect.stringContaining('EROFS') },
      });
      expect(said(/goes on without a job id/)).toHaveLength(1);
      // What was made before is still there to be had.
      await expectKept(before);
      ext4.comeBack();
      await well();
      await expectKept(await generate());
      await expectKept(before);
    },
  );
});

describe('a folder without rights for', () => {
  const isRoot = process.getuid?.() === 0;
  const NOBODY = 65_534;

  beforeEach(async () => {
    await chmod(join(dir, '..'), 0o755);
    await mkdir(dir);
    await chmod(dir, 0o777);
    // Nothing is forbidden to root.
    if (isRoot) process.seteuid?.(NOBODY);
    cleanUps.push(() => isRoot && process.seteuid?.(0));
  });

  const forbid = (folder: string) => chmod(join(dir, folder), 0o555);
  const allow = (folder: string) => chmod(join(dir, folder), 0o755);

  test('the images: answers pass unchanged, and are kept again once it has them', async () => {
    await start();
    await generate();
    await forbid('output/.partial');
    expect(await jobOf(await generate())).toMatchObject({
      status: 'Failed',
      error: { code: 'not_stored', message: expect.stringContaining('EACCES') },
    });
    await unwell('images', /EACCES/);
    await allow('output/.partial');
    await well();
    await expectKept(await generate());
  });

  test('the snapshot: jobs are recorded all the same', async () => {
    await start();
    await generate();
    if (isRoot) process.seteuid?.(0);
    await chmod(dir, 0o555);
    if (isRoot) process.seteuid?.(NOBODY);
    const given = await generate();
    expect(given.headers).toHaveProperty('x-job-id');
    await until(() => said(/could not be brought up to date/).length > 0);
    await unwell('store', /EACCES/);
    if (isRoot) process.seteuid?.(0);
    await chmod(dir, 0o777);
    if (isRoot) process.seteuid?.(NOBODY);
    await generate();
    await well();
    await expectKept(given);
  });

  test('the spool and the requests: what does not fit into memory passes all the same', async () => {
    await start();
    for (const folder of ['spool', 'requests']) {
      await mkdir(join(dir, folder));
      await forbid(folder);
    }
    const large = answerWith([bigPng(12_000_000)]);
    onGeneration = (res) => sendAnswer(res, large);
    const given = await generate('x'.repeat(5_000_000), large);
    expect(await jobOf(given)).toMatchObject({ status: 'Completed' });
  });
});

(canMountLoopDisk ? describe : describe.skip)('a disk that hangs', () => {
  /** More than Node has threads for disks and for looking up names. */
  const RUNNING = 6;
  let program: CompiledProgram;

  beforeAll(async () => {
    program = await compileProgram(await newFolder());
  });

  test.each(['127.0.0.1', 'localhost'])(
    'with the backend at %s: what runs ends, what comes goes on without an id, and all is well when it does',
    async (host) => {
      const ext4 = await makeLoopDisk(64);
      const held = gate();
      let isFrozen = false;
      const thaw = () => {
        if (isFrozen) ext4.thaw();
        isFrozen = false;
      };
      // Nobody who waits for a frozen disk can be killed: it must not stay so.
      const rescue = setTimeout(thaw, 15_000);
      const child = program.standalone({
        PORT: '0',
        A1111_URL: backend.url.replace('127.0.0.1', host),
        TRACKER_DIR: join(ext4.folder, 'tracker'),
        TRACKER_CONCURRENCY: String(RUNNING + 1),
      });
      try {
        url = await listening(child);
        await generate();
        onGeneration = async (res) => {
          await held.opened;
          sendAnswer(res, answer);
        };
        const running = Array.from({ length: RUNNING }, () =>
          post(`${url}/sdapi/v1/txt2img`, { prompt: 'running' }),
        );
        for (const { head } of running) expect((await head).headers).toHaveProperty('x-job-id');
        onGeneration = (res) => sendAnswer(res, answer);
        ext4.freeze();
        isFrozen = true;
        const frozenAt = performance.now();
        held.open();
        const untracked = await Promise.all([generate('a'), generate('b'), generate('c')]);
        for (const { headers } of untracked) expect(headers).not.toHaveProperty('x-job-id');
        for (const { body } of await Promise.all(running.map((request) => request.answer)))
          expect(body.subarray(body.indexOf('{')).equals(answer)).toBe(true);
        expect(performance.now() - frozenAt).toBeLessThan(6_000);
        await until(async () => (await health()).status === 503);
        expect((await health()).report).toMatchObject({ store: { ok: false }, images: { ok: false } });
        thaw();
        await well();
        const after = await generate();
        expect(after.headers).toHaveProperty('x-job-id');
        const jobs = await getJson<Job[]>(`${url}/sdapi/v1/jobs`);
        expect(jobs.map(({ prompt }) => prompt)).toEqual(['p', ...running.map(() => 'running'), 'p']);
        for (const { finished_at } of jobs) expect(finished_at).toBeDefined();
        expect(child.said.err.match(/goes on without a job id/g)).toHaveLength(1);
      } finally {
        clearTimeout(rescue);
        thaw();
        await child.kill();
        ext4.remove();
      }
    },
    60_000,
  );
});
