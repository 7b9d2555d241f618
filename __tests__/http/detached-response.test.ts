import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { type AnswerHead, type AnswerListener, DetachedResponse } from '../../lib/http/detached-response.js';
import { call } from '../helpers/client.js';
import { rawClient } from '../helpers/raw-http.js';

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
