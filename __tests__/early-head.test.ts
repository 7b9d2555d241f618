import { once } from 'node:events';
import { connect } from 'node:net';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import cors from 'cors';
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
const image = bigPng(2000);
const answer = answerWith([image]);

let backend: ScriptedBackend;
let gateway: Gateway;
let held: ReturnType<typeof gate>;

async function start(options: GatewayOptions = {}): Promise<void> {
  gateway = await startGateway({ dir: await newFolder(), a1111: backend.url, ...options });
}
const txt2img = (headers = {}, body: unknown = { prompt: 'p' }) =>
  post(`${gateway.url}/sdapi/v1/txt2img`, body, { headers });

beforeEach(async () => {
  held = gate();
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

describe('headAfter', () => {
  test('0: the head leaves before the request is forwarded at all', async () => {
    await start({ headAfter: 0 });
    const dead = backend.url;
    await backend.close();
    const request = txt2img();
    const head = await request.head;
    expect(head.status).toBe(200);
    expect(dead).toBeDefined();
    await expect(request.answer).rejects.toThrow();
    expect(await gateway.ended(head.headers['x-job-id'] as string)).toMatchObject({
      status: 'Failed',
      error: { code: 'unreachable', status: 502 },
    });
  });

  test('false: the head is the backend’s own, however long it takes', async () => {
    await start({ headAfter: false });
    const request = txt2img();
    await backend.received();
    let headCame = false;
    void request.head.then(() => {
      headCame = true;
    });
    // As long as the usual grace, and some more.
    await new Promise((resolve) => setTimeout(resolve, 250));
    expect(headCame).toBe(false);
    held.open();
    const { headers, body } = await request.answer;
    expect(headers['content-length']).toBe(String(answer.length));
    expect(headers['x-job-id']).toMatch(/^\w{8}$/);
    expect(body.equals(answer)).toBe(true);
  });

  test('a late status of false is the true one', async () => {
    backend.script = async (res) => {
      await held.opened;
      res.writeHead(500, { 'Content-Type': 'application/json' });
      res.end('{"error":"OutOfMemoryError"}');
    };
    await start({ headAfter: false });
    const request = txt2img();
    await backend.received();
    held.open();
    expect((await request.answer).status).toBe(500);
  });
});

describe('the head', () => {
  test('a job that has to wait in the queue gets its head at once', async () => {
    await start({ headAfter: '1h' as never });
    const first = txt2img();
    await backend.received();
    const second = txt2img();
    const { headers } = await second.head;
    const id = headers['x-job-id'] as string;
    expect(await gateway.tracker.jobs.get(id)).toMatchObject({ status: 'Pending' });
    const shown = JSON.parse((await call(`${gateway.url}/sdapi/v1/job/${id}`).answer).body.toString());
    expect(shown.queue_position).toBe(1);
    expect(backend.bodies.length).toBe(1);
    held.open();
    await Promise.all([first.answer, second.answer]);
  });

  test('counts the grace from the body’s last byte', async () => {
    await start({ headAfter: '50ms' });
    const request = call(`${gateway.url}/sdapi/v1/txt2img`, {
      open: true,
      headers: { 'Content-Type': 'application/json', 'Content-Length': 14 },
    });
    request.request.write('{"prompt":');
    await new Promise((resolve) => setTimeout(resolve, 120));
    const early = await Promise.race([
      request.head,
      new Promise((resolve) => setImmediate(resolve, 'nothing')),
    ]);
    expect(early).toBe('nothing');
    request.request.end('"p"}');
    expect((await request.head).status).toBe(200);
    held.open();
    expect((await request.answer).body.toString().trim()).toBe(answer.toString());
  });

  test('is never a 1xx', async () => {
    await start();
    const socket = connect(gateway.port, '127.0.0.1');
    const body = '{"prompt":"p"}';
    socket.write(
      `POST /sdapi/v1/txt2img HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    );
    const [first] = (await once(socket, 'data')) as [Buffer];
    expect(first.toString()).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
    socket.destroy();
  });

  test('HTTP/1.0: the answer ends with the connection, and a late failure ends it by RST', async () => {
    backend.script = async (res, body) => {
      await held.opened;
      if (body.includes('fail')) res.writeHead(500).end('{}');
      else sendAnswer(res, answer);
    };
    await start({ concurrency: 2 });
    const ask = (prompt: string) => {
      const socket = connect(gateway.port, '127.0.0.1');
      const body = JSON.stringify({ prompt });
      socket.write(`POST /sdapi/v1/txt2img HTTP/1.0\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
      const chunks: Buffer[] = [];
      socket.on('data', (chunk) => chunks.push(chunk));
      const outcome = new Promise<string>((resolve) => {
        socket.once('end', () => resolve('FIN'));
        socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? ''));
      });
      return { socket, chunks, outcome };
    };
    const good = ask('good');
    const bad = ask('fail');
    await Promise.all([once(good.socket, 'data'), once(bad.socket, 'data')]);
    held.open();
    expect(await good.outcome).toBe('FIN');
    expect(Buffer.concat(good.chunks).toString()).toContain(answer.toString());
    expect(await bad.outcome).toBe('ECONNRESET');
  });

  test('a cross-origin request without CORS headers waits for the backend’s own', async () => {
    backend.script = async (res) => {
      await held.opened;
      res.setHeader('Access-Control-Allow-Origin', 'http://page.example');
      sendAnswer(res, answer);
    };
    await start({ headAfter: 0 });
    const request = txt2img({ Origin: 'http://page.example' });
    await backend.received();
    held.open();
    const { headers } = await request.answer;
    expect(headers['access-control-allow-origin']).toBe('http://page.example');
    expect(headers['access-control-expose-headers']).toContain('X-Job-ID');
    expect(headers['cache-control']).toBeUndefined();
  });

  test('with cors in front, and from the same origin, it is early', async () => {
    await start({
      front: (app) => app.use(cors({ origin: 'http://page.example', exposedHeaders: 'X-Mine' })),
    });
    const foreign = txt2img({ Origin: 'http://page.example' });
    const { headers } = await foreign.head;
    expect(headers['access-control-allow-origin']).toBe('http://page.example');
    expect(headers['access-control-expose-headers']).toBe(
      'X-Job-ID, Location, Link, Retry-After, X-Total-Count, X-Mine',
    );
    const own = await txt2img({ Origin: gateway.url }).head;
    expect(own.headers['x-job-id']).toMatch(/^\w{8}$/);
    held.open();
  });
});

describe('whitespace', () => {
  test('follows the head until the answer comes, and leaves it valid JSON', async () => {
    await start({ keepAlive: '20ms' });
    const request = txt2img();
    const incoming = await request.incoming;
    for (let blanks = 0; blanks < 3; ) blanks += ((await once(incoming, 'data')) as [Buffer])[0].length;
    held.open();
    const { body } = await request.answer;
    expect(body.toString()).toMatch(/^ {3,}\{"images"/);
    expect(body.toString().trimStart()).toBe(answer.toString());
  });

  test('never comes inside of an answer that stalls', async () => {
    const rest = gate();
    backend.script = async (res) => {
      await held.opened;
      res.writeHead(200, { 'Content-Type': 'application/json' });
      res.write(answer.subarray(0, 100));
      await rest.opened;
      res.end(answer.subarray(100));
    };
    await start({ keepAlive: '10ms' });
    const request = txt2img();
    await request.head;
    held.open();
    while (!Buffer.concat(request.received).includes('images')) await once(await request.incoming, 'data');
    await new Promise((resolve) => setTimeout(resolve, 60));
    rest.open();
    expect((await request.answer).body.toString().trimStart()).toBe(answer.toString());
  });
});

describe('late answers', () => {
  test.each([204, 301, 304, 404, 422, 503])(
    'status %i after an early head is a broken connection',
    async (status) => {
      backend.script = async (res) => {
        await held.opened;
        res.writeHead(status, { Location: '/x' }).end();
      };
      await start();
      const request = txt2img();
      const { headers } = await request.head;
      held.open();
      await expect(request.answer).rejects.toThrow();
      const job = await gateway.ended(headers['x-job-id'] as string);
      expect(job).toMatchObject({ status: 'Failed', error: { status } });
    },
  );

  test('201 passes', async () => {
    backend.script = async (res) => {
      await held.opened;
      res.writeHead(201, { 'Content-Type': 'application/json' }).end(answer);
    };
    await start();
    const request = txt2img();
    await request.head;
    held.open();
    const { status, headers, body } = await request.answer;
    expect(status).toBe(200);
    expect(body.equals(answer)).toBe(true);
    expect(await gateway.tracker.jobs.get(headers['x-job-id'] as string)).toMatchObject({
      status: 'Completed',
    });
  });

  test('an id of the backend’s own is dropped', async () => {
    backend.script = (res) => {
      res.setHeader('X-Job-ID', 'backend1');
      sendAnswer(res, answer);
    };
    await start();
    const { headers, rawHeaders } = await txt2img().answer;
    expect(headers['x-job-id']).not.toBe('backend1');
    expect(rawHeaders.filter((text) => text.toLowerCase() === 'x-job-id').length).toBe(1);
  });

  test('a job that takes longer than jobTimeout is Failed, and its connection is reset', async () => {
    await start({ jobTimeout: '300ms' });
    const request = txt2img();
    const { headers } = await request.head;
    await expect(request.answer).rejects.toThrow();
    expect(await gateway.ended(headers['x-job-id'] as string)).toMatchObject({ error: { code: 'timeout' } });
  });
});
