import { once } from 'node:events';
import { readdir, readlink, rm, writeFile } from 'node:fs/promises';
import { request as httpRequest } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { Express, NextFunction, Request, Response } from 'express';
import { createProxyMiddleware } from 'http-proxy-middleware';
import { LowdbJobStore } from '../lib/stores/lowdb-job-store.js';
import { call, post } from './helpers/client.js';
import { collectingLogger, type Gateway, type GatewayOptions, startGateway } from './helpers/gateway.js';
import { rawClient } from './helpers/raw-http.js';
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
const image = bigPng(2000);
const answer = answerWith([image]);

let backend: ScriptedBackend;
let gateway: Gateway;
let held: ReturnType<typeof gate>;
let dir: string;
const uncaught: unknown[] = [];
const collect = (error: unknown) => void uncaught.push(error);

async function start(options: GatewayOptions = {}): Promise<void> {
  gateway = await startGateway({
    dir,
    ...(!options.behind && { a1111: backend.url }),
    ...options,
  });
}
const txt2img = (options: Parameters<typeof call>[1] = {}, body: unknown = { prompt: 'p' }) =>
  post(`${gateway.url}/sdapi/v1/txt2img`, body, options);
const lastJob = async () => (await gateway.tracker.jobs.list()).jobs[0];

/** How many spool files the process holds open. */
async function openSpools(): Promise<number> {
  const links = await Promise.all(
    (await readdir('/proc/self/fd')).map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => '')),
  );
  return links.filter((link) => link.startsWith(dir) && link.includes('.spool')).length;
}
const onLinux = process.platform === 'linux' ? test : test.skip;

async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setImmediate(resolve));
}
const clientsGone = () =>
  until(
    async () =>
      (await new Promise<number>((resolve) => gateway.server.getConnections((_error, n) => resolve(n)))) ===
      0,
  );

/** The gateway lets a further job in: no slot was lost. */
async function expectFreeSlot(): Promise<void> {
  held.open();
  backend.script = (res) => sendAnswer(res, answer);
  const next = await txt2img().answer;
  expect(next.status).toBe(200);
  expect(next.body.toString().trim()).toBe(answer.toString());
}

beforeEach(async () => {
  dir = await newFolder();
  held = gate();
  uncaught.length = 0;
  process.on('uncaughtException', collect);
  process.on('unhandledRejection', collect);
  backend = await startScriptedBackend(async (res) => {
    await held.opened;
    sendAnswer(res, answer);
  });
});

afterEach(async () => {
  held.open();
  await gateway.close();
  await backend.close();
  process.off('uncaughtException', collect);
  process.off('unhandledRejection', collect);
  expect(uncaught).toEqual([]);
});

describe('somebody in front', () => {
  /** Waits before it lets a generation on, as a look-up of a user does. */
  function gap() {
    const seen = gate();
    const goOn = gate();
    const waits = { once: true };
    const front = (app: Express) =>
      void app.use(async (_req: Request, _res: Response, next: NextFunction) => {
        if (waits.once) {
          waits.once = false;
          seen.open();
          await goOn.opened;
        }
        next();
      });
    return { seen, goOn, front };
  }

  test('a client that leaves while it is busy there takes no slot with it', async () => {
    const { seen, goOn, front } = gap();
    await start({ front });
    const request = txt2img();
    await seen.opened;
    request.request.socket?.resetAndDestroy();
    await clientsGone();
    goOn.open();
    await expectFreeSlot();
    expect((await gateway.tracker.jobs.list()).total).toBe(1);
  });

  test('nor does one that leaves behind a large body, which nobody notices before it is read', async () => {
    const { seen, goOn, front } = gap();
    await start({ front });
    const request = txt2img({}, { prompt: 'p'.repeat(300_000) });
    await seen.opened;
    request.request.destroy();
    goOn.open();
    await expectFreeSlot();
  });

  /** Answers 503 by itself when the test says so, as connect-timeout does. */
  function impatient(when: Promise<unknown>) {
    let first = true;
    return (app: Express) =>
      void app.use((_req: Request, res: Response, next: NextFunction) => {
        if (first) void when.then(() => res.status(503).send('too late'));
        first = false;
        next();
      });
  }

  test('answers while the body is still coming: its answer stands, and there is no job', async () => {
    const late = gate();
    await start({ front: impatient(late.opened) });
    const request = call(`${gateway.url}/sdapi/v1/txt2img`, {
      open: true,
      headers: { 'Content-Type': 'application/json', 'Content-Length': 14 },
    });
    const asked = once(gateway.server, 'request');
    request.request.write('{"prompt"');
    await asked;
    late.open();
    const head = await request.head;
    request.request.end(':"p"}');
    expect(head.status).toBe(503);
    expect(head.headers['x-job-id']).toBeUndefined();
    await expectFreeSlot();
    expect(backend.bodies.length).toBe(1);
  });

  test('answers while the record is written: its answer stands, the slot is free', async () => {
    const store = new LowdbJobStore({ folder: dir, logger: collectingLogger([]) });
    const inserting = gate();
    const goOn = gate();
    const insert = store.insert.bind(store);
    store.insert = async (job) => {
      inserting.open();
      await goOn.opened;
      return await insert(job);
    };
    await start({ store, front: impatient(inserting.opened) });
    const request = txt2img();
    expect((await request.answer).status).toBe(503);
    goOn.open();
    expect(await gateway.ended((await untilJob()).id)).toMatchObject({ error: { code: 'cancelled' } });
    expect(backend.bodies.length).toBe(0);
    await expectFreeSlot();
  });

  test('answers while the job waits in the queue: the job ends, the queue goes on', async () => {
    const late = gate();
    let calls = 0;
    await start({
      headAfter: false,
      front: (app) =>
        app.use((_req: Request, res: Response, next: NextFunction) => {
          calls += 1;
          if (calls === 2) void late.opened.then(() => res.status(503).send('too late'));
          next();
        }),
    });
    const running = txt2img();
    await backend.received();
    const waiting = txt2img();
    await until(async () => (await gateway.tracker.jobs.list()).total === 2);
    late.open();
    expect((await waiting.answer).status).toBe(503);
    held.open();
    expect((await running.answer).status).toBe(200);
    await expectFreeSlot();
    expect(backend.bodies.length).toBe(2);
  });

  async function untilJob() {
    for (;;) {
      const job = await lastJob();
      if (job) return job;
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
});

describe('jobTimeout', () => {
  test('counts from the moment when the backend gets the job, and gives the slot to the next', async () => {
    await start({ jobTimeout: '400ms' });
    backend.script = (res) => {
      // The first is never answered; the second when it is older than the limit, its time in the queue counted in.
      if (backend.bodies.length === 2) setTimeout(() => sendAnswer(res, answer), 200);
    };
    const first = txt2img();
    await backend.received();
    const second = txt2img();
    const { headers } = await first.head;
    await expect(first.answer).rejects.toThrow();
    expect(await gateway.ended(headers['x-job-id'] as string)).toMatchObject({ error: { code: 'timeout' } });
    expect((await second.answer).body.toString().trim()).toBe(answer.toString());
    await expectFreeSlot();
  });

  test('in the middle of an answer: what the handler writes after it is kept nowhere', async () => {
    const timedOut = gate();
    const written = gate();
    await start({
      jobTimeout: '200ms',
      behind: (app) =>
        app.use(async (_req: Request, res: Response) => {
          res.writeHead(200, { 'Content-Type': 'application/json' });
          res.write(answer.subarray(0, 500));
          await timedOut.opened;
          res.write(answer.subarray(500));
          res.end(() => {});
          written.open();
        }),
    });
    const request = txt2img();
    await expect(request.answer).rejects.toThrow();
    const job = await gateway.ended((await lastJob())?.id);
    expect(job).toMatchObject({ status: 'Failed', error: { code: 'timeout' }, output_paths: [] });
    timedOut.open();
    await written.opened;
    await until(async () => (await files(join(dir, 'output'))).length === 0);
  });

  test('before any answer: a late one begins nothing', async () => {
    const timedOut = gate();
    const written = gate();
    await start({
      jobTimeout: '200ms',
      behind: (app) =>
        app.use(async (_req: Request, res: Response) => {
          await timedOut.opened;
          res.json({ images: [image.toString('base64')] });
          written.open();
        }),
    });
    await expect(txt2img().answer).rejects.toThrow();
    await gateway.ended((await lastJob())?.id);
    timedOut.open();
    await written.opened;
    for (let i = 0; i < 20; i += 1) await readdir(dir);
    expect(await files(join(dir, 'output'))).toEqual([]);
  });

  async function files(folder: string): Promise<string[]> {
    const entries = await readdir(folder, { recursive: true, withFileTypes: true });
    return entries.filter((entry) => entry.isFile()).map(({ name }) => name);
  }
});

describe('open files', () => {
  const large = `{"prompt":"p","init_images":["${'A'.repeat(4_000_000)}"]}`;

  onLinux('a large body that nobody reads is let go when the job ends', async () => {
    await start({
      behind: (app) => app.use((_req: Request, res: Response) => void res.json({ images: [] })),
    });
    await txt2img({}, large).answer;
    await until(async () => (await openSpools()) === 0);
  });

  onLinux('and that of a job which runs into jobTimeout', async () => {
    await start({ jobTimeout: '300ms' });
    const running = txt2img();
    await backend.received();
    await expect(txt2img({}, large).answer).rejects.toThrow();
    await until(async () => (await openSpools()) === 0);
    await running.answer.catch(() => {});
  });

  onLinux('and that of a client which left while the record could not be made', async () => {
    const store = new LowdbJobStore({ folder: dir, logger: collectingLogger([]) });
    const inserting = gate();
    const goOn = gate();
    store.insert = async () => {
      inserting.open();
      await goOn.opened;
      throw new Error('no');
    };
    await start({ store });
    const request = txt2img({}, large);
    await inserting.opened;
    request.request.destroy();
    await clientsGone();
    goOn.open();
    await until(async () => (await openSpools()) === 0);
    expect(backend.bodies.length).toBe(0);
  });
});

describe('a disk that refuses', () => {
  test('lets a large request through all the same', async () => {
    await start();
    await writeFile(join(dir, 'requests'), 'in the way');
    held.open();
    const large = JSON.stringify({ prompt: 'p', init_images: ['A'.repeat(20_000_000)] });
    const { status } = await txt2img({}, large).answer;
    expect(status).toBe(200);
    expect(backend.bodies[0]?.length).toBeGreaterThan(20_000_000);
    await rm(join(dir, 'requests'));
  });

  test('a store that hangs at the end holds the answer for a second, not longer', async () => {
    const store = new LowdbJobStore({ folder: dir, logger: collectingLogger([]) });
    const update = store.update.bind(store);
    const stuck = gate();
    store.update = async (id, change) => {
      if (change.finished_at !== undefined) await stuck.opened;
      return await update(id, change);
    };
    held.open();
    await start({ store });
    expect((await txt2img().answer).body.equals(answer)).toBe(true);
    stuck.open();
    expect(await gateway.ended((await lastJob())?.id)).toMatchObject({ status: 'Completed' });
  });
});

describe('after the client has left', () => {
  test('a handler that gives up with the backend’s ECONNRESET ends the job', async () => {
    const gaveUp = gate();
    await start({
      behind: (app) =>
        app.use((req: Request, res: Response) => {
          const upstream = httpRequest(backend.url + req.url, { method: 'POST', agent: false });
          upstream.on('error', () => {});
          upstream.once('response', async (message) => {
            res.writeHead(200);
            try {
              for await (const chunk of message) res.write(chunk);
              res.end();
            } catch (error) {
              res.destroy(error as Error);
              gaveUp.open();
            }
          });
          req.pipe(upstream);
        }),
    });
    backend.script = async (res) => {
      res.writeHead(200, { 'Content-Length': answer.length });
      res.write(answer.subarray(0, 500));
      await held.opened;
      res.socket?.resetAndDestroy();
    };
    const request = txt2img();
    const { headers } = await request.head;
    request.request.destroy();
    await clientsGone();
    held.open();
    await gaveUp.opened;
    expect(await gateway.ended(headers['x-job-id'] as string)).toMatchObject({ status: 'Failed' });
  });
});

describe('an answer that the early head does not fit', () => {
  test.each<[string, number, Record<string, string>]>([
    ['204', 204, {}],
    ['304', 304, {}],
    ['a redirect', 302, { Location: '/elsewhere' }],
    ['an encoding that nobody here can read', 200, { 'Content-Encoding': 'sdch' }],
  ])('%s: the connection breaks', async (_name, status, headers) => {
    await start();
    backend.script = async (res) => {
      await held.opened;
      res.writeHead(status, headers).end(status === 200 ? 'whatever' : undefined);
    };
    const request = txt2img();
    await request.head;
    held.open();
    await expect(request.answer).rejects.toThrow();
    expect((await gateway.ended((await lastJob())?.id)).status).toBe('Failed');
    await expectFreeSlot();
  });

  test('what is said ahead of an answer has no place behind the early head', async () => {
    await start({
      behind: (app) =>
        app.use(async (_req: Request, res: Response) => {
          await held.opened;
          res.writeContinue();
          await new Promise<void>((resolve) =>
            res.writeEarlyHints({ link: '</a.css>; rel=preload' }, resolve),
          );
          res.json({ images: [] });
        }),
    });
    const client = rawClient(
      gateway.port,
      'POST /sdapi/v1/txt2img HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 14\r\n\r\n{"prompt":"p"}',
    );
    await client.until('\r\n\r\n');
    held.open();
    await client.ended;
    expect(client.text).toContain('{"images":[]}');
    expect(client.text.match(/HTTP\/1\.1/g)?.length).toBe(1);
  });
});

describe('encoded answers', () => {
  test('bytes behind the end of a gzip pass with it', async () => {
    const encoded = Buffer.concat([gzipSync(answer), Buffer.alloc(7)]);
    backend.script = async (res) => {
      res.writeHead(200, { 'Content-Encoding': 'gzip', 'Content-Length': encoded.length });
      res.write(encoded.subarray(0, -3));
      await held.opened;
      res.end(encoded.subarray(-3));
    };
    await start({ headAfter: false });
    const request = txt2img();
    await once(await request.incoming, 'data');
    held.open();
    expect((await request.answer).body.equals(encoded)).toBe(true);
    expect((await gateway.ended((await lastJob())?.id)).status).toBe('Completed');
  });

  test('one that cannot be read passes whole to a client that wants no images', async () => {
    held.open();
    backend.script = (res) => void res.writeHead(200, { 'Content-Encoding': 'sdch' }).end('whatever');
    await start();
    const { headers, body } = await txt2img({}, { send_images: false }).answer;
    expect(headers['content-encoding']).toBe('sdch');
    expect(body.toString()).toBe('whatever');
  });
});

describe('a request that is not tracked', () => {
  test('is as if the tracker were not there', async () => {
    let res: Response | undefined;
    let req: Request | undefined;
    const handled = gate();
    const aborted = gate();
    const store = new LowdbJobStore({ folder: dir, logger: collectingLogger([]) });
    store.insert = () => Promise.reject(new Error('no'));
    await start({
      store,
      behind: (app) =>
        app.use((request: Request, response: Response) => {
          req = request;
          res = response;
          response.once('close', aborted.open);
          handled.open();
        }),
    });
    const request = txt2img({ headers: { 'Accept-Encoding': 'gzip' } });
    await handled.opened;
    expect(req?.headers['accept-encoding']).toBe('gzip');
    expect(
      Object.getOwnPropertyNames(res).filter((name) =>
        /^(write|writeHead|end|destroy|headersSent|setHeader|on)$/.test(name),
      ),
    ).toEqual([]);
    expect(Object.hasOwn(req as Request, 'destroy')).toBe(false);
    request.request.destroy();
    await aborted.opened;
    expect(res?.destroyed).toBe(true);
    expect(req?.destroyed).toBe(true);
  });
});

describe('wrap mode', () => {
  test('pipelined behind a client that left: a backend that dies ends every job', async () => {
    await start({ behind: (app) => app.use(createProxyMiddleware({ target: backend.url })) });
    backend.script = async (res) => {
      await held.opened;
      res.socket?.resetAndDestroy();
    };
    const socket = connect(gateway.port, '127.0.0.1');
    const one = 'POST /sdapi/v1/txt2img HTTP/1.1\r\nHost: x\r\nContent-Length: 14\r\n\r\n{"prompt":"p"}';
    socket.on('error', () => {});
    socket.write(one.repeat(3));
    await backend.received(3);
    socket.resetAndDestroy();
    await clientsGone();
    held.open();
    for (const { id } of (await gateway.tracker.jobs.list()).jobs) {
      expect((await gateway.ended(id)).status).toBe('Failed');
    }
  });
});
