import type { IncomingMessage } from 'node:http';
import { Socket } from 'node:net';
import { afterEach, describe, expect, jest, test } from '@jest/globals';
import { JobTrackerError } from '../../lib/errors.js';
import { type BackendCall, basicAuthorization, callBackend } from '../../lib/http/backend-call.js';
import { type RawServer, startRawAnswer, startRawServer } from '../helpers/raw-http.js';
import {
  gate,
  type Script,
  type ScriptedBackend,
  startScriptedBackend,
} from '../helpers/scripted-backend.js';

const cleanups: (() => unknown)[] = [];

afterEach(async () => {
  jest.useRealTimers();
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function startBackend(script: Script = (res) => void res.end('ok')): Promise<ScriptedBackend> {
  const backend = await startScriptedBackend(script);
  cleanups.push(() => backend.close());
  return backend;
}

async function raw(server: Promise<RawServer>): Promise<RawServer> {
  const started = await server;
  cleanups.push(() => started.close());
  return started;
}

/** What one call asks a backend for. */
async function askedFor(
  path: (url: string) => string,
  options: Partial<BackendCall> = {},
): Promise<Pick<IncomingMessage, 'method' | 'url' | 'headers'> & { body: string }> {
  let asked: IncomingMessage | undefined;
  const backend = await startBackend((res, _body, req) => {
    asked = req;
    res.end();
  });
  await callBackend(new URL(path(backend.url)), { path: '/ping', timeoutMs: 5_000, ...options });
  const { method, url, headers } = asked as IncomingMessage;
  return { method, url, headers, body: String(backend.bodies[0]) };
}

async function failureOf(url: string, options: Partial<BackendCall> = {}): Promise<JobTrackerError> {
  const failure: unknown = await callBackend(new URL(url), { path: '/', timeoutMs: 5_000, ...options }).then(
    () => undefined,
    (error: unknown) => error,
  );
  expect(failure).toBeInstanceOf(JobTrackerError);
  expect(failure).toMatchObject({ code: 'BACKEND_UNANSWERED' });
  return failure as JobTrackerError;
}

/** The sockets of this process that lead to a port, and are not closed. */
function clientSockets(port: number): Socket[] {
  const handles = (process as unknown as { _getActiveHandles(): unknown[] })._getActiveHandles();
  return handles.filter(
    (handle): handle is Socket => handle instanceof Socket && handle.remotePort === port && !handle.destroyed,
  );
}

describe('what is asked', () => {
  test('a GET, without an encoding and over a connection of its own', async () => {
    const { method, url, headers } = await askedFor((backend) => backend);
    expect([method, url]).toEqual(['GET', '/ping']);
    expect(headers).toEqual({
      host: expect.stringMatching(/^127\.0\.0\.1:\d+$/),
      'accept-encoding': 'identity',
      connection: 'close',
    });
  });

  test.each([
    ['/', '/ping?a=%20b', '/ping?a=%20b'],
    ['/base', '/ping', '/base/ping'],
    ['/base/', '/ping', '/base/ping'],
  ])('below the path %s of the URL', async (base, path, expected) => {
    expect((await askedFor((backend) => backend + base, { path })).url).toBe(expected);
  });

  test.each([
    ['POST', '{"a":"ä"}'],
    ['DELETE', 'text'],
    ['GET', Buffer.from('bytes')],
  ])('a %s with a body, and its length', async (method, body) => {
    const asked = await askedFor((backend) => backend, {
      method,
      body,
      headers: { 'Content-Type': 'application/json' },
    });
    expect(asked.method).toBe(method);
    expect(asked.body).toBe(String(body));
    expect(asked.headers['content-length']).toBe(String(Buffer.byteLength(body)));
    expect(asked.headers['content-type']).toBe('application/json');
    expect(asked.headers['transfer-encoding']).toBeUndefined();
  });

  test.each([
    ['ann:apple', 'ann:apple'],
    ['ann', 'ann:'],
    [':apple', ':apple'],
    ['a%40n:p%3Aq%25%20', 'a@n:p:q% '],
    ['zo%C3%AB:p%C3%A4ss', 'zoë:päss'],
    ['ann:100%', 'ann:100%'],
  ])('with the credentials of the URL, %s', async (credentials, sent) => {
    const { headers } = await askedFor((backend) => backend.replace('://', `://${credentials}@`));
    expect(Buffer.from(String(headers.authorization).replace('Basic ', ''), 'base64').toString()).toBe(sent);
  });

  test.each<[string, BackendCall['headers'], string | undefined]>([
    ['others in their place', { Authorization: 'Bearer x' }, 'Bearer x'],
    ['none', { AUTHORIZATION: null }, undefined],
    ['those of the URL', { Authorization: undefined }, 'Basic YW5uOmFwcGxl'],
  ])('or with %s', async (_name, headers, sent) => {
    const asked = await askedFor((backend) => backend.replace('://', '://ann:apple@'), { headers });
    expect(asked.headers.authorization).toBe(sent);
  });

  test('the credentials of a URL can be had by themselves', () => {
    expect(basicAuthorization(new URL('http://ann:apple@127.0.0.1'))).toBe('Basic YW5uOmFwcGxl');
    expect(basicAuthorization(new URL('http://127.0.0.1'))).toBeNull();
  });

  test('a backend at an IPv6 address', async () => {
    const server = await raw(startRawServer((socket) => socket.end('HTTP/1.1 204 No\r\n\r\n'), '::1'));
    expect((await callBackend(new URL(server.url), { path: '/', timeoutMs: 5_000 })).status).toBe(204);
  });
});

describe('what is answered', () => {
  test.each([200, 204, 302, 401, 404, 500])('status %d, with its headers and its body', async (status) => {
    const body = status === 204 ? '' : '{"ok":1}';
    const backend = await startBackend((res) => {
      res.writeHead(status, { 'X-Said': 'yes', Location: '/elsewhere' });
      res.end(body);
    });
    const answer = await callBackend(new URL(backend.url), { path: '/', timeoutMs: 5_000 });
    expect(answer.status).toBe(status);
    expect(answer.headers['x-said']).toBe('yes');
    expect(answer.body.toString()).toBe(body);
    expect(backend.bodies).toHaveLength(1);
  });

  test.each([
    [
      'in chunks',
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n',
      false,
    ],
    ['until the connection ends', 'HTTP/1.0 200 OK\r\n\r\nabc', true],
    [
      'after 100 and 103',
      'HTTP/1.1 100 C\r\n\r\nHTTP/1.1 103 E\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc',
      false,
    ],
  ])('%s', async (_name, text, ends) => {
    const server = await raw(startRawAnswer(text, (socket) => ends && socket.end()));
    const answer = await callBackend(new URL(server.url), { path: '/', timeoutMs: 5_000 });
    expect([answer.status, answer.body.toString()]).toEqual([200, 'abc']);
  });

  test('up to `maxBytes`, and no further', async () => {
    const backend = await startBackend((res) => void res.end('x'.repeat(1_000)));
    const call = { path: '/', timeoutMs: 5_000 };
    expect((await callBackend(new URL(backend.url), { ...call, maxBytes: 1_000 })).body).toHaveLength(1_000);
    const failure = await failureOf(backend.url, { maxBytes: 999 });
    expect(failure.message).toBe(`${backend.url} gave an answer of more than 999 bytes`);
  });

  test('1 MB, where nothing is said; what goes on for ever is broken off', async () => {
    let sentBytes = 0;
    const backend = await startBackend(async (res) => {
      let wake = () => {};
      res.on('drain', () => wake()).once('close', () => wake());
      while (!res.destroyed) {
        const drained = res.write(Buffer.alloc(64 * 1024));
        sentBytes += 64 * 1024;
        if (!drained)
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
      }
    });
    const failure = await failureOf(backend.url);
    expect(failure.message).toBe(`${backend.url} gave an answer of more than 1048576 bytes`);
    expect(sentBytes).toBeLessThan(64 * 1024 * 1024);
  });
});

describe('what goes wrong', () => {
  test('nobody is there', async () => {
    const server = await raw(startRawServer(() => {}));
    await server.close();
    const failure = await failureOf(server.url);
    expect(failure.message).toBe(`${server.url} cannot be reached (ECONNREFUSED)`);
    expect(failure.cause).toMatchObject({ code: 'ECONNREFUSED' });
  });

  test('a name that is nowhere', async () => {
    const { message } = await failureOf('http://nowhere.invalid:7860');
    expect(message).toMatch(/^http:\/\/nowhere\.invalid:7860 cannot be reached \((ENOTFOUND|EAI_AGAIN)\)$/);
  });

  test('the credentials of the URL are in no message', async () => {
    const server = await raw(startRawServer((socket) => socket.destroy()));
    const failure = await failureOf(server.url.replace('://', '://ann:apple@'));
    expect(`${failure.stack} ${JSON.stringify(failure.cause)}`).not.toMatch(/ann|apple|YW5u/);
  });

  test.each<[string, string, (socket: Socket) => void, RegExp]>([
    ['it hangs up', '', (socket) => socket.end(), /closed the connection before it had answered/],
    [
      'it resets',
      '',
      (socket) => socket.resetAndDestroy(),
      /closed the connection before it had answered \(ECONNRESET\)/,
    ],
    ['it speaks no HTTP', 'SSH-2.0\r\n', () => {}, /gave an answer that is not HTTP \(HPE_\w+\)/],
    [
      'half a head',
      'HTTP/1.1 200 O',
      (socket) => socket.end(),
      /closed the connection before it had answered|not HTTP/,
    ],
    [
      'half a body',
      'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc',
      (socket) => socket.end(),
      /broke off its answer/,
    ],
    [
      'half a body and a reset',
      'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc',
      (socket) => socket.resetAndDestroy(),
      /broke off its answer/,
    ],
    [
      'half a chunk',
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc',
      (socket) => socket.end(),
      /broke off its answer/,
    ],
    [
      'a bad chunk',
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n',
      () => {},
      /gave an answer that is not HTTP/,
    ],
    [
      'another protocol',
      'HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n',
      () => {},
      /closed the connection/,
    ],
  ])('%s', async (_name, text, thenDo, message) => {
    const server = await raw(
      startRawServer((socket) => {
        socket.once('data', () =>
          text ? socket.write(text, 'latin1', () => thenDo(socket)) : thenDo(socket),
        );
      }),
    );
    const failure = await failureOf(server.url);
    expect(failure.message).toMatch(message);
    expect(failure.message).toMatch(/^http:\/\/127\.0\.0\.1:\d+ /);
  });

  test.each([
    ['before it answers', ''],
    ['in the head', 'HTTP/1.1 200 OK\r\n'],
    ['in the body', 'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc'],
  ])('it falls silent %s', async (_name, text) => {
    const gone: Promise<unknown>[] = [];
    const server = await raw(
      startRawServer((socket) => {
        gone.push(new Promise((resolve) => socket.once('end', resolve).once('error', resolve)));
        socket.resume();
        if (text) socket.write(text);
      }),
    );
    const failure = await failureOf(server.url, { timeoutMs: 50 });
    expect(failure.message).toBe(`${server.url} did not answer within 0.05 seconds`);
    await Promise.all(gone);
    expect(gone).toHaveLength(1);
  });

  test('it drips for ever: the time is for the whole call', async () => {
    const backend = await startBackend((res) => {
      const drip = setInterval(() => res.write('x'), 5);
      res.once('close', () => clearInterval(drip));
    });
    const failure = await failureOf(backend.url, { timeoutMs: 100 });
    expect(failure.message).toBe(`${backend.url} did not answer within 0.1 seconds`);
  });

  test.each(['before', 'while it waits'])('the signal is given %s', async (when) => {
    const backend = await startBackend(() => {});
    const controller = new AbortController();
    const reason = new Error('enough');
    if (when === 'before') controller.abort(reason);
    else void backend.received().then(() => controller.abort(reason));
    const { signal } = controller;
    await expect(callBackend(new URL(backend.url), { path: '/', timeoutMs: 5_000, signal })).rejects.toBe(
      reason,
    );
    expect(backend.bodies).toHaveLength(when === 'before' ? 0 : 1);
  });

  test('what cannot be sent at all rejects', async () => {
    const backend = await startBackend();
    const url = new URL(backend.url);
    await expect(callBackend(url, { path: '/a b', timeoutMs: 50 })).rejects.toThrow(/unescaped/);
    await expect(callBackend(url, { path: '/', headers: { 'x-a': 'a\nb' }, timeoutMs: 50 })).rejects.toThrow(
      /Invalid character/,
    );
  });
});

describe('afterwards', () => {
  const ok = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok';

  test.each<[string, string, Partial<BackendCall>, string]>([
    ['an answer', ok, {}, 'fulfilled'],
    [
      'an answer to what was not read',
      ok,
      { method: 'POST', body: Buffer.alloc(32 * 1024 * 1024) },
      'fulfilled',
    ],
    ['an answer that is too large', ok, { maxBytes: 1 }, 'rejected'],
    ['no HTTP', 'SSH-2.0\r\n', {}, 'rejected'],
    ['silence', '', {}, 'rejected'],
  ])('neither timer nor socket nor listener stays: %s', async (_name, text, options, outcome) => {
    jest.useFakeTimers({ doNotFake: ['nextTick', 'setImmediate', 'queueMicrotask', 'Date', 'performance'] });
    const said = gate();
    const closed: Promise<unknown>[] = [];
    // It keeps its own side open, and reads no more than the first bytes.
    const server = await raw(
      startRawServer((socket) => {
        closed.push(new Promise((resolve) => socket.once('close', resolve)));
        socket.once('data', () => {
          socket.pause();
          socket.write(text, said.open);
        });
      }),
    );
    const listening = new Set<unknown>();
    const signal = new AbortController().signal;
    signal.addEventListener = (_type: string, listener: unknown) => void listening.add(listener);
    signal.removeEventListener = (_type: string, listener: unknown) => void listening.delete(listener);
    const called = callBackend(new URL(server.url), { path: '/', timeoutMs: 60_000, signal, ...options });
    const settled = Promise.allSettled([called]);
    expect([jest.getTimerCount(), listening.size]).toEqual([1, 1]);
    await said.opened;
    if (text === '') jest.advanceTimersByTime(60_000);
    expect((await settled)[0].status).toBe(outcome);
    expect([jest.getTimerCount(), listening.size]).toEqual([0, 0]);
    expect(clientSockets(server.port)).toEqual([]);
    await server.close();
    await Promise.all(closed);
    expect(closed).toHaveLength(1);
  });

  test('its timer keeps no process alive', async () => {
    const server = await raw(startRawServer(() => {}));
    const controller = new AbortController();
    const setTimer = jest.spyOn(globalThis, 'setTimeout');
    const { signal } = controller;
    const pending = callBackend(new URL(server.url), { path: '/', timeoutMs: 60_000, signal });
    const timers = setTimer.mock.results.map(({ value }) => value as NodeJS.Timeout);
    setTimer.mockRestore();
    controller.abort();
    await expect(pending).rejects.toThrow(/abort/);
    expect(timers).toHaveLength(1);
    expect(timers[0]?.hasRef()).toBe(false);
  });
});
