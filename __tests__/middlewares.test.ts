import { once } from 'node:events';
import { Agent, request as httpRequest } from 'node:http';
import { connect } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { brotliCompressSync, deflateSync, gunzipSync, gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import compression from 'compression';
import express, { type Express, type NextFunction, type Request, type Response } from 'express';
import { createProxyMiddleware } from 'http-proxy-middleware';
import { call, post } from './helpers/client.js';
import { type Gateway, type GatewayOptions, startGateway } from './helpers/gateway.js';
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
const image = bigPng(5000);
const answer = answerWith([image]);

let backend: ScriptedBackend;
let gateway: Gateway;
let held: ReturnType<typeof gate>;

const isExpress4 = 'lazyrouter' in express.application;
type HandlerRow = [string, (req: Request, res: Response, next: NextFunction) => unknown, number];
/** Express 4 does not look at what a handler returns. */
const rejection: HandlerRow = ['a rejection', async () => Promise.reject(new Error('broken')), 500];

const proxied = (app: Express) => app.use(createProxyMiddleware({ target: backend.url }));

async function start(options: GatewayOptions = {}): Promise<void> {
  gateway = await startGateway({ dir: await newFolder(), behind: proxied, ...options });
}

const txt2img = (headers = {}, body: unknown = { prompt: 'p' }) =>
  post(`${gateway.url}/sdapi/v1/txt2img`, body, { headers });

async function jobOf(headers: { readonly [name: string]: unknown }) {
  return await gateway.ended(headers['x-job-id'] as string);
}

beforeEach(async () => {
  held = gate();
  held.open();
  backend = await startScriptedBackend(async (res) => {
    await held.opened;
    sendAnswer(res, answer);
  });
});

afterEach(async () => {
  held.open();
  await gateway.close();
  await backend.close();
});

describe.each(['in front', 'behind'])('compression() %s', (where) => {
  const mount = (app: Express) => void app.use(compression({ threshold: 0 }));
  const options: GatewayOptions = {
    ...(where === 'in front' && { front: mount }),
    behind: (app) => {
      if (where === 'behind') mount(app);
      proxied(app);
    },
  };

  test('a quick answer reaches a client that accepts gzip', async () => {
    await start(options);
    const { headers, body } = await txt2img({ 'Accept-Encoding': 'gzip' }).answer;
    expect(headers['content-encoding']).toBe(where === 'in front' ? 'gzip' : undefined);
    expect((headers['content-encoding'] ? gunzipSync(body) : body).equals(answer)).toBe(true);
    expect(await jobOf(headers)).toMatchObject({ status: 'Completed' });
    expect(backend.headers[0]?.['accept-encoding']).toBe('identity');
  });

  test('so does one after an early head and whitespace', async () => {
    held = gate();
    await start({ ...options, keepAlive: '20ms' });
    const request = txt2img({ 'Accept-Encoding': 'gzip' });
    await once(await request.incoming, 'data');
    held.open();
    const { headers, body } = await request.answer;
    expect(headers['content-encoding']).toBeUndefined();
    expect(body.toString().trimStart()).toBe(answer.toString());
    expect(await jobOf(headers)).toMatchObject({ status: 'Completed' });
  });

  test('what is not tracked is compressed as ever', async () => {
    await start(options);
    const { headers, body } = await call(`${gateway.url}/other`, { headers: { 'Accept-Encoding': 'gzip' } })
      .answer;
    expect(headers['content-encoding']).toBe('gzip');
    expect(gunzipSync(body).equals(answer)).toBe(true);
  });
});

describe('a backend that encodes its answer although it was asked not to', () => {
  const encodings = { gzip: gzipSync, br: brotliCompressSync, deflate: deflateSync };

  test.each(Object.keys(encodings) as (keyof typeof encodings)[])(
    '%s, at once: passes as it came',
    async (encoding) => {
      const encoded = encodings[encoding](answer);
      backend.script = (res) => {
        res.writeHead(200, { 'Content-Encoding': encoding, 'Content-Length': encoded.length }).end(encoded);
      };
      await start();
      const { headers, body } = await txt2img().answer;
      expect(headers['content-encoding']).toBe(encoding);
      expect(body.equals(encoded)).toBe(true);
      expect(await jobOf(headers)).toMatchObject({ status: 'Completed' });
    },
  );

  test('gzip, after an early head: the client gets it decoded', async () => {
    held = gate();
    backend.script = async (res) => {
      await held.opened;
      res.writeHead(200, { 'Content-Encoding': 'gzip' }).end(gzipSync(answer));
    };
    await start();
    const request = txt2img();
    await request.head;
    held.open();
    const { headers, body } = await request.answer;
    expect(body.equals(answer)).toBe(true);
    expect(await jobOf(headers)).toMatchObject({ status: 'Completed' });
  });

  test('gzip that breaks off is no success', async () => {
    held = gate();
    backend.script = async (res) => {
      await held.opened;
      res.writeHead(200, { 'Content-Encoding': 'gzip' }).end(gzipSync(answer).subarray(0, -100));
    };
    await start();
    const request = txt2img();
    const { headers } = await request.head;
    held.open();
    await expect(request.answer).rejects.toThrow();
    expect(await jobOf(headers)).toMatchObject({ status: 'Failed', error: { code: 'backend' } });
  });

  test('an unknown encoding passes, and the job says why nothing was kept', async () => {
    backend.script = (res) => {
      res.writeHead(200, { 'Content-Encoding': 'sdch' }).end('whatever');
    };
    await start();
    const { headers, body } = await txt2img().answer;
    expect(body.toString()).toBe('whatever');
    expect(await jobOf(headers)).toMatchObject({ status: 'Failed', error: { code: 'not_stored' } });
  });
});

describe('the request', () => {
  const large = `{"prompt":"p","init_images":["${'A'.repeat(5_000_000)}"],"seed":18446744073709551615,"cfg_scale":7.0}`;

  test.each([
    ['with a length', false],
    ['in chunks', true],
  ])('a body of 5 MB %s arrives byte for byte, and its small fields are on record', async (_how, chunked) => {
    await start();
    const request = call(`${gateway.url}/sdapi/v1/img2img`, {
      open: true,
      headers: { 'Content-Type': 'application/json', ...(!chunked && { 'Content-Length': large.length }) },
    });
    for (let at = 0; at < large.length; at += 700_000) request.request.write(large.slice(at, at + 700_000));
    request.request.end();
    const { headers } = await request.answer;
    expect(backend.bodies[0]?.equals(Buffer.from(large))).toBe(true);
    const job = await jobOf(headers);
    expect(job.request).toEqual({ seed: '18446744073709551615', cfg_scale: 7 });
    expect(job.path).toBe('/sdapi/v1/img2img');
  });

  test('a middleware in front that takes its time loses nothing', async () => {
    await start({
      front: (app) =>
        app.use((_req: Request, _res: Response, next: NextFunction) => void setTimeout(next, 50)),
    });
    for (const body of ['{"prompt":"short","send_images":false}', large]) {
      const { status } = await txt2img({}, body).answer;
      expect(status).toBe(200);
    }
    expect(backend.bodies[0]?.toString()).toBe('{"prompt":"short","send_images":true}');
    expect(backend.bodies[1]?.equals(Buffer.from(large))).toBe(true);
  });

  test('forward mode adds a task id to the text and changes nothing else', async () => {
    await start({ a1111: backend.url });
    const text = '{ "prompt" : "p",\n"seed":18446744073709551615,"cfg_scale":7.0 }';
    const { headers } = await txt2img({}, text).answer;
    const id = headers['x-job-id'];
    expect(backend.bodies[0]?.toString()).toBe(
      `{ "prompt" : "p",\n"seed":18446744073709551615,"cfg_scale":7.0,"force_task_id":"${id}" }`,
    );
    await txt2img({}, '{"force_task_id":"mine"}').answer;
    expect(backend.bodies[1]?.toString()).toBe('{"force_task_id":"mine"}');
    for (const odd of ['[]', '{}', '', 'no json', '{"prompt":']) await txt2img({}, odd).answer;
    expect(backend.bodies.slice(2).map(String)).toEqual(['[]', '{}', '', 'no json', '{"prompt":']);
  });

  test('forward mode forwards what express.json() in front has parsed', async () => {
    await start({ a1111: backend.url, front: (app) => app.use(express.json()) });
    const { headers } = await txt2img({}, { prompt: 'p', send_images: false }).answer;
    expect(JSON.parse(String(backend.bodies[0]))).toEqual({
      prompt: 'p',
      send_images: true,
      force_task_id: headers['x-job-id'],
    });
  });

  test.each([
    ['express.raw()', express.raw({ type: '*/*' })],
    ['express.text()', express.text({ type: '*/*' })],
  ])('forward mode forwards what %s in front has read', async (_name, parser) => {
    await start({ a1111: backend.url, front: (app) => app.use(parser) });
    const { headers } = await txt2img({}, '{"seed":18446744073709551615,"send_images":false}').answer;
    const id = headers['x-job-id'];
    expect(String(backend.bodies[0])).toBe(
      `{"seed":18446744073709551615,"send_images":true,"force_task_id":"${id}"}`,
    );
  });
});

describe('handlers that do not proxy', () => {
  test.each<HandlerRow>([
    ['res.json', (_req, res) => res.cookie('a', 'b').json({ images: [image.toString('base64')] }), 200],
    ['sendStatus', (_req, res) => res.sendStatus(418), 418],
    ['redirect', (_req, res) => res.redirect('/elsewhere'), 302],
    ['next(error)', (_req, _res, next) => next(new Error('broken')), 500],
    [
      'a throw',
      () => {
        throw new Error('broken');
      },
      500,
    ],
    ...(isExpress4 ? [] : [rejection]),
    ['next() to nobody', (_req, _res, next) => next(), 404],
  ])('%s', async (_name, handler, status) => {
    await start({ behind: (app) => app.set('env', 'test').use(handler) });
    const answered = await txt2img().answer;
    expect(answered.status).toBe(status);
    expect(answered.headers['x-job-id']).toMatch(/^\w{8}$/);
    expect((await jobOf(answered.headers)).status).toBe(status === 200 ? 'Completed' : 'Failed');
  });

  test('a second head throws where Node throws', async () => {
    let thrown: unknown;
    await start({
      behind: (app) =>
        app.use((_req: Request, res: Response) => {
          res.writeHead(200, { 'X-One': '1' });
          try {
            res.writeHead(201);
          } catch (error) {
            thrown = error;
          }
          res.end('{}');
        }),
    });
    expect((await txt2img().answer).headers['x-one']).toBe('1');
    expect(thrown).toMatchObject({ code: 'ERR_HTTP_HEADERS_SENT' });
  });

  test('after an early head, headers can be set as before it, and the second head throws', async () => {
    let seen: unknown[] = [];
    await start({
      behind: (app) =>
        app.use(async (_req: Request, res: Response) => {
          await held.opened;
          seen = [
            res.headersSent,
            res.setHeader('X-Late', '1').getHeader('x-late'),
            res.hasHeader('X-Job-ID'),
          ];
          res.status(200).json({ images: [] });
          seen.push(res.headersSent, res.writableEnded);
          try {
            res.setHeader('X-Later', '1');
          } catch (error) {
            seen.push((error as NodeJS.ErrnoException).code);
          }
        }),
    });
    held = gate();
    const request = txt2img();
    await request.head;
    held.open();
    expect((await request.answer).body.toString()).toBe('{"images":[]}');
    expect(seen).toEqual([false, '1', true, true, true, 'ERR_HTTP_HEADERS_SENT']);
  });

  test('a handler that destroys the response breaks the connection', async () => {
    await start({ behind: (app) => app.use((_req: Request, res: Response) => void res.destroy()) });
    await expect(txt2img().answer).rejects.toThrow();
    expect((await gateway.tracker.jobs.list()).jobs[0]).toMatchObject({
      status: 'Failed',
      error: { code: 'backend' },
    });
  });
});

describe('connections', () => {
  test('one connection serves many jobs, and its listeners do not pile up', async () => {
    await start({ headAfter: '20ms' });
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    const counts = new Set<number>();
    const ids = new Set<string>();
    gateway.server.on('request', (req) => counts.add(req.socket.listenerCount('close')));
    for (let i = 0; i < 20; i += 1) {
      const request = httpRequest(`${gateway.url}/sdapi/v1/txt2img`, { method: 'POST', agent });
      if (i % 3 === 0) held = gate();
      request.end('{"prompt":"p"}');
      const [message] = i % 3 === 0 ? await opened(request) : await once(request, 'response');
      expect((await buffer(message)).equals(answer)).toBe(true);
      ids.add(message.headers['x-job-id']);
    }
    agent.destroy();
    expect(ids.size).toBe(20);
    expect(Math.max(...counts)).toBeLessThanOrEqual(Math.min(...counts) + 1);

    async function opened(request: ReturnType<typeof httpRequest>) {
      const response = await once(request, 'response');
      held.open();
      return response;
    }
  });

  test('pipelined requests get their answers in order; when the client leaves, all of them go on', async () => {
    await start({ a1111: backend.url });
    held = gate();
    const socket = connect(gateway.port, '127.0.0.1');
    const body = '{"prompt":"p"}';
    const one = `POST /sdapi/v1/txt2img HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
    socket.write(one.repeat(3));
    await once(socket, 'data');
    while ((await gateway.tracker.jobs.list()).total < 3)
      await new Promise((resolve) => setImmediate(resolve));
    socket.resetAndDestroy();
    held.open();
    const { jobs } = await gateway.tracker.jobs.list();
    for (const { id } of jobs) expect(await gateway.ended(id)).toMatchObject({ status: 'Completed' });
    expect(backend.bodies.length).toBe(3);
  });
});
