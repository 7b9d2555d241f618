import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer, request as tlsRequest } from 'node:https';
import { createRequire } from 'node:module';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import compression from 'compression';
import cors from 'cors';
import express, { type RequestHandler } from 'express';
import { type AnswerHead, type AnswerListener, DetachedResponse } from '../../lib/http/detached-response.js';
import { Forwarder } from '../../lib/http/forward.js';
import { RequestBody } from '../../lib/http/request-body.js';
import { call, post } from '../helpers/client.js';
import { type HandlerCase, handlerCases } from '../helpers/handlers.js';
import { type RawClient, rawClient } from '../helpers/raw-http.js';
import { startScriptedBackend } from '../helpers/scripted-backend.js';
import { tempFolders } from '../helpers/temp-folder.js';

const newFolder = tempFolders();

/** Passes everything on, and notes it. */
class Recorder implements AnswerListener {
  detached: DetachedResponse | undefined;
  heads: AnswerHead[] = [];
  events: string[] = [];
  #resolve: () => void = () => {};
  readonly over = new Promise<void>((resolve) => {
    this.#resolve = resolve;
  });

  head(head: AnswerHead): void {
    this.heads.push(head);
    this.events.push(`head ${head.status}`);
  }
  data(chunk: Buffer): boolean {
    this.events.push(`data ${chunk}`);
    return this.detached?.write(chunk) || this.detached?.lost || false;
  }
  end(): void {
    this.events.push('end');
    this.detached?.finish();
    this.#resolve();
  }
  cut(reason: Error): void {
    this.events.push(`cut: ${reason.message}`);
    this.detached?.abandon();
    this.#resolve();
  }
}

let server: Server;
let port: number;
let recorder: Recorder;
let handle: (req: IncomingMessage, res: ServerResponse) => void;
let takesOver: boolean;

beforeEach(async () => {
  recorder = new Recorder();
  takesOver = true;
  server = createServer((req, res) => {
    const detached = new DetachedResponse(req, res, recorder);
    recorder.detached = detached;
    if (takesOver) detached.takeOver();
    handle(req, res);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  port = (server.address() as AddressInfo).port;
});

afterEach(async () => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});

const get = () => call(`http://127.0.0.1:${port}/`).answer;

describe('writeHead', () => {
  test.each<[string, unknown]>([
    ['a flat list', ['Set-Cookie', 'a=1', 'X-One', '1', 'Set-Cookie', 'b=2']],
    ['a flat list with a list in it', ['Set-Cookie', ['a=1', 'b=2'], 'X-One', '1']],
    [
      'pairs',
      [
        ['Set-Cookie', 'a=1'],
        ['X-One', '1'],
        ['Set-Cookie', 'b=2'],
      ],
    ],
    ['an object', { 'Set-Cookie': ['a=1', 'b=2'], 'X-One': 1 }],
  ])('%s', async (_name, headers) => {
    handle = (_req, res) => res.writeHead(200, headers as never).end('x');
    const answer = await get();
    expect(answer.headers['set-cookie']).toEqual(['a=1', 'b=2']);
    expect(answer.headers['x-one']).toBe('1');
    expect(recorder.heads[0]?.headers['set-cookie']).toEqual(['a=1', 'b=2']);
  });

  test('a status that is text, as Node takes it', async () => {
    handle = (_req, res) => res.writeHead('201' as never).end('x');
    expect((await get()).status).toBe(201);
    expect(recorder.events).toEqual(['head 201', 'data x', 'end']);
  });

  test.each([
    ['no status', undefined],
    ['too small', 99],
    ['too large', 1000],
  ])('complains as Node does: %s', async (_name, status) => {
    let thrown: unknown;
    handle = (_req, res) => {
      try {
        res.writeHead(status as never);
      } catch (error) {
        thrown = error;
      }
      res.end('x');
    };
    expect((await get()).status).toBe(200);
    expect(thrown).toMatchObject({ code: 'ERR_HTTP_INVALID_STATUS_CODE' });
  });
});

describe('write and end', () => {
  test('every form of their arguments, and corked', async () => {
    const called: string[] = [];
    handle = (_req, res) => {
      res.cork();
      res.write('61', 'hex', () => called.push('write'));
      res.write(new Uint8Array([98]));
      res.uncork();
      res.write('c', () => called.push('callback'));
      res.end('64', 'hex', () => called.push('end'));
    };
    expect((await get()).body.toString()).toBe('abcd');
    expect(called).toEqual(expect.arrayContaining(['write', 'callback', 'end']));
  });

  test('twice ended, and written after the end: the answer stands', async () => {
    const errors: unknown[] = [];
    const note = (error?: Error | null) => void errors.push((error as NodeJS.ErrnoException)?.code);
    handle = (_req, res) => {
      res.end('x');
      res.write('y', note);
      res.end('z', note as () => void);
    };
    expect((await get()).body.toString()).toBe('x');
    expect(errors).toEqual(['ERR_STREAM_WRITE_AFTER_END', 'ERR_STREAM_ALREADY_FINISHED']);
  });

  test('trailers follow', async () => {
    handle = (_req, res) => {
      res.writeHead(200, { Trailer: 'X-Sum' });
      res.write('x');
      res.addTrailers({ 'X-Sum': '1' });
      res.end();
    };
    const client = rawClient(port, 'GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
    await client.ended;
    expect(client.text).toMatch(/\r\n0\r\nX-Sum: 1\r\n\r\n$/);
  });
});

describe('the client leaves', () => {
  test('the handler writes, waits for drain and finish, and ends as if it were there', async () => {
    const seen: unknown[] = [];
    const client = rawClient(port, 'GET / HTTP/1.1\r\nHost: x\r\n\r\n');
    handle = (req, res) => {
      const socket = req.socket;
      socket.once('close', () => {
        seen.push(res.destroyed, res.closed, res.writable, res.headersSent, req.socket.destroyed);
        res.once('finish', () => seen.push('finish'));
        res.once('close', () => seen.push('close'));
        res.write('x');
        res.end('y');
      });
      client.socket.destroy();
    };
    await recorder.over;
    await new Promise((resolve) => setImmediate(resolve));
    expect(recorder.events).toEqual(['head 200', 'data x', 'data y', 'end']);
    expect(seen).toEqual([false, false, true, false, false, 'finish', 'close']);
  });

  test('an ECONNRESET of the handler’s own afterwards is its own', async () => {
    const client = rawClient(port, 'GET / HTTP/1.1\r\nHost: x\r\n\r\n');
    handle = (req, res) => {
      req.socket.once('close', () =>
        setImmediate(() => res.destroy(Object.assign(new Error('backend'), { code: 'ECONNRESET' }))),
      );
      client.socket.resetAndDestroy();
    };
    await recorder.over;
    expect(recorder.events).toEqual(['cut: backend']);
  });

  test('the responses that wait behind it in the pipeline go on too', async () => {
    const responses: ServerResponse[] = [];
    const recorders: Recorder[] = [];
    server.removeAllListeners('request');
    const three = new Promise<void>((resolve) => {
      server.on('request', (req, res) => {
        const own = new Recorder();
        own.detached = new DetachedResponse(req, res, own);
        own.detached.takeOver();
        recorders.push(own);
        if (responses.push(res) === 3) resolve();
      });
    });
    const client = rawClient(port, 'GET / HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(3));
    await three;
    const gone = new Promise((resolve) => responses[0]?.req.socket.once('close', resolve));
    client.socket.resetAndDestroy();
    await gone;
    await new Promise((resolve) => setImmediate(resolve));
    const finished = responses.map((res) => once(res, 'close'));
    for (const res of responses) res.end('x');
    await Promise.all(finished);
    for (const { events } of recorders) expect(events).toEqual(['head 200', 'data x', 'end']);
  });
});

describe('before it is taken over', () => {
  test('an answer goes straight to the client', async () => {
    takesOver = false;
    handle = (_req, res) => {
      expect(recorder.detached?.answered).toBe(false);
      res.end('x');
      expect(recorder.detached?.answered).toBe(true);
    };
    expect((await get()).body.toString()).toBe('x');
    expect(recorder.events).toEqual([]);
  });

  test('a released response is as it was', async () => {
    takesOver = false;
    let left: string[] = [];
    handle = (_req, res) => {
      recorder.detached?.release();
      left = Object.keys(res).filter((name) => name in Object.getPrototypeOf(res));
      res.end('x');
    };
    await get();
    expect(
      left.filter((name) => ['write', 'end', 'destroy', 'writeHead', 'on', 'setHeader'].includes(name)),
    ).toEqual([]);
  });
});

test('after it was abandoned nothing more is heard of the handler', async () => {
  let written = () => {};
  const done = new Promise<void>((resolve) => {
    written = resolve;
  });
  handle = (_req, res) => {
    res.once('close', () => {
      res.writeHead(200);
      res.write('x');
      res.flushHeaders();
      res.end('y');
      written();
    });
    recorder.detached?.abandon();
  };
  await expect(get()).rejects.toThrow();
  await done;
  expect(recorder.events).toEqual([]);
});

describe('a head and an answer of our own', () => {
  test('take the place of the handler', async () => {
    handle = (_req, res) => {
      const detached = recorder.detached as DetachedResponse;
      res.setHeader('X-Front', 'yes');
      detached.setHeader('Content-Length', '3');
      detached.sendHead(203);
      detached.sendHead(500);
      detached.write('abc');
      detached.finish();
    };
    const answer = await get();
    expect(answer).toMatchObject({ status: 203, headers: { 'x-front': 'yes', 'content-length': '3' } });
    expect(answer.body.toString()).toBe('abc');
    expect(recorder.events).toEqual([]);
  });

  test('come too late behind an early head, and for a client that is gone', async () => {
    handle = () => {
      recorder.detached?.sendEarlyHead();
      recorder.detached?.sendHead(500);
      recorder.detached?.write('x');
      recorder.detached?.finish();
    };
    expect((await get()).status).toBe(200);
    const client = rawClient(port, 'GET / HTTP/1.1\r\nHost: x\r\n\r\n');
    const over = new Promise<void>((resolve) => {
      handle = (req, res) => {
        req.socket.once('close', () => {
          recorder.detached?.sendHead(203);
          expect(recorder.detached?.answered).toBe(false);
          res.once('close', resolve);
          recorder.detached?.finish();
        });
        client.socket.destroy();
      };
    });
    await over;
  });
});

describe('a client that is dismissed', () => {
  const accepted = Buffer.from('{"id":"ä"}');
  const dismiss = (headers = {}) =>
    recorder.detached?.dismiss(202, { Location: '/sdapi/v1/job/1', ...headers }, accepted);
  const requestText = 'GET / HTTP/1.1\r\nHost: x\r\n\r\n';

  test.each([
    ['before it is taken over', false, 'HTTP/1.1'],
    ['after it was taken over', true, 'HTTP/1.1'],
    ['that speaks HTTP/1.0', true, 'HTTP/1.0'],
  ])('%s gets a whole answer and the end of its connection', async (_name, already, version) => {
    takesOver = already;
    const seen: unknown[] = [];
    const client = rawClient(port, `GET / ${version}\r\nHost: x\r\nConnection: keep-alive\r\n\r\n`);
    const over = new Promise<void>((resolve) => {
      handle = async (req, res) => {
        const { socket } = req;
        for (const event of ['close', 'finish', 'drain']) res.on(event, () => seen.push(event));
        res.setHeader('X-Front', ['a', 'b']);
        res.setHeader('Content-Type', 'text/html');
        res.setHeader('Content-Length', '77');
        res.setHeader('Content-Encoding', 'gzip');
        const lost = jest.fn();
        recorder.detached?.onLost(lost);
        const gone = once(socket, 'close');
        expect(dismiss({ 'content-type': 'application/json' })).toBe(true);
        expect(recorder.detached?.lost).toBe(true);
        await gone;
        await new Promise((wait) => setImmediate(wait));
        expect(lost).toHaveBeenCalledTimes(1);
        expect(dismiss()).toBe(false);
        expect([res.destroyed, res.closed, res.writable, res.headersSent, res.writableEnded]).toEqual([
          ...[false, false, true, false, false],
        ]);
        expect([req.socket.destroyed, req.socket.remoteAddress]).toEqual([false, '127.0.0.1']);
        expect(seen.filter((event) => event !== 'drain')).toEqual([]);
        if (!already) recorder.detached?.takeOver();
        res.once('close', () => resolve());
        res.removeHeader('Content-Encoding');
        res.removeHeader('Content-Length');
        res.writeHead(201, { Connection: 'keep-alive' });
        res.write('x');
        res.end('y');
      };
    });
    expect(await client.ended).toBe('fin');
    await over;
    const [head, body] = client.text.split('\r\n\r\n');
    const lines = (head as string).split('\r\n');
    expect(lines[0]).toBe('HTTP/1.1 202 Accepted');
    expect(lines.slice(1).sort()).toEqual([
      'Connection: close',
      `Content-Length: ${accepted.length}`,
      expect.stringMatching(/^Date: .* GMT$/),
      'Location: /sdapi/v1/job/1',
      'X-Front: a',
      'X-Front: b',
      'content-type: application/json',
    ]);
    expect(Buffer.from(body as string, 'latin1')).toEqual(accepted);
    expect(recorder.events).toEqual(['head 201', 'data x', 'data y', 'end']);
    expect(seen.filter((event) => event !== 'drain')).toEqual(['finish', 'close']);
  });

  test('while its handler is answering: nothing happens twice when the connection closes', async () => {
    const client = rawClient(port, requestText);
    handle = async (req, res) => {
      const gone = once(req.socket, 'close');
      expect(dismiss()).toBe(true);
      res.write('x');
      await gone;
      res.end('y');
    };
    await recorder.over;
    await client.ended;
    expect(recorder.events).toEqual(['head 200', 'data x', 'data y', 'end']);
  });

  test('over TLS', async () => {
    const folder = await newFolder();
    const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')];
    const made = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-keyout', key, '-out', cert];
    execFileSync('openssl', ['req', '-x509', '-nodes', '-subj', '/CN=x', ...made], { stdio: 'ignore' });
    const tls = createTlsServer({ key: await readFile(key), cert: await readFile(cert) }, (req, res) => {
      recorder.detached = new DetachedResponse(req, res, recorder);
      recorder.detached.takeOver();
      expect(dismiss()).toBe(true);
      req.socket.once('close', () => res.end('x'));
    });
    tls.listen(0, '127.0.0.1');
    await once(tls, 'listening');
    const options = {
      port: (tls.address() as AddressInfo).port,
      host: '127.0.0.1',
      rejectUnauthorized: false,
    };
    const client = tlsRequest({ ...options, agent: false }).end();
    const [answer] = (await once(client, 'response')) as [IncomingMessage];
    expect(answer.statusCode).toBe(202);
    expect(await buffer(answer)).toEqual(accepted);
    await recorder.over;
    expect(recorder.events).toEqual(['head 200', 'data x', 'end']);
    await new Promise((resolve) => tls.close(resolve));
  });

  test('cannot be, once a head has left, an answer has ended or a front has answered', async () => {
    for (const before of [
      () => recorder.detached?.sendEarlyHead(),
      () => recorder.detached?.sendHead(200),
      () => recorder.detached?.finish(),
    ]) {
      handle = (_req, res) => {
        before();
        expect(dismiss()).toBe(false);
        expect(recorder.detached?.lost).toBe(false);
        if (!res.writableFinished) recorder.detached?.finish();
      };
      expect((await get()).status).toBe(200);
    }
    takesOver = false;
    handle = (_req, res) => {
      res.end('front');
      expect(dismiss()).toBe(false);
    };
    expect((await get()).body.toString()).toBe('front');
  });

  test('cannot be, once it is gone', async () => {
    const client = rawClient(port, requestText);
    const [dismissed, atLoss] = await new Promise<unknown[]>((resolve) => {
      handle = (req) => {
        const before: unknown[] = [];
        req.socket.prependListener('close', () => before.push(dismiss()));
        req.socket.once('close', () => resolve([dismiss(), before[0]]));
        client.socket.resetAndDestroy();
      };
    });
    expect([dismissed, atLoss]).toEqual([false, false]);
  });

  test('a header that is none is an error, and nothing has happened', async () => {
    handle = (_req, res) => {
      expect(() => dismiss({ 'X-Bad': 'a\r\nX-Worse: b' })).toThrow();
      expect(recorder.detached?.lost).toBe(false);
      res.end('x');
    };
    expect((await get()).body.toString()).toBe('x');
  });

  describe('in a pipeline', () => {
    let client: RawClient;
    const requests: { req: IncomingMessage; res: ServerResponse; detached: DetachedResponse }[] = [];

    async function pipelined(count: number): Promise<void> {
      requests.length = 0;
      server.removeAllListeners('request');
      const all = new Promise<void>((resolve) => {
        server.on('request', (req, res) => {
          const own = new Recorder();
          const detached = new DetachedResponse(req, res, own);
          own.detached = detached;
          detached.takeOver();
          if (requests.push({ req, res, detached }) === count) resolve();
        });
      });
      client = rawClient(port, requestText.repeat(count));
      await all;
    }

    test('the second one has to wait for its turn', async () => {
      await pipelined(2);
      expect(requests[1]?.detached.dismiss(202, {}, accepted)).toBe(false);
      requests[0]?.res.end('first');
      await client.until('first');
      expect(requests[1]?.detached.dismiss(202, {}, accepted)).toBe(true);
      expect(await client.ended).toBe('fin');
      expect(client.text).toContain('202 Accepted');
    });

    test('those behind the first are lost with its connection, and go on', async () => {
      await pipelined(2);
      expect(requests[0]?.detached.dismiss(202, {}, accepted)).toBe(true);
      await client.ended;
      const closed = once(requests[1]?.res as ServerResponse, 'close');
      requests[1]?.res.end('second');
      await closed;
      expect(client.text).toMatch(/^HTTP\/1.1 202 Accepted/);
      expect(client.text).not.toContain('second');
    });

    test('those behind it never get its connection, which has been ended', async () => {
      const responses: ServerResponse[] = [];
      server.removeAllListeners('request');
      const closed = new Promise<void>((resolve) => {
        server.on('request', (req, res) => {
          if (responses.push(res) === 1) {
            recorder.detached = new DetachedResponse(req, res, recorder);
            recorder.detached.takeOver();
            res.once('close', resolve);
          }
          if (responses.length !== 2) return;
          // The third has come, too, but the server has not seen it yet.
          expect(dismiss()).toBe(true);
          // The handler is done before the connection has ended.
          responses[0]?.writeHead(200, { Connection: 'keep-alive' }).end('first');
        });
      });
      client = rawClient(port, requestText.repeat(3));
      await closed;
      expect(await client.ended).toBe('fin');
      expect(client.text).toMatch(/^HTTP\/1.1 202 Accepted/);
      expect(responses.length).toBe(3);
      expect(responses[1]?.socket).toBeNull();
    });

    test('Node may destroy it while its connection closes, as Node 24 does with those that wait', async () => {
      await pipelined(1);
      const { req, res, detached } = requests[0] as (typeof requests)[number];
      const { socket } = req;
      socket.once('close', () => res.destroy(Object.assign(new Error('aborted'), { code: 'ECONNRESET' })));
      detached.dismiss(202, {}, accepted);
      await once(socket, 'close');
      expect(res.destroyed).toBe(false);
    });
  });

  const require = createRequire(import.meta.url);
  const forwards: HandlerCase = {
    name: 'the forwarder',
    behind: (app, target) => {
      const forwarder = new Forwarder({ target: new URL(target), backend: { title: 'B', hint: '' } });
      app.use((req, res) => forwarder.handle(req, res));
    },
  };
  const answerBytes = Buffer.from(JSON.stringify({ images: ['x'.repeat(3_000_000)] }));

  describe.each([
    ['Express 5', express],
    ['Express 4', require('express4') as typeof express],
  ])('%s, with compression and cors in front', (_name, make) => {
    test.each([forwards, ...handlerCases])('of $name', async ({ behind, front, rewrites }) => {
      const backend = await startScriptedBackend((res) => {
        res.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': answerBytes.length });
        res.end(answerBytes);
      });
      const directory = await newFolder();
      const heard: Buffer[] = [];
      const over = new Promise<string>((resolve) => {
        const dismissing: RequestHandler = async (req, res, next) => {
          const { socket } = req;
          const body = new RequestBody(req, { directory, memoryBytes: 1000, onChunk: () => {} });
          const detached = new DetachedResponse(req, res, {
            head: () => {},
            data: (chunk) => heard.push(chunk) > 0,
            end: () => {
              detached.finish();
              res.once('close', () => resolve('end'));
            },
            cut: (reason) => resolve(reason.message),
          });
          await body.received;
          const gone = once(socket, 'close');
          expect(detached.dismiss(202, { 'X-Job-ID': 'j' }, accepted)).toBe(true);
          detached.takeOver();
          await gone;
          body.handOn();
          detached.askForPlainAnswer();
          next();
        };
        const app = make();
        app.use(compression({ threshold: 0 }), cors());
        front?.(app);
        app.use(dismissing);
        behind(app, backend.url);
        server.removeAllListeners('request');
        server.on('request', app);
      });
      const request = { prompt: 'p'.repeat(100_000) };
      const url = `http://127.0.0.1:${port}/sdapi/v1/txt2img`;
      const answer = await post(url, request, { headers: { 'Accept-Encoding': 'gzip' } }).answer;
      expect(answer.status).toBe(202);
      expect(answer.body).toEqual(accepted);
      expect(answer.headers).toMatchObject({ 'x-job-id': 'j', 'access-control-allow-origin': '*' });
      expect(await over).toBe('end');
      const whole = Buffer.concat(heard);
      if (rewrites) expect(JSON.parse(whole.toString())).toEqual(JSON.parse(answerBytes.toString()));
      else expect(whole.equals(answerBytes)).toBe(true);
      expect(JSON.parse(String(backend.bodies[0]))).toEqual(request);
      await backend.close();
    });
  });
});
