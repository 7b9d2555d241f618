import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { type AnswerHead, DetachedResponse } from '../../lib/http/detached-response.js';
import { Forwarder } from '../../lib/http/forward.js';
import { replayedRequest } from '../../lib/http/replayed-request.js';
import { RequestBody } from '../../lib/http/request-body.js';
import { KeptRequests } from '../../lib/stores/kept-requests.js';
import type { RequestHead } from '../../lib/stores/request-head.js';
import { type ScriptedBackend, startScriptedBackend } from '../helpers/scripted-backend.js';
import { tempFolders } from '../helpers/temp-folder.js';

const newFolder = tempFolders();
const logger = console;
const small = Buffer.from('{"prompt":"a cat"}');
const large = randomBytes(5_000_000);
const head: RequestHead = {
  method: 'POST',
  url: '/sdapi/v1/txt2img?a=1&b=%20',
  headers: {
    'content-type': 'application/json',
    'user-agent': 'tester',
    host: 'gateway:1',
    'transfer-encoding': 'chunked',
  },
  ip: '192.0.2.7',
};

let backend: ScriptedBackend;
let lines: string[];
let folder: string;

beforeEach(async () => {
  lines = [];
  folder = await newFolder();
  backend = await startScriptedBackend((res, _body, req) => {
    lines.push(`${req.method} ${req.url}`);
    res.writeHead(201, { 'Content-Type': 'application/json' });
    res.write('{"images":[');
    res.end(Buffer.alloc(3_000_000, '1').toString().concat(']}'));
  });
});

afterEach(async () => {
  await backend.close();
});

interface Heard {
  readonly head: AnswerHead | undefined;
  readonly body: Buffer;
  readonly over: string;
  readonly seen: readonly string[];
}

/** What becomes of a request that is given to the backend as the tracker would. */
async function answerTo(req: IncomingMessage, res: ServerResponse, body: RequestBody): Promise<Heard> {
  const seen: string[] = [];
  for (const event of ['finish', 'close']) res.on(event, () => seen.push(event));
  const closed = once(res, 'close');
  const chunks: Buffer[] = [];
  let over = '';
  const detached = new DetachedResponse(req, res, {
    head: () => {},
    data: (chunk) => chunks.push(chunk) > 0,
    end: () => {
      over = 'end';
      detached.finish();
    },
    cut: (reason) => {
      over = `cut: ${reason.message}`;
      detached.abandon();
    },
  });
  expect(detached.lost).toBe(true);
  detached.onLost(() => seen.push('lost'));
  detached.takeOver();
  body.handOn();
  new Forwarder({ target: new URL(backend.url), backend: { title: 'Testback', hint: '' } }).handle(req, res);
  await closed;
  return { head: detached.head, body: Buffer.concat(chunks), over, seen };
}

async function replay(bytes: Buffer) {
  const kept = new KeptRequests({ folder, logger });
  await kept.keep(
    'abcDEF12',
    head,
    (async function* () {
      yield bytes;
    })(),
  );
  const request = await kept.open('abcDEF12');
  if (!request) throw new Error('Expected a kept request');
  const { req, res } = replayedRequest({ head, bodyBytes: request.bodyBytes, body: request.chunks() });
  const body = new RequestBody(req, {
    directory: join(folder, 'spool'),
    memoryBytes: 100_000,
    onChunk: () => {},
  });
  return { req, res, body, request };
}

describe.each([
  ['18 bytes', small],
  ['5 MB', large],
])('a request of %s', (_name, bytes) => {
  test('reaches the backend as it was, and its answer is heard to the end', async () => {
    const { req, res, body, request } = await replay(bytes);
    expect(await body.received).toBe(true);
    await request.close();
    expect(req).toMatchObject({ complete: true, httpVersion: '1.1', method: 'POST', url: head.url });
    const heard = await answerTo(req, res, body);
    expect(lines).toEqual([`POST ${head.url}`]);
    expect(backend.bodies[0]?.equals(bytes)).toBe(true);
    expect(backend.headers[0]).toMatchObject({
      'content-type': 'application/json',
      'content-length': String(bytes.length),
      'user-agent': 'tester',
      host: 'gateway:1',
      'x-forwarded-for': '192.0.2.7',
    });
    expect(backend.headers[0]).not.toHaveProperty('transfer-encoding');
    expect(heard.head?.status).toBe(201);
    expect(heard.body.length).toBe(3_000_013);
    expect(heard.over).toBe('end');
    expect(heard.seen).toEqual(['lost', 'finish', 'close']);
    expect([res.destroyed, req.destroyed, req.aborted]).toEqual([true, true, false]);
  });

  test('the backend dies in the middle of its answer', async () => {
    backend.script = async (res) => {
      res.writeHead(200, { 'Content-Length': 1000 });
      res.write('x'.repeat(500), () => res.socket?.resetAndDestroy());
    };
    const { req, res, body, request } = await replay(bytes);
    await body.received;
    await request.close();
    const heard = await answerTo(req, res, body);
    expect(heard.over).toMatch(/^cut: /);
    expect(heard.body.length).toBe(500);
    expect(heard.seen).toEqual(['lost', 'close']);
  });

  test('the backend is down', async () => {
    await backend.close();
    const { req, res, body, request } = await replay(bytes);
    await body.received;
    await request.close();
    const heard = await answerTo(req, res, body);
    expect(heard.head?.status).toBe(502);
    expect(String(heard.body)).toContain('Testback');
    expect(heard.over).toBe('end');
  });
});

describe('as a plain request', () => {
  const chunksOf = (count: number, note: () => void = () => {}) =>
    (async function* () {
      try {
        for (let i = 0; i < count; i += 1) yield Buffer.alloc(100_000, i);
      } finally {
        note();
      }
    })();

  test('it is read as any other, at the pace of whoever reads', async () => {
    let given = 0;
    const body = (async function* () {
      for (let i = 0; i < 50; i += 1) {
        given += 1;
        yield Buffer.alloc(100_000, i);
      }
    })();
    const { req } = replayedRequest({ head: { ...head, ip: '' }, bodyBytes: 5_000_000, body });
    await once(req, 'readable');
    for (let i = 0; i < 20; i += 1) await new Promise((resolve) => setImmediate(resolve));
    expect(given).toBeLessThan(4);
    expect(req.socket.remoteAddress).toBeUndefined();
    expect(await buffer(req)).toHaveLength(5_000_000);
    expect(given).toBe(50);
  });

  test('its headers are there in both forms', () => {
    const { req } = replayedRequest({ head, bodyBytes: 3, body: chunksOf(0) });
    expect(req.headers).toEqual({
      'content-type': 'application/json',
      'user-agent': 'tester',
      host: 'gateway:1',
      'content-length': '3',
    });
    expect(req.rawHeaders.join('|')).toContain('host|gateway:1');
    expect(req.rawHeaders.join('|')).toContain('content-length|3');
  });

  test('whoever gives it up gets the body closed', async () => {
    let close = () => {};
    const closed = new Promise<void>((resolve) => {
      close = resolve;
    });
    const { req } = replayedRequest({ head, bodyBytes: 5_000_000, body: chunksOf(50, close) });
    await once(req, 'readable');
    req.destroy();
    await closed;
  });

  test('a body that cannot be read to its end never looks whole', async () => {
    const broken = async function* () {
      yield small;
      throw new Error('EIO');
    };
    const directory = join(folder, 'spool');
    const first = replayedRequest({ head, bodyBytes: 100, body: broken() });
    const body = new RequestBody(first.req, { directory, onChunk: () => {} });
    expect(await body.received).toBe(false);
    expect(first.req.complete).toBe(false);
    const second = replayedRequest({ head, bodyBytes: 100, body: broken() });
    await expect(buffer(second.req)).rejects.toThrow('EIO');
  });

  test('its response takes what Node itself would send, and ends', async () => {
    const { req, res } = replayedRequest({ head, bodyBytes: 0, body: chunksOf(0) });
    const events: string[] = [];
    for (const event of ['finish', 'close']) res.on(event, () => events.push(event));
    res.setHeader('X-A', 'b');
    expect(res.write(Buffer.alloc(5_000_000))).toBe(true);
    res.end('x');
    await once(res, 'close');
    expect(events).toEqual(['finish', 'close']);
    expect(res.destroyed).toBe(true);
    await buffer(req);
    expect(req.complete).toBe(true);
  });
});
