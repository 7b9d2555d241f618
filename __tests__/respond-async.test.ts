import { once } from 'node:events';
import { copyFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import compression from 'compression';
import cors from 'cors';
import express, { type Express } from 'express';
import { createProxyMiddleware } from 'http-proxy-middleware';
import type { Job } from '../lib/index.js';
import { KeptRequests } from '../lib/stores/kept-requests.js';
import { LowdbJobStore } from '../lib/stores/lowdb-job-store.js';
import { type Answer, call, getJson, post } from './helpers/client.js';
import { collectingLogger, type Gateway, type GatewayOptions, startGateway } from './helpers/gateway.js';
import { openFilesBelow, until } from './helpers/kept-jobs.js';
import { sampleImages } from './helpers/sample-images.js';
import {
  answerWith,
  gate,
  type ScriptedBackend,
  sendAnswer,
  startScriptedBackend,
} from './helpers/scripted-backend.js';
import { copyStore } from './helpers/store-folders.js';
import { tempFolders } from './helpers/temp-folder.js';

const newFolder = tempFolders();
const png = sampleImages.png as Buffer;
const answer = answerWith([png]);
const PREFER = { Prefer: 'respond-async' };
const BODY = '{"prompt": "a bay", "seed": 18446744073709551615, "cfg_scale": 7.0}';

let dir: string;
let backend: ScriptedBackend;
let gateway: Gateway;

beforeEach(async () => {
  dir = await newFolder();
  backend = await startScriptedBackend((res) => sendAnswer(res, answer));
});

afterEach(async () => {
  jest.restoreAllMocks();
  await gateway?.close();
  await backend.close();
});

async function start(options: Partial<GatewayOptions> = {}): Promise<void> {
  gateway = await startGateway({ dir, a1111: backend.url, env: {}, ...options });
}

const wrapped = (): Partial<GatewayOptions> => ({
  a1111: undefined as never,
  behind: (app: Express) => app.use(createProxyMiddleware({ target: backend.url })),
});

const url = (path: string) => gateway.url + path;
const send = (headers: Record<string, string> = {}, body: string | Buffer = BODY): Promise<Answer> =>
  post(url('/sdapi/v1/txt2img'), body, { headers }).answer;
const jobOf = (given: Answer): Job & { images?: unknown } => JSON.parse(given.body.toString());
const keptRequests = async () => (await readdir(join(dir, 'requests')).catch(() => [])).sort();

/** From now on the backend answers only once the gate is open. */
function holdAnswers(): ReturnType<typeof gate> {
  const held = gate();
  backend.script = async (res) => {
    await held.opened;
    sendAnswer(res, answer);
  };
  return held;
}

/** A store that does `instead` where it is to write down that a job has begun. */
function storeThatStarts(instead: () => Promise<void>) {
  const store = new LowdbJobStore({ folder: dir, logger: collectingLogger([]) });
  const { update } = store;
  store.update = async (id, change) => {
    if (change.status === 'Processing') await instead();
    return update.call(store, id, change);
  };
  return store;
}

/**
 * Lets the disk take a request only once the gate is open; or take it, and not say so. `reached` tells when it is to take
 * one.
 */
function holdKeeping(isTaken = false) {
  const { keep } = KeptRequests.prototype;
  const [reached, held] = [gate(), gate()];
  jest.spyOn(KeptRequests.prototype, 'keep').mockImplementation(async function (this: KeptRequests, ...args) {
    reached.open();
    if (isTaken) await keep.apply(this, args);
    await held.opened;
    if (!isTaken) await keep.apply(this, args);
  });
  return { reached: reached.opened, open: held.open };
}

/** Nothing more happens by itself: all that had been asked for has been done. */
async function settled(): Promise<void> {
  for (let turn = 0; turn < 50; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

/** What a process leaves that is killed now: a copy of its folder, in which another one goes on. */
async function killAndStart(options: Partial<GatewayOptions> = {}): Promise<void> {
  const copy = await newFolder();
  copyStore(dir, copy);
  const killed = gateway;
  dir = copy;
  await start(options);
  await killed.tracker.close({ within: 0 });
  await killed.close();
}

describe('Prefer: respond-async', () => {
  test.each(['forward', 'wrap'])(
    '202 before anything is generated, and the job is found, in %s mode',
    async (mode) => {
      const held = gate();
      backend.script = async (res) => {
        await held.opened;
        sendAnswer(res, answer);
      };
      await start(mode === 'wrap' ? wrapped() : {});
      const accepted = await send(PREFER);
      const { id, status } = jobOf(accepted);
      expect(accepted.status).toBe(202);
      expect(accepted.headers).toMatchObject({
        'x-job-id': id,
        location: `/sdapi/v1/job/${id}`,
        'retry-after': '5',
        'preference-applied': 'respond-async',
        'cache-control': 'no-store',
        'content-type': 'application/json; charset=utf-8',
      });
      expect([status, jobOf(accepted).images]).toEqual(['Pending', undefined]);
      await backend.received();
      expect(backend.headers[0]?.['content-type']).toBe('application/json');
      held.open();
      expect((await gateway.ended(id)).status).toBe('Completed');
      const found = await getJson<{ images: string[] }>(url(accepted.headers.location as string));
      expect(found.images).toEqual([png.toString('base64')]);
      expect(backend.bodies).toHaveLength(1);
      expect(backend.bodies[0]?.toString().startsWith(BODY.slice(0, -1))).toBe(true);
      await until(async () => (await keptRequests()).length === 0);
    },
  );

  test('the request is on the disk before the client hears of it', async () => {
    const held = gate();
    backend.script = async (res) => {
      await held.opened;
      sendAnswer(res, answer);
    };
    await start();
    const { id } = jobOf(await send(PREFER));
    expect(await keptRequests()).toEqual([`${id}.request`]);
    held.open();
    await gateway.ended(id);
  });

  test('a large body, byte for byte', async () => {
    await start();
    const body = Buffer.from(
      `{"prompt":"x","init_images":["${Buffer.alloc(6_000_000, 7).toString('base64')}"]}`,
    );
    const { id } = jobOf(await send(PREFER, body));
    expect((await gateway.ended(id)).status).toBe('Completed');
    expect(backend.bodies[0]?.subarray(0, body.length - 1).equals(body.subarray(0, -1))).toBe(true);
  });

  test('with middlewares in front, and the mount path in its Location', async () => {
    await start({
      mount: '/sd',
      front: (app) => app.use(compression(), cors({ origin: 'https://app.example' }), express.json()),
    });
    const headers = { ...PREFER, Origin: 'https://app.example', 'Accept-Encoding': 'gzip' };
    const accepted = await post(url('/sd/sdapi/v1/txt2img'), BODY, { headers }).answer;
    expect(accepted.status).toBe(202);
    const { id } = jobOf(accepted);
    expect(accepted.headers.location).toBe(`/sd/sdapi/v1/job/${id}`);
    expect(accepted.headers['access-control-allow-origin']).toBe('https://app.example');
    expect(accepted.headers['access-control-expose-headers']).toContain('Location');
    expect((await gateway.ended(id)).status).toBe('Completed');
  });

  test('what fails is Failed, and nobody is misled', async () => {
    backend.script = (res) => void res.writeHead(422).end('{"detail":"no such sampler"}');
    await start();
    const { id } = jobOf(await send(PREFER));
    const job = await gateway.ended(id);
    expect(job).toMatchObject({ status: 'Failed', error: { code: 'backend', status: 422 } });
  });

  test('a password in the body does not get to the disk, and the backend gets all of it', async () => {
    const held = gate();
    backend.script = async (res) => {
      await held.opened;
      sendAnswer(res, answer);
    };
    await start();
    const { id } = jobOf(await send(PREFER, '{"prompt":"x","auth":"ann:hunter2"}'));
    await backend.received();
    expect(backend.bodies[0]?.toString()).toContain('hunter2');
    expect(await keptRequests()).toEqual([]);
    held.open();
    expect((await gateway.ended(id)).status).toBe('Completed');
  });

  test('once more with the same key: 202 with the same job', async () => {
    await start();
    const headers = { ...PREFER, 'Idempotency-Key': '"k"' };
    const [first, second] = [await send(headers), await send(headers)];
    expect([first.status, second.status]).toEqual([202, 202]);
    expect(jobOf(second).id).toBe(jobOf(first).id);
    await gateway.ended(jobOf(first).id);
    const third = await send({ 'Idempotency-Key': '"k"' });
    expect([third.status, third.headers['x-job-id'], third.body.equals(answer)]).toEqual([
      200,
      jobOf(first).id,
      true,
    ]);
    expect(backend.bodies).toHaveLength(1);
  });

  test('without a key it is another job: a 202 has been delivered', async () => {
    await start();
    const [first, second] = [await send(PREFER), await send(PREFER)];
    expect(jobOf(second).id).not.toBe(jobOf(first).id);
    await gateway.ended(jobOf(first).id);
    await gateway.ended(jobOf(second).id);
  });

  test('not for a page of another origin that could not read it', async () => {
    await start();
    const given = await send({ ...PREFER, Origin: 'https://page.example' });
    expect([given.status, given.body.equals(answer)]).toEqual([200, true]);
  });

  test('where the disk is full, the client waits as ever', async () => {
    await start();
    jest.spyOn(KeptRequests.prototype, 'keep').mockRejectedValue(new Error('ENOSPC'));
    const given = await send(PREFER);
    expect([given.status, given.body.equals(answer)]).toEqual([200, true]);
    expect(backend.bodies).toHaveLength(1);
  });

  test('a request that the disk takes too late does not stay', async () => {
    await start();
    const keeping = holdKeeping();
    const held = holdAnswers();
    const given = send(PREFER);
    await backend.received();
    keeping.open();
    const [job] = (await gateway.tracker.jobs.list()).jobs;
    await until(async () => gateway.log.join().includes('could not be run after a restart'));
    await until(async () => !(await keptRequests()).some((name) => name.startsWith(job?.id as string)));
    held.open();
    expect((await given).status).toBe(200);
  });

  test('nor one of which the disk says too late that it has it', async () => {
    await start();
    const keeping = holdKeeping(true);
    const held = holdAnswers();
    const given = send(PREFER);
    await backend.received();
    await until(async () => (await keptRequests()).length === 0);
    keeping.open();
    held.open();
    expect((await given).status).toBe(200);
  });

  test('a request that nobody would run again does not wait for that record', async () => {
    const held = gate();
    await start({ store: storeThatStarts(() => held.opened) });
    // Whoever waits for it waits two seconds, which never pass here.
    jest.useFakeTimers({
      doNotFake: [
        ...(['Date', 'hrtime', 'nextTick', 'performance', 'queueMicrotask'] as const),
        ...(['setImmediate', 'setInterval'] as const),
      ],
    });
    const given = send();
    try {
      await backend.received();
    } finally {
      jest.useRealTimers();
    }
    held.open();
    expect((await given).status).toBe(200);
  });

  test('the backend gets the request only once it is on record that it does', async () => {
    const held = gate();
    await start({ store: storeThatStarts(() => held.opened) });
    expect((await send(PREFER)).status).toBe(202);
    await settled();
    expect(backend.bodies).toHaveLength(0);
    held.open();
    await backend.received();
  });

  test('and not at all where the gateway ends meanwhile', async () => {
    const [reached, held] = [gate(), gate()];
    const begin = () => {
      reached.open();
      return held.opened;
    };
    await start({ store: storeThatStarts(begin) });
    await send(PREFER);
    await reached.opened;
    const closing = gateway.tracker.close({ within: 0 });
    await until(async () => gateway.log.join().includes('broken off'));
    held.open();
    await closing;
    await settled();
    expect(backend.bodies).toHaveLength(0);
  });

  describe('a gateway that is stopped ends a job that waits', () => {
    /** The ids of the jobs that have failed by the time when the gateway is closed. */
    async function failedAtClose(): Promise<string[]> {
      const failed: string[] = [];
      gateway.tracker.events.on('failed', ({ id }) => failed.push(id));
      await gateway.tracker.close({ within: 0 });
      return failed;
    }

    test('whose request was not written down, because it holds a secret', async () => {
      const held = holdAnswers();
      await start();
      await send(PREFER, '{"prompt":"first"}');
      await backend.received();
      const accepted = await send(PREFER, '{"prompt":"x","auth":"ann:hunter2"}');
      expect(accepted.status).toBe(202);
      expect(await failedAtClose()).toContain(jobOf(accepted).id);
      held.open();
    });

    test('whose client could not be sent away, and hears of it', async () => {
      const held = holdAnswers();
      const store = new LowdbJobStore({ folder: dir, logger: collectingLogger([]) });
      await start({ store });
      await send(PREFER, '{"prompt":"first"}');
      await backend.received();
      const get = jest.spyOn(store, 'get').mockRejectedValue(new Error('EIO'));
      const waiting = post(url('/sdapi/v1/txt2img'), BODY, { headers: PREFER });
      const { status, headers } = await waiting.head;
      expect(status).toBe(200);
      get.mockRestore();
      expect(await failedAtClose()).toContain(headers['x-job-id']);
      await expect(waiting.answer).rejects.toThrow();
      held.open();
    });
  });

  test('also where the client has left before its 202', async () => {
    const held = gate();
    await start({ store: storeThatStarts(() => held.opened) });
    const keeping = holdKeeping();
    const lost = post(url('/sdapi/v1/txt2img'), BODY, { headers: PREFER });
    await keeping.reached;
    const closed = new Promise((resolve) => gateway.server.getConnections(resolve));
    lost.request.destroy();
    await closed;
    keeping.open();
    await until(async () => (await keptRequests()).some((name) => name.endsWith('.request')));
    await settled();
    expect(backend.bodies).toHaveLength(0);
    held.open();
    await backend.received();
  });

  test.each(['cannot be had', 'does not come'])(
    'where that record %s, the generation goes on, and is not run again',
    async (how) => {
      const [held, late] = [holdAnswers(), gate()];
      const fails = () => Promise.reject(new Error('ENOSPC'));
      await start({ store: storeThatStarts(how === 'cannot be had' ? fails : () => late.opened) });
      const { id } = jobOf(await send(PREFER));
      await backend.received();
      expect(backend.bodies[0]?.toString().startsWith(BODY.slice(0, -1))).toBe(true);
      expect(await keptRequests()).toEqual([]);
      await until(() => openFilesBelow(join(dir, 'requests')).length === 0);
      held.open();
      late.open();
      expect((await gateway.ended(id)).status).toBe('Completed');
    },
  );

  test('nor does it wait longer for a disk that does not even let go of the request', async () => {
    await start({ store: storeThatStarts(() => Promise.reject(new Error('ENOSPC'))) });
    const held = gate();
    const { remove } = KeptRequests.prototype;
    const [reached, removing] = [gate(), jest.spyOn(KeptRequests.prototype, 'remove')];
    removing.mockImplementation(async function (this: KeptRequests, jobId) {
      reached.open();
      await held.opened;
      return remove.call(this, jobId);
    });
    const { id } = jobOf(await send(PREFER));
    await reached.opened;
    await settled();
    expect(backend.bodies).toHaveLength(0);
    await backend.received();
    held.open();
    expect((await gateway.ended(id)).status).toBe('Completed');
  });

  test('what was to be read of a request that had to go is closed where the gateway ends meanwhile', async () => {
    await start({ store: storeThatStarts(() => Promise.reject(new Error('ENOSPC'))) });
    const [reached, held] = [gate(), gate()];
    jest.spyOn(KeptRequests.prototype, 'remove').mockImplementation(async () => {
      reached.open();
      await held.opened;
    });
    await send(PREFER);
    await reached.opened;
    expect(openFilesBelow(join(dir, 'requests'))).toHaveLength(1);
    const failed = once(gateway.tracker.events, 'failed');
    const closing = gateway.tracker.close({ within: 0 });
    await failed;
    held.open();
    await closing;
    expect(backend.bodies).toHaveLength(0);
    await until(() => openFilesBelow(join(dir, 'requests')).length === 0);
  });

  test('a large request that has been answered stays open nowhere', async () => {
    await start();
    expect((await send({}, `{"prompt":"${'x'.repeat(3_000_000)}"}`)).status).toBe(200);
    await until(() => openFilesBelow(join(dir, 'requests')).length === 0);
  });

  test('a lost job that only waits is not promised to anybody', async () => {
    await start();
    const held = holdAnswers();
    const running = post(url('/sdapi/v1/txt2img'), '{"prompt":"running"}');
    await backend.received();
    const lost = post(url('/sdapi/v1/txt2img'), BODY);
    const id = (await lost.head).headers['x-job-id'];
    (await lost.incoming).socket.resetAndDestroy();
    await until(
      async () =>
        (await new Promise<number>((resolve) => gateway.server.getConnections((_e, n) => resolve(n)))) === 1,
    );
    const again = post(url('/sdapi/v1/txt2img'), BODY, { headers: PREFER });
    const head = await again.head;
    expect([head.status, head.headers['x-job-id']]).toEqual([200, id]);
    held.open();
    await Promise.all([again.answer, running.answer]);
  });

  test('while nothing can be recorded, the client waits as ever', async () => {
    await start({ enabled: false });
    const given = await send(PREFER);
    expect([given.status, given.body.equals(answer)]).toEqual([200, true]);
  });
});

describe('after the gateway died', () => {
  test('what was accepted and had not reached the backend is run, with all its bytes', async () => {
    const held = gate();
    backend.script = async (res) => {
      await held.opened;
      sendAnswer(res, answer);
    };
    await start();
    const first = jobOf(await send(PREFER, '{"prompt":"first"}'));
    await backend.received();
    const second = jobOf(await send(PREFER));
    const waiting = post(url('/sdapi/v1/txt2img'), '{"prompt":"with a client"}');
    const third = (await waiting.head).headers['x-job-id'] as string;
    await until(async () => (await gateway.tracker.jobs.get(first.id))?.status === 'Processing');
    await killAndStart();
    await backend.received(2);
    held.open();
    expect(await gateway.ended(second.id)).toMatchObject({
      status: 'Completed',
      prompt: 'a bay',
      accepted: true,
    });
    // What had reached it is not known, and is not generated again.
    expect(await gateway.tracker.jobs.get(first.id)).toMatchObject({
      status: 'Failed',
      error: { code: 'interrupted' },
    });
    expect(await gateway.tracker.jobs.get(third)).toMatchObject({
      status: 'Failed',
      error: { code: 'interrupted' },
    });
    const again = backend.bodies.map(String).filter((body) => body.startsWith(BODY.slice(0, -1)));
    expect(again).toHaveLength(1);
    expect(backend.bodies.map(String).filter((body) => body.includes('"first"'))).toHaveLength(1);
    await until(async () => !(await keptRequests()).includes(`${second.id}.request`));
    await until(() => openFilesBelow(join(dir, 'requests')).length === 0);
  });

  test('what was not accepted is not run, though its request should lie there', async () => {
    const held = holdAnswers();
    await start();
    const first = jobOf(await send(PREFER, '{"prompt":"first"}'));
    await backend.received();
    await until(async () => (await gateway.tracker.jobs.get(first.id))?.status === 'Processing');
    const accepted = jobOf(await send(PREFER)).id;
    const waiting = post(url('/sdapi/v1/txt2img'), '{"prompt":"with a client"}');
    const id = (await waiting.head).headers['x-job-id'];
    // A job that failed, whose end did not get to the disk any more, leaves it so.
    await copyFile(join(dir, 'requests', `${accepted}.request`), join(dir, 'requests', `${id}.request`));
    await killAndStart();
    expect(await gateway.tracker.jobs.get(id as string)).toMatchObject({
      status: 'Failed',
      error: { code: 'interrupted' },
    });
    held.open();
  });

  test('what nobody can want any more goes: requests of completed jobs, bodies that were half written', async () => {
    await start();
    const first = jobOf(await send(PREFER, '{"prompt":"first"}')).id;
    await gateway.ended(first);
    const held = holdAnswers();
    const running = jobOf(await send(PREFER, '{"prompt":"running"}')).id;
    await backend.received(2);
    const { id } = jobOf(await send(PREFER));
    for (const name of [`${first}.request`, 'Unknown1.request', 'half.new', '0b1c2d'])
      await copyFile(join(dir, 'requests', `${id}.request`), join(dir, 'requests', name));
    await killAndStart();
    // What ran is Failed, and can be tried again.
    expect(await keptRequests()).toEqual([`${id}.request`, `${running}.request`].sort());
    held.open();
    expect((await gateway.ended(id)).status).toBe('Completed');
  });

  test('requests that were kept in forward mode go in wrap mode: nobody can run them', async () => {
    const held = gate();
    backend.script = () => held.opened;
    await start();
    await send(PREFER, '{"prompt":"first"}');
    await backend.received();
    const { id } = jobOf(await send(PREFER));
    await killAndStart(wrapped());
    expect((await gateway.tracker.jobs.get(id))?.error?.code).toBe('interrupted');
    expect(await keptRequests()).toEqual([]);
    held.open();
  });

  test('in wrap mode nothing is run', async () => {
    const held = gate();
    backend.script = () => held.opened;
    await start({ ...wrapped(), concurrency: 1 });
    await send(PREFER, '{"prompt":"first"}');
    await backend.received();
    const { id } = jobOf(await send(PREFER));
    await killAndStart(wrapped());
    expect(await gateway.tracker.jobs.get(id)).toMatchObject({
      status: 'Failed',
      error: { code: 'interrupted' },
    });
    const { status, body } = await call(url(`/sdapi/v1/job/${id}/retry`), { method: 'POST' }).answer;
    expect([status, JSON.parse(body.toString()).error]).toEqual([
      409,
      'The tracker does not forward by itself here: send the request again',
    ]);
    held.open();
  });

  test('what needs a login that is not kept is not run', async () => {
    const held = gate();
    backend.script = () => held.opened;
    await start();
    await send(PREFER, '{"prompt":"first"}');
    await backend.received();
    const { id } = jobOf(await send({ ...PREFER, Authorization: 'Basic YW5uOm9uZQ==' }));
    await killAndStart();
    expect(await gateway.tracker.jobs.get(id)).toMatchObject({
      status: 'Failed',
      error: { code: 'interrupted' },
    });
    const { status, body } = await call(url(`/sdapi/v1/job/${id}/retry`), { method: 'POST' }).answer;
    expect([status, body.toString()]).toEqual([409, expect.stringContaining('wants the login')]);
    held.open();
  });

  describe('what is resumed', () => {
    /** A gateway has been stopped while this job was waiting in it. */
    async function waiting(headers: Record<string, string> = PREFER, body = BODY): Promise<string> {
      const held = holdAnswers();
      await start();
      await send(PREFER, '{"prompt":"first"}');
      await backend.received();
      const { id } = jobOf(await send(headers, body));
      await gateway.tracker.close({ within: 0 });
      await gateway.close();
      held.open();
      return id;
    }

    test('is found by its key before it has run', async () => {
      const headers = { ...PREFER, 'Idempotency-Key': '"k"' };
      const id = await waiting(headers);
      const held = holdAnswers();
      await start();
      expect(jobOf(await send(headers)).id).toBe(id);
      held.open();
      expect((await gateway.ended(id)).status).toBe('Completed');
      expect(backend.bodies).toHaveLength(2);
    });

    test('stays on the disk, and reaches the backend only once it is on record that it does', async () => {
      const body = `{"prompt":"${'x'.repeat(3_000_000)}"}`;
      const id = await waiting(PREFER, body);
      const [reached, held] = [gate(), gate()];
      const begin = () => {
        reached.open();
        return held.opened;
      };
      await start({ store: storeThatStarts(begin) });
      await reached.opened;
      await settled();
      expect(backend.bodies).toHaveLength(1);
      // Neither is it held a second time.
      expect(openFilesBelow(join(dir, 'requests'))).toEqual([]);
      held.open();
      expect((await gateway.ended(id)).status).toBe('Completed');
      expect(backend.bodies[1]?.toString().startsWith(body.slice(0, -1))).toBe(true);
    });

    test('is one, where the gateway is closed while it sorts them out: the others wait for the next process', async () => {
      const held = holdAnswers();
      await start();
      await send(PREFER, '{"prompt":"first"}');
      await backend.received();
      const [second, third] = [jobOf(await send(PREFER)), jobOf(await send(PREFER, '{"prompt":"third"}'))];
      await gateway.tracker.close({ within: 0 });
      await gateway.close();
      held.open();
      const { open } = KeptRequests.prototype;
      const [reached, go] = [gate(), gate()];
      let opened = 0;
      jest.spyOn(KeptRequests.prototype, 'open').mockImplementation(async function (
        this: KeptRequests,
        jobId,
      ) {
        opened += 1;
        // Each of them has been looked at once.
        if (opened === 3) {
          reached.open();
          await go.opened;
        }
        return open.call(this, jobId);
      });
      await start();
      await reached.opened;
      const closing = gateway.tracker.close();
      await settled();
      go.open();
      await closing;
      await gateway.close();
      jest.restoreAllMocks();
      expect(backend.bodies).toHaveLength(2);
      await start();
      expect((await gateway.tracker.jobs.get(second.id))?.status).toBe('Completed');
      expect((await gateway.ended(third.id)).status).toBe('Completed');
    });

    test('ends Failed where its request cannot be read any more', async () => {
      const id = await waiting();
      const { open } = KeptRequests.prototype;
      jest
        .spyOn(KeptRequests.prototype, 'open')
        .mockImplementationOnce(function (this: KeptRequests, jobId) {
          return open.call(this, jobId);
        })
        .mockResolvedValueOnce(undefined);
      await start();
      expect(await gateway.ended(id)).toMatchObject({ status: 'Failed', error: { code: 'interrupted' } });
      expect(backend.bodies).toHaveLength(1);
    });

    test('is left to the next process by one that is closed at once', async () => {
      const id = await waiting();
      const { open } = KeptRequests.prototype;
      const [reached, held] = [gate(), gate()];
      let opened = 0;
      jest.spyOn(KeptRequests.prototype, 'open').mockImplementation(async function (
        this: KeptRequests,
        jobId,
      ) {
        opened += 1;
        if (opened === 2) {
          reached.open();
          await held.opened;
        }
        return open.call(this, jobId);
      });
      await start();
      await reached.opened;
      const closing = gateway.tracker.close({ within: 0 });
      await settled();
      held.open();
      await closing;
      await gateway.close();
      jest.restoreAllMocks();
      expect(backend.bodies).toHaveLength(1);
      await start();
      expect((await gateway.ended(id)).status).toBe('Completed');
      expect(backend.bodies).toHaveLength(2);
    });
  });

  test('a gateway that is stopped in time leaves what waits to the next one', async () => {
    const held = gate();
    backend.script = async (res) => {
      await held.opened;
      sendAnswer(res, answer);
    };
    await start();
    await send(PREFER, '{"prompt":"first"}');
    await backend.received();
    const { id } = jobOf(await send(PREFER));
    await gateway.tracker.close({ within: 0 });
    await gateway.close();
    await start();
    held.open();
    expect((await gateway.ended(id)).status).toBe('Completed');
  });
});

describe('POST /sdapi/v1/job/{id}/retry', () => {
  const retry = async (id: string) => call(url(`/sdapi/v1/job/${id}/retry`), { method: 'POST' }).answer;

  async function failed(headers: Record<string, string> = {}, body?: string | Buffer): Promise<string> {
    const { script } = backend;
    backend.script = (res) => void res.writeHead(500).end('{"detail":"CUDA out of memory"}');
    const { headers: answered, status } = await send(headers, body);
    expect(status).toBe(500);
    backend.script = script;
    const id = answered['x-job-id'] as string;
    await gateway.ended(id);
    return id;
  }

  /** The request of a failed job is kept a moment after its end. */
  const isKept = (id: string) => until(async () => (await keptRequests()).includes(`${id}.request`));

  test('runs a failed job again, as a job of its own, with the same bytes', async () => {
    await start();
    const id = await failed({ 'User-Agent': 'a client/1.0' });
    await isKept(id);
    const given = await retry(id);
    expect(given.status).toBe(202);
    const again = jobOf(given);
    expect(given.headers.location).toBe(`/sdapi/v1/job/${again.id}`);
    expect(again).toMatchObject({ prompt: 'a bay', retry_of: id, path: '/sdapi/v1/txt2img' });
    expect((await gateway.ended(again.id)).status).toBe('Completed');
    expect(backend.bodies).toHaveLength(2);
    const [first, second] = backend.bodies.map(String);
    expect(second?.replace(again.id, id)).toBe(first);
    expect(backend.headers[1]).toMatchObject({
      'user-agent': 'a client/1.0',
      'content-type': 'application/json',
    });
    // It failed all the same, and may be tried once more.
    expect((await gateway.tracker.jobs.get(id))?.status).toBe('Failed');
    await until(async () => (await keptRequests()).join() === `${id}.request`);
  });

  test('with its query, and nothing stays open', async () => {
    await start();
    backend.script = (res) => void res.writeHead(500).end();
    const { headers } = await post(url('/sdapi/v1/txt2img?a=1'), BODY).answer;
    const id = headers['x-job-id'] as string;
    await gateway.ended(id);
    await isKept(id);
    backend.script = (res, _body, req) =>
      sendAnswer(res, req.url?.endsWith('?a=1') ? answer : Buffer.from(''));
    expect((await gateway.ended(jobOf(await retry(id)).id)).status).toBe('Completed');
    await until(() => openFilesBelow(join(dir, 'requests')).length === 0);
  });

  test('also after a restart, until the job is removed', async () => {
    await start();
    const id = await failed();
    await isKept(id);
    await gateway.close();
    await start();
    expect((await retry(id)).status).toBe(202);
    await until(async () => (await gateway.tracker.jobs.list({ status: 'Completed' })).total === 1);
    await gateway.tracker.jobs.remove(id);
    await until(async () => (await keptRequests()).length === 0);
  });

  test('a retry that fails can be tried again itself', async () => {
    await start();
    const id = await failed();
    await isKept(id);
    backend.script = (res) => void res.writeHead(500).end();
    const again = jobOf(await retry(id));
    expect((await gateway.ended(again.id)).status).toBe('Failed');
    await isKept(again.id);
  });

  test('a job that was interrupted after it had reached the backend', async () => {
    const held = gate();
    backend.script = () => held.opened;
    await start();
    const { id } = jobOf(await send(PREFER));
    await backend.received();
    await until(async () => (await gateway.tracker.jobs.get(id))?.status === 'Processing');
    await killAndStart();
    expect((await gateway.tracker.jobs.get(id))?.error?.code).toBe('interrupted');
    held.open();
    backend.script = (res) => sendAnswer(res, answer);
    const again = jobOf(await retry(id));
    expect((await gateway.ended(again.id)).status).toBe('Completed');
  });

  test('409 for a request that came with a login', async () => {
    await start();
    const id = await failed({ Authorization: 'Basic YW5uOm9uZQ==' });
    await isKept(id);
    const { status, body } = await retry(id);
    expect([status, body.toString()]).toEqual([409, expect.stringContaining('wants the login')]);
    expect(backend.bodies).toHaveLength(1);
  });

  test.each<[string, Record<string, string>, string, RegExp]>([
    ['held a password', {}, '{"prompt":"x","auth":"ann:hunter2"}', /was not kept/],
    ['was encoded', { 'Content-Encoding': 'gzip' }, 'not looked into', /was not kept/],
    ['cannot be read', {}, '{"prompt":"x","secret":"hunter2"', /was not kept/],
  ])('409 for a request that %s', async (_name, headers, body, reason) => {
    await start();
    const id = await failed(headers, body);
    const { status, body: text } = await retry(id);
    expect([status, JSON.parse(text.toString())]).toEqual([409, { error: expect.stringMatching(reason) }]);
    expect(backend.bodies).toHaveLength(1);
    for (const name of await keptRequests()) expect(name).toBe(`${id}.request`);
  });

  const basic = (login: string) => `Basic ${Buffer.from(login).toString('base64')}`;

  test('with logins of the gateway’s own: the backend has not needed that of the request', async () => {
    await start({ auth: 'ann:one' });
    const headers = { Authorization: `Basic ${btoa('ann:one')}` };
    const id = await failed(headers);
    await isKept(id);
    const again = await call(url(`/sdapi/v1/job/${id}/retry`), { method: 'POST', headers }).answer;
    expect(again.status).toBe(202);
    expect((await gateway.ended(jobOf(again).id)).status).toBe('Completed');
    expect(backend.headers[1]).not.toHaveProperty('authorization');
  });

  test('what a parser of the host’s has unpacked goes on unpacked', async () => {
    await start({ front: (app: Express) => app.use(express.json()) });
    const id = await failed({ 'Content-Encoding': 'gzip' }, gzipSync(BODY));
    await isKept(id);
    expect((await gateway.ended(jobOf(await retry(id)).id)).status).toBe('Completed');
    expect(backend.headers[1]).not.toHaveProperty('content-encoding');
    expect(JSON.parse(String(backend.bodies[1]))).toMatchObject({ prompt: 'a bay', cfg_scale: 7 });
  });

  test('409 also where the backend’s URL holds a login: that of the request may be a wrong one', async () => {
    await start({ a1111: backend.url.replace('//', '//me:pw@') });
    const id = await failed({ Authorization: basic('nobody:knows') });
    await isKept(id);
    expect((await retry(id)).status).toBe(409);
    expect(backend.bodies).toHaveLength(1);
  });

  test('one whose login the backend has let in runs with that of the backend’s URL', async () => {
    const letsIn = (authorization = '') => [basic('me:pw'), basic('ann:one')].includes(authorization);
    const generated: (string | undefined)[] = [];
    backend.script = (res, _body, req) => {
      if (!letsIn(req.headers.authorization)) res.writeHead(401).end();
      else if (req.method === 'GET') res.end('{}');
      else {
        generated.push(req.headers.authorization);
        if (generated.length === 1) res.writeHead(500).end();
        else sendAnswer(res, answer);
      }
    };
    await start({ a1111: backend.url.replace('//', '//me:pw@'), auth: 'backend' });
    const headers = { Authorization: basic('ann:one') };
    const id = (await send(headers)).headers['x-job-id'] as string;
    await isKept(id);
    const given = await call(url(`/sdapi/v1/job/${id}/retry`), { method: 'POST', headers }).answer;
    expect(given.status).toBe(202);
    const again = await gateway.ended(jobOf(given).id);
    expect(again).toMatchObject({ status: 'Completed', user: 'ann', retry_of: id });
    expect(generated).toEqual([basic('ann:one'), basic('me:pw')]);
  });

  test('runs with `onDisconnect: cancel`, too: there is nobody who could leave', async () => {
    await start({ onDisconnect: 'cancel' });
    const id = await failed();
    await isKept(id);
    expect((await gateway.ended(jobOf(await retry(id)).id)).status).toBe('Completed');
  });

  test('what waits to be tried again is run after the gateway died', async () => {
    await start();
    const id = await failed();
    await isKept(id);
    const held = holdAnswers();
    await send(PREFER, '{"prompt":"running"}');
    await backend.received(2);
    const again = jobOf(await retry(id));
    await killAndStart();
    held.open();
    expect(await gateway.ended(again.id)).toMatchObject({ status: 'Completed', retry_of: id });
  });

  test('while the tracking is off it is 409, and nothing stays open', async () => {
    await start();
    const id = await failed({}, `{"prompt":"x","init_images":["${'A'.repeat(6_000_000)}"]}`);
    await isKept(id);
    const headers = { 'Content-Type': 'application/json' };
    const body = '{"tracking_enabled":false}';
    await call(url('/job-tracker/settings'), { method: 'PATCH', headers, body }).answer;
    expect((await retry(id)).status).toBe(409);
    await until(() => openFilesBelow(join(dir, 'requests')).length === 0);
  });

  test('the request of a job that is removed while it is being kept does not stay', async () => {
    await start();
    const keeping = holdKeeping();
    const id = await failed();
    await keeping.reached;
    expect(await gateway.tracker.jobs.remove(id)).toBe(true);
    const written = new Promise((resolve) => {
      const { remove } = KeptRequests.prototype;
      jest.spyOn(KeptRequests.prototype, 'remove').mockImplementation(async function (
        this: KeptRequests,
        jobId,
      ) {
        await remove.call(this, jobId);
        resolve(undefined);
      });
    });
    keeping.open();
    await written;
    expect(await keptRequests()).toEqual([]);
  });

  test('what is just being kept is kept when the gateway is closed', async () => {
    await start();
    const keeping = holdKeeping();
    const id = await failed();
    await keeping.reached;
    const closing = gateway.tracker.close();
    await settled();
    keeping.open();
    await closing;
    expect(await keptRequests()).toEqual([`${id}.request`]);
  });

  test('409 for a job that has not failed', async () => {
    await start();
    const { headers } = await send();
    const { status, body } = await retry(headers['x-job-id'] as string);
    expect([status, JSON.parse(body.toString()).error]).toEqual([
      409,
      'Expected a job that has failed, got one that is Completed',
    ]);
  });

  test('404 for a job that is not there', async () => {
    await start();
    expect((await retry('Unknown1')).status).toBe(404);
    await expect(gateway.tracker.jobs.retry('Unknown1')).resolves.toBeUndefined();
  });
});
