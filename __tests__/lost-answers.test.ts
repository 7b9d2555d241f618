import { rm, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import express, { type Express, type Request, type Response } from 'express';
import { createProxyMiddleware } from 'http-proxy-middleware';
import { FileImageStore } from '../lib/images/file-image-store.js';
import type { Job, JobTrackerOptions } from '../lib/index.js';
import { LowdbJobStore } from '../lib/stores/lowdb-job-store.js';
import { type Call, call, post } from './helpers/client.js';
import { collectingLogger, type Gateway, type GatewayOptions, startGateway } from './helpers/gateway.js';
import { openFilesBelow, until } from './helpers/kept-jobs.js';
import { sampleImages } from './helpers/sample-images.js';
import {
  answerWith,
  bigPng,
  gate,
  type ScriptedBackend,
  sendAnswer,
  startScriptedBackend,
} from './helpers/scripted-backend.js';
import { tempFolders } from './helpers/temp-folder.js';

const newFolder = tempFolders();
const png = sampleImages.png as Buffer;
const BODY = '{"prompt": "a bay", "seed": 18446744073709551615, "cfg_scale": 7.0}';

let dir: string;
let backend: ScriptedBackend;
let gateway: Gateway;
/** What the backend has answered, in order; every answer is another one. */
let answers: Buffer[];

beforeEach(async () => {
  dir = await newFolder();
  answers = [];
  backend = await startScriptedBackend((res) => sendAnswer(res, nextAnswer()));
});

afterEach(async () => {
  jest.useRealTimers();
  jest.restoreAllMocks();
  await gateway?.close();
  await backend.close();
});

function nextAnswer(): Buffer {
  const answer = answerWith([png], `{"cfg_scale":7.0,"n":${answers.length}}`);
  answers.push(answer);
  return answer;
}

async function start(options: Partial<GatewayOptions> = {}): Promise<void> {
  gateway = await startGateway({ dir, a1111: backend.url, env: {}, headAfter: 0, ...options });
}

const url = (path = '/sdapi/v1/txt2img') => gateway.url + path;
const send = (headers: Record<string, string> = {}, body: string = BODY, path?: string): Call =>
  post(url(path), body, { headers });

/** Sends a request, leaves once its job runs, and resolves to the job's id. */
async function lose(
  headers: Record<string, string> = {},
  body: string = BODY,
  path?: string,
): Promise<string> {
  const lost = send(headers, body, path);
  const head = await lost.head;
  const id = head.headers['x-job-id'] as string;
  const gone = new Promise((resolve) => lost.request.once('close', resolve));
  (await lost.incoming).socket.resetAndDestroy();
  await gone;
  return id;
}

/** A lost job that has been completed since. The backend has answered it while nobody was there. */
async function loseCompleted(
  headers: Record<string, string> = {},
  body?: string,
  path?: string,
): Promise<string> {
  const held = gate();
  const { script } = backend;
  backend.script = async (...args) => {
    await held.opened;
    await script(...args);
  };
  const id = await lose(headers, body, path);
  await seenLost();
  held.open();
  backend.script = script;
  expect((await gateway.ended(id)).status).toBe('Completed');
  return id;
}

/** The gateway has noticed that a client has left. */
async function seenLost(): Promise<void> {
  await until(async () => (await connections()) === 0);
}

/** How many clients are connected. */
const connections = () =>
  new Promise<number>((resolve) => gateway.server.getConnections((_error, count) => resolve(count)));

/** From now on the backend answers only once the gate is open. */
function holdAnswers(): ReturnType<typeof gate> {
  const held = gate();
  backend.script = async (res) => {
    await held.opened;
    sendAnswer(res, nextAnswer());
  };
  return held;
}

const lowdbStore = () => new LowdbJobStore({ folder: dir, logger: collectingLogger([]) });
const jobOf = async (id: string) => (await gateway.tracker.jobs.get(id)) as Job;
const removeImageOf = async (id: string) =>
  rm(join(dir, 'output', (await jobOf(id)).output_paths[0] as string));
const wrapped = (): Partial<GatewayOptions> => ({
  a1111: undefined as never,
  behind: (app: Express) => app.use(createProxyMiddleware({ target: backend.url })),
});

const ids = async () => (await gateway.tracker.jobs.list()).jobs.map(({ id }) => id);

describe('a lost answer is found by the same request', () => {
  test('of a job that has ended: byte for byte, with its id, and nothing is generated', async () => {
    await start();
    const id = await loseCompleted();
    const { status, headers, body } = await send().answer;
    expect([status, headers['x-job-id'], body.equals(answers[0] as Buffer)]).toEqual([200, id, true]);
    expect(headers['content-type']).toBe('application/json');
    expect(headers['content-length']).toBe(String(body.length));
    expect(backend.bodies).toHaveLength(1);
    expect(await ids()).toEqual([id]);
  });

  test('of a job that still runs: the head comes at once, the rest when it has ended', async () => {
    await start();
    const held = gate();
    backend.script = async (res) => {
      await held.opened;
      sendAnswer(res, nextAnswer());
    };
    const id = await lose();
    await seenLost();
    const again = send();
    expect((await again.head).headers['x-job-id']).toBe(id);
    held.open();
    const { body } = await again.answer;
    expect(body.toString().trim()).toBe(String(answers[0]));
    expect(backend.bodies).toHaveLength(1);
  });

  test('while it waits in the queue', async () => {
    await start();
    const held = gate();
    backend.script = async (res) => {
      await held.opened;
      sendAnswer(res, nextAnswer());
    };
    const first = send({}, '{"prompt":"first"}');
    await first.head;
    const id = await lose();
    await until(async () => (await gateway.tracker.jobs.get(id))?.status === 'Pending');
    // The first client is still there.
    await until(async () => (await connections()) === 1);
    const again = send();
    expect((await again.head).headers['x-job-id']).toBe(id);
    held.open();
    expect((await again.answer).body.toString().trim()).toBe(String(answers[1]));
    expect(backend.bodies).toHaveLength(2);
    await first.answer;
  });

  test('after the client left in the middle of the answer', async () => {
    await start();
    const big = bigPng(8_000_000);
    backend.script = (res) => sendAnswer(res, answerWith([big]));
    const lost = post(url(), BODY, { unread: true });
    const { headers } = await lost.head;
    (await lost.incoming).socket.resetAndDestroy();
    await gateway.ended(headers['x-job-id'] as string);
    await seenLost();
    const again = await send().answer;
    expect(again.headers['x-job-id']).toBe(headers['x-job-id']);
    expect(again.body.equals(answerWith([big]))).toBe(true);
    expect(backend.bodies).toHaveLength(1);
  });

  test('after a restart of the gateway', async () => {
    await start();
    const id = await loseCompleted();
    await gateway.close();
    await start();
    const { headers, body } = await send().answer;
    expect([headers['x-job-id'], body.equals(answers[0] as Buffer)]).toEqual([id, true]);
    expect(backend.bodies).toHaveLength(1);
  });

  test('in wrap mode, too', async () => {
    await start({
      a1111: undefined as never,
      behind: (app: Express) => app.use(createProxyMiddleware({ target: backend.url })),
    });
    const id = await loseCompleted();
    const { headers, body } = await send().answer;
    expect([headers['x-job-id'], body.equals(answers[0] as Buffer)]).toEqual([id, true]);
    expect(backend.bodies).toHaveLength(1);
  });

  test('without images, where none were wanted', async () => {
    await start();
    const parameters = '{"send_images":true,"cfg_scale":7.0}';
    backend.script = (res) => sendAnswer(res, answerWith([png], parameters));
    const body = '{"prompt":"x","send_images":false}';
    const id = await loseCompleted({}, body);
    const again = await send({}, body).answer;
    expect(again.headers['x-job-id']).toBe(id);
    expect(again.body.toString()).toBe(
      '{"images":[],"parameters":{"send_images":false,"cfg_scale":7.0},"info":"{\\"seed\\": 1}"}',
    );
    expect(backend.bodies).toHaveLength(1);
  });

  test('with many large images, at the pace of a client that stops in between', async () => {
    await start();
    const images = [bigPng(6_000_000), bigPng(5_000_000)];
    backend.script = (res) => sendAnswer(res, answerWith(images));
    const id = await loseCompleted();
    const again = post(url(), BODY, { unread: true });
    const incoming = await again.incoming;
    expect(incoming.headers['x-job-id']).toBe(id);
    const pieces: Buffer[] = [];
    for await (const piece of incoming) {
      pieces.push(piece);
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(Buffer.concat(pieces).equals(answerWith(images))).toBe(true);
  });

  test('without a blank in it once it has begun', async () => {
    await start({ keepAlive: '10ms' });
    const large = answerWith([bigPng(12_000_000)]);
    const held = gate();
    backend.script = async (res) => {
      await held.opened;
      sendAnswer(res, large);
    };
    const id = await lose();
    await seenLost();
    const again = post(url(), BODY, { unread: true });
    const incoming = await again.incoming;
    held.open();
    await gateway.ended(id);
    const pieces: Buffer[] = [];
    for await (const piece of incoming) {
      pieces.push(piece);
      // Time for a few blanks.
      if (String(piece).includes('{')) await new Promise((resolve) => setTimeout(resolve, 100));
    }
    const body = Buffer.concat(pieces);
    expect(body.subarray(body.indexOf('{')).equals(large)).toBe(true);
  });

  test('by those who come after one that left before there was a head', async () => {
    await start({ headAfter: false });
    const held = holdAnswers();
    for (let client = 0; client < 2; client += 1) {
      const lost = send();
      if (client === 0) await backend.received();
      else await until(async () => (await connections()) === 1);
      for (let i = 0; i < 20; i += 1) await call(url('/sdapi/v1/jobs')).answer;
      lost.request.destroy();
      await seenLost();
    }
    const [id] = await ids();
    const again = send();
    await until(async () => (await connections()) === 1);
    held.open();
    expect((await again.answer).headers['x-job-id']).toBe(id);
    expect(backend.bodies).toHaveLength(1);
  });

  test('once more, where the second client has left, too', async () => {
    await start();
    const held = gate();
    backend.script = async (res) => {
      await held.opened;
      sendAnswer(res, nextAnswer());
    };
    const id = await lose();
    await seenLost();
    expect(await lose()).toBe(id);
    await seenLost();
    const again = send();
    await again.head;
    held.open();
    expect((await again.answer).headers['x-job-id']).toBe(id);
    expect(backend.bodies).toHaveLength(1);
  });
});

test('whoever waits for a job whose end cannot be recorded is told, and not kept waiting', async () => {
  const store = lowdbStore();
  const { update } = store;
  store.update = async (id, change) => {
    if (change.status === 'Completed') throw new Error('EIO');
    return update.call(store, id, change);
  };
  await start({ store });
  const held = holdAnswers();
  const id = await lose();
  await seenLost();
  const again = send();
  expect((await again.head).headers['x-job-id']).toBe(id);
  held.open();
  await expect(again.answer).rejects.toThrow();
});

test('the same request below another mount path is another one', async () => {
  await start({ mount: '/:name' });
  const id = await loseCompleted({}, BODY, '/a/sdapi/v1/txt2img');
  const elsewhere = await send({}, BODY, '/b/sdapi/v1/txt2img').answer;
  expect(elsewhere.headers['x-job-id']).not.toBe(id);
  expect((await send({}, BODY, '/a/sdapi/v1/txt2img').answer).headers['x-job-id']).toBe(id);
});

test('an empty Idempotency-Key is none', async () => {
  await start();
  const [first, second] = [
    await send({ 'Idempotency-Key': '' }).answer,
    await send({ 'Idempotency-Key': '' }).answer,
  ];
  expect(second.headers['x-job-id']).not.toBe(first.headers['x-job-id']);
  expect(backend.bodies).toHaveLength(2);
});

describe('what has been handed over', () => {
  test('is not what still lay in the gateway when the client left', async () => {
    const big = answerWith([bigPng(6_000_000)]);
    await start({
      a1111: undefined as never,
      // In one piece, so that the whole of it is on its way at once.
      behind: (app: Express) => app.use((_req: Request, res: Response) => void res.type('json').end(big)),
    });
    const lost = post(url(), BODY, { unread: true });
    const id = (await lost.head).headers['x-job-id'] as string;
    await gateway.ended(id);
    (await lost.incoming).socket.resetAndDestroy();
    await seenLost();
    const again = await send().answer;
    expect([again.headers['x-job-id'], again.body.equals(big)]).toEqual([id, true]);
  });

  test.each(['forward', 'wrap'])('is on record when the gateway is closed, in %s mode', async (mode) => {
    await start(mode === 'wrap' ? wrapped() : {});
    const held = holdAnswers();
    const first = send();
    const id = (await first.head).headers['x-job-id'] as string;
    await backend.received();
    const closing = gateway.tracker.close();
    held.open();
    await first.answer;
    await closing;
    await gateway.close();
    await start();
    expect(await jobOf(id)).toMatchObject({ status: 'Completed', delivered: true });
  });

  test('is on record also where it had been lost', async () => {
    await start(wrapped());
    const held = holdAnswers();
    const id = await lose();
    await seenLost();
    const again = send();
    await again.head;
    const closing = gateway.tracker.close();
    held.open();
    expect((await again.answer).body.toString().trim()).toBe(String(answers[0]));
    await closing;
    await gateway.close();
    await start();
    expect(await jobOf(id)).toMatchObject({ delivered: true });
  });

  test('is not what somebody in front has answered', async () => {
    let inFront: Response | undefined;
    await start({
      headAfter: false,
      front: (app: Express) =>
        app.use((req: Request, res: Response, next: () => void) => {
          if (req.headers['x-impatient']) inFront = res;
          next();
        }),
    });
    const held = holdAnswers();
    const lost = send();
    await backend.received();
    const [id] = (await ids()) as [string];
    lost.request.destroy();
    await seenLost();
    const impatient = send({ 'X-Impatient': '1' });
    await until(() => inFront?.hasHeader('x-job-id') === true);
    inFront?.status(503).write('too ');
    held.open();
    await gateway.ended(id);
    // What would be written into it would be there by now.
    for (let i = 0; i < 20; i += 1) await call(url('/sdapi/v1/jobs')).answer;
    inFront?.end('slow');
    const { status, body } = await impatient.answer;
    expect([status, body.toString()]).toEqual([503, 'too slow']);
    await until(() => openFilesBelow(join(dir, 'output')).length === 0);
    const again = await send().answer;
    expect([again.status, again.headers['x-job-id']]).toEqual([200, id]);
  });
});

describe('a client that is led to a lost answer', () => {
  test('gets the next one where the first cannot be read any more', async () => {
    await start();
    const first = await loseCompleted();
    await removeImageOf(first);
    const second = await loseCompleted();
    expect(second).not.toBe(first);
    expect((await send().answer).headers['x-job-id']).toBe(second);
    expect(backend.bodies).toHaveLength(2);
  });

  test('gets the head of a new generation early, where there is none after all', async () => {
    await start();
    await removeImageOf(await loseCompleted());
    const held = holdAnswers();
    const again = send();
    await again.head;
    held.open();
    await again.answer;
  });

  test('gets a new generation while nothing can be read', async () => {
    const store = lowdbStore();
    await start({ store });
    await loseCompleted();
    jest.spyOn(store, 'get').mockRejectedValueOnce(new Error('the database is gone'));
    expect((await send().answer).status).toBe(200);
    expect(gateway.log.join()).toContain('the database is gone');
    await loseCompleted({}, '{"prompt":"another"}');
    jest.spyOn(FileImageStore.prototype, 'read').mockRejectedValueOnce(new Error('EIO'));
    expect((await send({}, '{"prompt":"another"}').answer).status).toBe(200);
    expect(backend.bodies).toHaveLength(4);
  });

  test('gets a new generation when the disk does not answer', async () => {
    await start();
    await loseCompleted();
    const late = gate();
    const { read } = FileImageStore.prototype;
    jest.spyOn(FileImageStore.prototype, 'read').mockImplementationOnce(async function (
      this: FileImageStore,
      path,
    ) {
      await late.opened;
      return read.call(this, path);
    });
    expect((await send().answer).status).toBe(200);
    expect(backend.bodies).toHaveLength(2);
    late.open();
    // What it gives after all is not kept open.
    await call(url('/sdapi/v1/jobs')).answer;
    await until(() => openFilesBelow(join(dir, 'output')).length === 0);
  });

  test('by its key gets a new generation where there is none after all, once', async () => {
    await start();
    const key = { 'Idempotency-Key': '"a"' };
    const first = (await send(key).answer).headers['x-job-id'] as string;
    await removeImageOf(first);
    const second = (await send(key).answer).headers['x-job-id'] as string;
    expect(second).not.toBe(first);
    expect((await send(key).answer).headers['x-job-id']).toBe(second);
    expect(backend.bodies).toHaveLength(2);
  });

  test('leaves nothing open where it does not take all of it', async () => {
    await start();
    backend.script = (res) => sendAnswer(res, answerWith([bigPng(12_000_000)]));
    await loseCompleted();
    const again = post(url(), BODY, { unread: true });
    (await again.incoming).socket.resetAndDestroy();
    await seenLost();
    await until(() => openFilesBelow(join(dir, 'output')).length === 0);
  });

  test('is told of no job where there is none after all, and no new one can be recorded', async () => {
    const store = lowdbStore();
    await start({ store });
    await removeImageOf(await loseCompleted());
    jest.spyOn(store, 'insert').mockRejectedValue(new Error('ENOSPC'));
    const again = await send().answer;
    expect([again.status, again.body.equals(answers[1] as Buffer)]).toEqual([200, true]);
    expect(again.headers).not.toHaveProperty('x-job-id');
  });

  test('sees that it breaks off where it cannot be read to its end, and is not led there again', async () => {
    await start();
    backend.script = (res) => sendAnswer(res, answerWith([bigPng(12_000_000)]));
    const id = await loseCompleted();
    const again = post(url(), BODY, { unread: true });
    const incoming = await again.incoming;
    expect(incoming.headers['x-job-id']).toBe(id);
    // Nobody takes it: most of it is still on the disk, however much time there was.
    for (let i = 0; i < 50; i += 1) await call(url('/sdapi/v1/jobs')).answer;
    await truncate(join(dir, 'output', (await jobOf(id)).output_paths[0] as string), 1_000);
    incoming.resume();
    await expect(again.answer).rejects.toThrow();
    await until(() => openFilesBelow(join(dir, 'output')).length === 0);
    backend.script = (res) => sendAnswer(res, nextAnswer());
    expect((await send().answer).headers['x-job-id']).not.toBe(id);
  });

  test('does not wait for ever for an end that could not be recorded', async () => {
    const store = lowdbStore();
    const { update } = store;
    store.update = async (id, change) => {
      const job = await update.call(store, id, change);
      if (change.status === 'Completed') throw new Error('ENOSPC');
      return job;
    };
    await start({ store });
    const held = holdAnswers();
    const id = await lose();
    await seenLost();
    const again = send();
    expect((await again.head).headers['x-job-id']).toBe(id);
    held.open();
    expect((await again.answer).body.toString().trim()).toBe(String(answers[0]));
  });

  test('keeps the job that its first client has left, with `onDisconnect: cancel`, until it leaves as well', async () => {
    await start({ onDisconnect: 'cancel' });
    const held = holdAnswers();
    const running = send({}, '{"prompt":"running"}');
    await running.head;
    const key = { 'Idempotency-Key': 'k' };
    const calls = [send(key), send(key), send(key)];
    const heads = await Promise.all(calls.map(({ head }) => head));
    const id = heads[0]?.headers['x-job-id'] as string;
    expect(heads.map(({ headers }) => headers['x-job-id'])).toEqual([id, id, id]);
    const leave = async (left: number) => {
      (await (calls.shift() as Call).incoming).socket.resetAndDestroy();
      await until(async () => (await connections()) === left);
      return await jobOf(id);
    };
    expect([(await leave(3)).status, (await leave(2)).status]).toEqual(['Pending', 'Pending']);
    await leave(1);
    expect(await gateway.ended(id)).toMatchObject({ error: { code: 'cancelled' } });
    held.open();
    await running.answer;
  });
});

describe('a request is a new one', () => {
  /** Resolves to whether the request has been led to the job. */
  async function isLedTo(id: string, ...sent: Parameters<typeof send>): Promise<boolean> {
    const { status, headers } = await send(...sent).answer;
    expect(status).toBe(200);
    return headers['x-job-id'] === id;
  }

  test('when the answer has been delivered', async () => {
    await start();
    const first = await send().answer;
    await gateway.ended(first.headers['x-job-id'] as string);
    expect(await isLedTo(first.headers['x-job-id'] as string)).toBe(false);
    expect(backend.bodies).toHaveLength(2);
    await gateway.close();
    await start();
    expect(await isLedTo(first.headers['x-job-id'] as string)).toBe(false);
  });

  test('when the lost answer has been found before', async () => {
    await start();
    const id = await loseCompleted();
    expect(await isLedTo(id)).toBe(true);
    expect(await isLedTo(id)).toBe(false);
    await gateway.close();
    await start();
    expect(await isLedTo(id)).toBe(false);
  });

  test('when the first client is still there: two live requests are two jobs', async () => {
    await start({ concurrency: 2 });
    const held = gate();
    backend.script = async (res) => {
      await held.opened;
      sendAnswer(res, nextAnswer());
    };
    const calls = [send(), send()];
    const heads = await Promise.all(calls.map(({ head }) => head));
    expect(heads[0]?.headers['x-job-id']).not.toBe(heads[1]?.headers['x-job-id']);
    held.open();
    await Promise.all(calls.map(({ answer }) => answer));
    expect(backend.bodies).toHaveLength(2);
  });

  test('when one that found the lost answer is being served: only one of two gets it', async () => {
    await start({ concurrency: 3 });
    const held = gate();
    backend.script = async (res) => {
      await held.opened;
      sendAnswer(res, nextAnswer());
    };
    const id = await lose();
    await seenLost();
    const calls = [send(), send()];
    const heads = await Promise.all(calls.map(({ head }) => head));
    expect(heads.filter(({ headers }) => headers['x-job-id'] === id)).toHaveLength(1);
    held.open();
    await Promise.all(calls.map(({ answer }) => answer));
    expect(backend.bodies).toHaveLength(2);
  });

  test.each<[string, Parameters<typeof send>]>([
    ['another body', [{}, '{"prompt": "a bay"}']],
    ['another body by one blank', [{}, `${BODY} `]],
    ['another path', [{}, BODY, '/sdapi/v1/img2img']],
    ['another query', [{}, BODY, '/sdapi/v1/txt2img?a=1']],
    ['another User-Agent', [{ 'User-Agent': 'another' }]],
    ['an address that nobody vouches for', [{ 'X-Forwarded-For': '127.0.0.1' }]],
    ['a Forwarded header', [{ Forwarded: 'for=127.0.0.1' }]],
    ['another login, which only the backend can judge', [{ Authorization: 'Basic YW5uOm9uZQ==' }]],
    ['another cookie', [{ Cookie: 'session=1' }]],
    ['an origin that nobody has let in', [{ Origin: 'https://page.example' }]],
    ['a key of its own', [{ 'Idempotency-Key': '"a"' }]],
  ])('with %s', async (_name, sent) => {
    await start();
    const id = await loseCompleted();
    expect(await isLedTo(id, ...sent)).toBe(false);
    expect(backend.bodies).toHaveLength(2);
  });

  test('when it comes from another address', async () => {
    await start({ front: (app: Express) => app.set('trust proxy', true) });
    const id = await loseCompleted({ 'X-Forwarded-For': '192.0.2.1' });
    expect(await isLedTo(id, { 'X-Forwarded-For': '192.0.2.2' })).toBe(false);
    expect(await isLedTo(id, { 'X-Forwarded-For': '192.0.2.1' })).toBe(true);
  });

  test('when it comes through a proxy that nobody vouches for, behind one that is trusted', async () => {
    await start({ front: (app: Express) => app.set('trust proxy', 1) });
    const through = (address: string) => ({ 'X-Forwarded-For': `${address}, 203.0.113.1` });
    const id = await loseCompleted(through('198.51.100.1'));
    expect(await isLedTo(id, through('198.51.100.2'))).toBe(false);
    expect(await isLedTo(id, through('198.51.100.1'))).toBe(false);
    const own = await loseCompleted({ 'X-Forwarded-For': '203.0.113.1' });
    expect(await isLedTo(own, { 'X-Forwarded-For': '203.0.113.1' })).toBe(true);
  });

  test('when a parser of the host has left only a part of its body', async () => {
    await start({
      a1111: undefined as never,
      front: (app: Express) => app.use(express.urlencoded({ extended: true })),
      behind: (app: Express) =>
        app.use(async (_req: Request, res: Response) => {
          await held.opened;
          sendAnswer(res, nextAnswer());
        }),
    });
    const held = gate();
    const form = { 'Content-Type': 'application/x-www-form-urlencoded' };
    const id = await lose(form, 'prompt=a');
    await seenLost();
    held.open();
    await gateway.ended(id);
    expect(await isLedTo(id, form, 'prompt=a')).toBe(false);
  });

  test('when it comes from another user, whatever else is the same', async () => {
    await start({ auth: 'ann:one,bob:two' });
    const basic = (login: string) => ({ Authorization: `Basic ${Buffer.from(login).toString('base64')}` });
    const id = await loseCompleted(basic('ann:one'));
    expect(await isLedTo(id, basic('bob:two'))).toBe(false);
    // A user is the same behind any proxy, and with any program.
    expect(
      await isLedTo(id, { ...basic('ann:one'), 'X-Forwarded-For': '192.0.2.1', 'User-Agent': 'phone' }),
    ).toBe(true);
  });

  test('when the job has failed', async () => {
    await start();
    backend.script = (res) => void res.writeHead(500).end('{"detail":"CUDA out of memory"}');
    const id = await lose();
    expect((await gateway.ended(id)).status).toBe('Failed');
    backend.script = (res) => sendAnswer(res, nextAnswer());
    expect(await isLedTo(id)).toBe(false);
  });

  test('when the job fails while the client waits: it sees an error, and the next try is a new job', async () => {
    await start();
    const held = gate();
    backend.script = async (res) => {
      await held.opened;
      res.writeHead(500).end();
    };
    const id = await lose();
    await seenLost();
    const again = send();
    expect((await again.head).headers['x-job-id']).toBe(id);
    backend.script = (res) => sendAnswer(res, nextAnswer());
    held.open();
    // It has been told this job's id: another one's answer would not be that of this job.
    await expect(again.answer).rejects.toMatchObject({ code: 'ECONNRESET' });
    expect(backend.bodies).toHaveLength(1);
    expect(await ids()).toEqual([id]);
    expect(await isLedTo(id)).toBe(false);
  });

  test.each(['disturbed', 'cancelled'])('when the job is %s while the client waits', async (what) => {
    await start();
    const held = gate();
    backend.script = async (res, _body, req) => {
      if (req.url === '/internal/progress') res.end('{"active":true,"queued":false,"completed":false}');
      else if (req.url === '/sdapi/v1/interrupt') res.end('{}');
      else {
        await held.opened;
        sendAnswer(res, nextAnswer());
      }
    };
    const id = await lose();
    await seenLost();
    const again = send();
    expect((await again.head).headers['x-job-id']).toBe(id);
    if (what === 'disturbed') await post(url('/sdapi/v1/interrupt'), {}).answer;
    const cancelling = what === 'cancelled' ? gateway.tracker.jobs.cancel(id) : undefined;
    if (cancelling) await until(async () => backend.bodies.length === 3);
    held.open();
    await expect(again.answer).rejects.toMatchObject({ code: 'ECONNRESET' });
    await cancelling;
    // All of it is there, and is nobody's answer.
    expect(await jobOf(id)).toMatchObject({ output_paths: [expect.any(String)] });
    expect(await isLedTo(id)).toBe(false);
  });

  test('when the answer cannot be given byte for byte', async () => {
    await start();
    // The password in it has not been kept.
    backend.script = (res) => sendAnswer(res, answerWith([png], '{"auth":"secret"}'));
    const id = await loseCompleted();
    expect(await isLedTo(id)).toBe(false);
    expect(backend.bodies).toHaveLength(2);
  });

  test('when the images have gone', async () => {
    await start();
    const id = await loseCompleted();
    await gateway.tracker.jobs.remove(id);
    expect(await isLedTo(id)).toBe(false);
  });

  test('when the window is over', async () => {
    await start({ retryWindow: '1m' });
    const id = await loseCompleted();
    const { finished_at = 0 } = (await gateway.tracker.jobs.get(id)) as Job;
    jest.useFakeTimers({ doNotFake: everythingBut('Date'), now: finished_at * 1000 + 61_000 });
    expect(await isLedTo(id)).toBe(false);
  });

  test('when the window is over, also after a restart and whichever job came first', async () => {
    await start({ concurrency: 2 });
    const held = [gate(), gate()] as const;
    backend.script = async (res, body) => {
      await held[body.includes('late') ? 1 : 0].opened;
      sendAnswer(res, nextAnswer());
    };
    const late = await lose({}, '{"prompt":"late"}');
    const early = await lose();
    await seenLost();
    held[0].open();
    const { finished_at = 0 } = await gateway.ended(early);
    await until(() => Date.now() > finished_at * 1000 + 100);
    held[1].open();
    await gateway.ended(late);
    await gateway.close();
    await start({ retryWindow: '1m' });
    jest.useFakeTimers({ doNotFake: everythingBut('Date'), now: finished_at * 1000 + 60_050 });
    expect(await isLedTo(early)).toBe(false);
    expect(await isLedTo(late, {}, '{"prompt":"late"}')).toBe(true);
  });

  test('when the window is over at a restart', async () => {
    await start();
    const id = await loseCompleted();
    const { finished_at = 0 } = (await gateway.tracker.jobs.get(id)) as Job;
    await gateway.close();
    jest.useFakeTimers({ doNotFake: everythingBut('Date'), now: finished_at * 1000 + 601_000 });
    await start();
    expect(await isLedTo(id)).toBe(false);
  });

  test('always, with `retryWindow: false`', async () => {
    await start({ retryWindow: false });
    const id = await loseCompleted();
    expect(await isLedTo(id)).toBe(false);
    expect((await gateway.tracker.jobs.get(id))?.fingerprint).toBeUndefined();
  });
});

/** What jest is to leave alone. */
function everythingBut(...names: string[]): never[] {
  const all = [
    'Date',
    'hrtime',
    'nextTick',
    'performance',
    'queueMicrotask',
    'setImmediate',
    'clearImmediate',
    'setInterval',
    'clearInterval',
    'setTimeout',
    'clearTimeout',
  ];
  return all.filter((name) => !names.includes(name)) as never[];
}

describe('an Idempotency-Key', () => {
  const key = { 'Idempotency-Key': '"8e03978e-40d5-43dd-bc93-6894a57f9324"' };

  test('leads also to an answer that has been delivered, after a restart as well', async () => {
    await start();
    const first = await send(key).answer;
    const second = await send(key).answer;
    expect(second.headers['x-job-id']).toBe(first.headers['x-job-id']);
    expect(second.body.equals(first.body)).toBe(true);
    await gateway.close();
    await start();
    const third = await send(key).answer;
    expect([third.headers['x-job-id'], third.body.equals(first.body)]).toEqual([
      first.headers['x-job-id'],
      true,
    ]);
    expect(backend.bodies).toHaveLength(1);
  });

  test('makes one job of two requests that come at once', async () => {
    await start({ concurrency: 3 });
    const held = holdAnswers();
    const calls = [send(key), send(key), send(key)];
    const heads = await Promise.all(calls.map(({ head }) => head));
    expect(new Set(heads.map(({ headers }) => headers['x-job-id'])).size).toBe(1);
    held.open();
    await Promise.all(calls.map(({ answer }) => answer));
    expect(backend.bodies).toHaveLength(1);
  });

  test('leads nowhere, and holds nobody up, where its first request got no job', async () => {
    const store = lowdbStore();
    jest.spyOn(store, 'insert').mockRejectedValueOnce(new Error('ENOSPC'));
    await start({ store });
    expect((await send(key).answer).headers['x-job-id']).toBeUndefined();
    expect((await send(key).answer).headers['x-job-id']).toBeDefined();
    expect(backend.bodies).toHaveLength(2);
  });

  test('leads to a job that still runs, while its client is there', async () => {
    await start();
    const held = gate();
    backend.script = async (res) => {
      await held.opened;
      sendAnswer(res, nextAnswer());
    };
    const calls = [send(key)];
    await calls[0]?.head;
    calls.push(send(key));
    const [first, second] = await Promise.all(calls.map(({ head }) => head));
    expect(second?.headers['x-job-id']).toBe(first?.headers['x-job-id']);
    held.open();
    const [one, two] = await Promise.all(calls.map(({ answer }) => answer));
    expect(two?.body.toString().trim()).toBe(one?.body.toString().trim());
    expect(backend.bodies).toHaveLength(1);
  });

  test('with another body is 422, and the backend gets nothing', async () => {
    await start();
    await send(key).answer;
    const { status, headers, body } = await send(key, '{"prompt":"another"}').answer;
    expect([status, headers['x-job-id'], JSON.parse(body.toString())]).toEqual([
      422,
      undefined,
      { error: 'Expected the request that this Idempotency-Key came with before, got another one' },
    ]);
    expect(backend.bodies).toHaveLength(1);
    expect(await ids()).toHaveLength(1);
  });

  test('of somebody else is another one', async () => {
    await start({ auth: 'ann:one,bob:two' });
    const basic = (login: string) => ({ Authorization: `Basic ${Buffer.from(login).toString('base64')}` });
    const first = await send({ ...key, ...basic('ann:one') }).answer;
    const second = await send({ ...key, ...basic('bob:two') }, '{"prompt":"another"}').answer;
    expect([first.status, second.status]).toEqual([200, 200]);
    expect(second.headers['x-job-id']).not.toBe(first.headers['x-job-id']);
  });

  test('of a job that failed makes it anew', async () => {
    await start();
    backend.script = (res) => void res.writeHead(500).end('{"detail":"CUDA out of memory"}');
    await expect(send(key).answer).rejects.toThrow();
    backend.script = (res) => sendAnswer(res, nextAnswer());
    expect((await send(key).answer).status).toBe(200);
    expect(backend.bodies).toHaveLength(2);
  });

  test('is forgotten with the window', async () => {
    await start({ retryWindow: '1m' });
    const first = await send(key).answer;
    jest.useFakeTimers({ doNotFake: everythingBut('Date'), now: Date.now() + 62_000 });
    const second = await send(key, '{"prompt":"another"}').answer;
    expect(second.status).toBe(200);
    expect(second.headers['x-job-id']).not.toBe(first.headers['x-job-id']);
  });

  test('never stands in a record as it came, nor does any of this in what is shown', async () => {
    await start();
    const { headers } = await send(key).answer;
    const id = headers['x-job-id'] as string;
    const job = (await gateway.tracker.jobs.get(id)) as Job;
    expect(JSON.stringify(job)).not.toContain('8e03978e');
    expect(job.idempotency).toMatch(/^[\w-]{43}$/);
    for (const path of [`/sdapi/v1/job/${id}?images=none`, '/sdapi/v1/jobs']) {
      const shown = (await call(url(path)).answer).body.toString();
      expect(shown).toContain(id);
      expect(shown).not.toMatch(/fingerprint|idempotency|delivered/);
    }
  });
});

test('what cannot be told apart is never led anywhere: options stay what they are', async () => {
  const options: JobTrackerOptions = { retryWindow: '10m' };
  await start(options);
  const first = await loseCompleted({ Forwarded: 'for=192.0.2.1' });
  const second = await send({ Forwarded: 'for=192.0.2.1' }).answer;
  expect(second.headers['x-job-id']).not.toBe(first);
});
