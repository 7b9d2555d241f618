import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { gzipSync } from 'node:zlib';
import { afterEach, describe, expect, test } from '@jest/globals';
import express, { type Express } from 'express';
import { Forwarder } from '../../lib/http/forward.js';
import { requestHeaders } from '../../lib/http/forward-headers.js';
import { call } from '../helpers/client.js';
import { type RawServer, rawClient, startRawAnswer, startRawServer } from '../helpers/raw-http.js';

const backendName = { title: 'Testback', hint: 'Check the cable.' };
const cleanups: (() => unknown)[] = [];

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

interface Got {
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingMessage['headers'];
  readonly body: Buffer;
}

interface Backend {
  readonly url: string;
  readonly server: Server;
  readonly got: Got[];
}

async function listen(server: Server, host = '127.0.0.1'): Promise<number> {
  server.listen(0, host);
  await once(server, 'listening');
  cleanups.push(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  return (server.address() as AddressInfo).port;
}

/** A backend that keeps what it gets, and says "ok" unless told otherwise. */
async function startBackend(
  answer: (res: ServerResponse, got: Got) => void = (res) => void res.end('ok'),
): Promise<Backend> {
  const got: Got[] = [];
  const server = createServer(async (req, res) => {
    const one = {
      method: req.method ?? '',
      url: req.url ?? '',
      headers: req.headers,
      body: await buffer(req),
    };
    got.push(one);
    answer(res, one);
  });
  return { url: `http://127.0.0.1:${await listen(server)}`, server, got };
}

async function startRaw(server: Promise<RawServer>): Promise<RawServer> {
  const raw = await server;
  cleanups.push(() => raw.close());
  return raw;
}

interface Front {
  readonly url: string;
  readonly port: number;
  readonly server: Server;
}

/** An app with the forwarder in it. */
async function startFront(
  target: string,
  front: (app: Express) => void = () => {},
  mount = '/',
): Promise<Front> {
  const forwarder = new Forwarder({ target: new URL(target), backend: backendName });
  const app = express();
  front(app);
  app.use(mount, (req, res) => forwarder.handle(req, res));
  const server = createServer(app);
  const port = await listen(server);
  return { url: `http://127.0.0.1:${port}`, port, server };
}

const errorOf = (body: Buffer) => (JSON.parse(body.toString()) as { error: string }).error;
const hash = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');

/** Resolves when a server has no connection left. */
async function noConnections(server: Server): Promise<void> {
  for (;;) {
    const count = await new Promise<number>((resolve) => server.getConnections((_error, n) => resolve(n)));
    if (count === 0) return;
    await new Promise((resolve) => setImmediate(resolve));
  }
}

describe('the request', () => {
  test('has its method, path, query and headers, without those of the connection, and says where it is from', async () => {
    const backend = await startBackend();
    const { port } = await startFront(backend.url);
    const client = rawClient(
      port,
      [
        'PATCH /a%2Fb//c?x=%20&y=[1]&z=&& HTTP/1.1',
        'Host: pictures.example:81',
        'Connection: close, X-Only-Here',
        'X-Only-Here: 1',
        'Keep-Alive: timeout=3',
        'Proxy-Authorization: Basic eDp5',
        'TE: trailers',
        'X-Kept: a',
        'X-Kept: b',
        'Authorization: Basic bWU6cHc=',
        'Cookie: a=1',
        'Content-Type: application/json',
        'Content-Length: 4',
        'Expect: 100-continue',
        '',
        'null',
      ].join('\r\n'),
    );
    expect(await client.ended).toBe('fin');
    expect(client.text).toMatch(/^HTTP\/1.1 100 Continue\r\n\r\nHTTP\/1.1 200 OK\r\n/);
    expect(backend.got).toEqual([
      {
        method: 'PATCH',
        url: '/a%2Fb//c?x=%20&y=[1]&z=&&',
        headers: {
          host: 'pictures.example:81',
          'x-kept': 'a, b',
          authorization: 'Basic bWU6cHc=',
          cookie: 'a=1',
          'content-type': 'application/json',
          'content-length': '4',
          'x-forwarded-for': '127.0.0.1',
          'x-forwarded-proto': 'http',
          'x-forwarded-host': 'pictures.example:81',
          connection: 'close',
        },
        body: Buffer.from('null'),
      },
    ]);
  });

  test('keeps what proxies in front have said of the client', async () => {
    const backend = await startBackend();
    const { url } = await startFront(backend.url);
    const headers = {
      'X-Forwarded-For': '203.0.113.7',
      'X-Forwarded-Proto': 'https',
      'X-Forwarded-Host': 'a.example',
    };
    await call(url, { headers }).answer;
    expect(backend.got[0]?.headers).toMatchObject({
      'x-forwarded-for': '203.0.113.7, 127.0.0.1',
      'x-forwarded-proto': 'https',
      'x-forwarded-host': 'a.example',
    });
  });

  test('gets the name of a backend behind https, and of any where the client says none', () => {
    const req = { headers: { host: 'a.example' }, socket: {} } as IncomingMessage;
    expect(requestHeaders(req, new URL('https://b.example:444/x')).host).toBe('b.example:444');
    expect(requestHeaders(req, new URL('http://b.example:444/x')).host).toBe('a.example');
    const without = { headers: {}, socket: {} } as IncomingMessage;
    expect(requestHeaders(without, new URL('http://b.example:444/x'))).toEqual({
      host: 'b.example:444',
      'x-forwarded-proto': 'http',
    });
  });

  test('cannot smuggle a second one past us by calling its length a header of the connection', async () => {
    const backend = await startBackend();
    const { port } = await startFront(backend.url);
    const body = 'GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n';
    const client = rawClient(
      port,
      `DELETE /seen HTTP/1.1\r\nHost: x\r\nConnection: close, content-length\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    );
    await client.ended;
    expect(backend.got.map(({ method, url, body }) => [method, url, body.toString()])).toEqual([
      ['DELETE', '/seen', body],
    ]);
  });

  const methods = ['GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE', 'POST', 'PATCH', 'PROPFIND'];
  test.each(methods)('%s: no body, one of known length, and a chunked one', async (method) => {
    const backend = await startBackend();
    const { url } = await startFront(backend.url);
    const body = Buffer.from('twelve bytes');
    const none = await call(`${url}/none`, { method }).answer;
    expect(none.body.toString()).toBe(method === 'HEAD' ? '' : 'ok');
    await call(`${url}/sized`, { method, headers: { 'Content-Length': body.length }, body }).answer;
    const chunked = call(`${url}/chunked`, {
      method,
      headers: { 'Transfer-Encoding': 'chunked' },
      open: true,
    });
    chunked.request.write(body.subarray(0, 5));
    chunked.request.end(body.subarray(5));
    await chunked.answer;
    const framing = backend.got.map((got) => [
      got.url,
      got.method,
      got.headers['content-length'],
      got.headers['transfer-encoding'],
      got.body.toString(),
    ]);
    expect(framing).toEqual([
      [
        '/none',
        method,
        ['PUT', 'POST', 'PATCH', 'PROPFIND'].includes(method) ? '0' : undefined,
        undefined,
        '',
      ],
      ['/sized', method, '12', undefined, 'twelve bytes'],
      ['/chunked', method, undefined, 'chunked', 'twelve bytes'],
    ]);
  });

  test.each([
    ['', '/', '/x?y=1', '/x?y=1'],
    ['/', '/', '/x', '/x'],
    ['/sd', '/', '/x?y=1', '/sd/x?y=1'],
    ['/sd/', '/', '/', '/sd/'],
    ['/sd/', '/pictures', '/pictures/x?y=1', '/sd/x?y=1'],
    ['', '/pictures', '/pictures?y=1', '/?y=1'],
  ])('base path "%s", mounted at %s: %s becomes %s', async (base, mount, asked, expected) => {
    const backend = await startBackend();
    const { url } = await startFront(backend.url + base, undefined, mount);
    await call(url + asked).answer;
    expect(backend.got[0]?.url).toBe(expected);
  });

  test.each([
    ['GET', 'http://pictures.example/x?y=1', '/x?y=1'],
    ['GET', 'http://pictures.example?y=1', '/?y=1'],
    ['GET', 'http://pictures.example', '/'],
    ['OPTIONS', '*', '*'],
  ])('%s %s becomes %s', async (method, asked, expected) => {
    const backend = await startBackend();
    const { port } = await startFront(backend.url);
    await rawClient(
      port,
      `${method} ${asked} HTTP/1.1\r\nHost: pictures.example\r\nConnection: close\r\n\r\n`,
    ).ended;
    expect(backend.got[0]?.url).toBe(expected);
  });

  test('finds a backend at an IPv6 address', async () => {
    const server = createServer((req, res) => res.end(req.socket.remoteAddress));
    const { url } = await startFront(`http://[::1]:${await listen(server, '::1')}`);
    expect((await call(url).answer).body.toString()).toBe('::1');
  });

  test('20 MB each way pass whole', async () => {
    const sent = randomBytes(20_000_000);
    const backend = await startBackend((res, got) => void res.end(got.body));
    const { url } = await startFront(backend.url);
    const { body } = await call(url, { body: sent }).answer;
    expect(hash(backend.got[0]?.body as Buffer)).toBe(hash(sent));
    expect(hash(body)).toBe(hash(sent));
  });
});

describe('a body that the host has parsed', () => {
  const bodies: [string, (app: Express) => void, string, Buffer, string][] = [
    [
      'JSON',
      (app) => app.use(express.json()),
      'application/json',
      Buffer.from('{ "a": [1, "ü"] }'),
      '{"a":[1,"ü"]}',
    ],
    [
      'JSON of a special type',
      (app) => app.use(express.json({ type: '*/*' })),
      'a/b+json',
      Buffer.from('[ ]'),
      '[]',
    ],
    [
      'JSON that is null',
      (app) => app.use(express.json({ strict: false })),
      'application/json',
      Buffer.from('null '),
      'null',
    ],
    [
      'text',
      (app) => app.use(express.text({ type: '*/*' })),
      'application/json',
      Buffer.from('{ "ü": 1 }'),
      '{ "ü": 1 }',
    ],
    [
      'bytes',
      (app) => app.use(express.raw({ type: '*/*' })),
      'image/png',
      Buffer.from([1, 2, 0xff]),
      '\x01\x02\xff',
    ],
  ];

  test.each(bodies)('%s is sent on', async (name, front, type, body, expected) => {
    const backend = await startBackend();
    const { url } = await startFront(backend.url, front);
    for (const framing of [{ 'Content-Length': body.length }, { 'Transfer-Encoding': 'chunked' }]) {
      expect((await call(url, { headers: { 'Content-Type': type, ...framing }, body }).answer).status).toBe(
        200,
      );
      const got = backend.got.at(-1);
      expect(got?.body).toEqual(Buffer.from(expected, name === 'bytes' ? 'latin1' : 'utf8'));
      expect(got?.headers).toMatchObject({
        'content-type': type,
        'content-length': String(got?.body.length),
      });
      expect(got?.headers).not.toHaveProperty('transfer-encoding');
    }
  });

  test('a compressed one is sent on as what the parser made of it, and says so', async () => {
    const backend = await startBackend();
    const { url } = await startFront(backend.url, (app) => app.use(express.json()));
    const headers = { 'Content-Type': 'application/json', 'Content-Encoding': 'gzip' };
    await call(url, { headers, body: gzipSync('{"a":1}') }).answer;
    expect(backend.got[0]?.body.toString()).toBe('{"a":1}');
    expect(backend.got[0]?.headers).not.toHaveProperty('content-encoding');
  });

  test.each(['application/json', 'application/x-www-form-urlencoded'])(
    'an empty %s stays empty',
    async (type) => {
      const backend = await startBackend();
      const { url } = await startFront(backend.url, (app) => app.use(express.json(), express.urlencoded()));
      const { status } = await call(url, {
        method: 'POST',
        headers: { 'Content-Type': type, 'Content-Length': 0 },
      }).answer;
      expect(status).toBe(200);
      expect(backend.got[0]?.body.length).toBe(0);
      expect(backend.got[0]?.headers['content-length']).toBe('0');
    },
  );

  test('a parser in front is in nobody’s way where it does not read', async () => {
    const backend = await startBackend();
    const { url } = await startFront(backend.url, (app) => app.use(express.json()));
    await call(`${url}/get`).answer;
    await call(`${url}/post`, { headers: { 'Content-Type': 'image/png' }, body: 'png' }).answer;
    expect(backend.got.map(({ body }) => body.toString())).toEqual(['', 'png']);
  });

  test('what cannot be made bytes again is a clear 500, and the backend gets nothing', async () => {
    const backend = await startBackend();
    const { url } = await startFront(backend.url, (app) => app.use(express.urlencoded()));
    const headers = { 'Content-Type': 'application/x-www-form-urlencoded' };
    const answer = await call(url, { headers, body: 'a=1&b=2' }).answer;
    expect(answer.status).toBe(500);
    expect(errorOf(answer.body)).toBe(
      'Expected a request body that nobody has read yet, or JSON, got a parsed one of type ' +
        '"application/x-www-form-urlencoded": mount jobTracker() before whatever reads bodies',
    );
    expect(backend.got).toEqual([]);
  });

  test('a body that somebody in front has used up is a clear 500, and nothing hangs', async () => {
    const backend = await startBackend();
    const { url } = await startFront(backend.url, (app) =>
      app.use((req, _res, next) => {
        req.resume();
        req.once('end', next);
      }),
    );
    const answer = await call(url, { headers: { 'Content-Type': 'application/json' }, body: '{}' }).answer;
    expect(answer.status).toBe(500);
    expect(errorOf(answer.body)).toContain(
      'got one that has been read and left nothing of type "application/json"',
    );
  });
});

describe('the answer', () => {
  const head = [
    'HTTP/1.1 299 Quite fine',
    'Set-Cookie: a=1',
    'X-CaSe: kept',
    'x-repeated: 1',
    'SET-COOKIE: b=2; Path=/',
    'X-Repeated: 2',
    'Vary: Accept-Encoding',
    'Content-Disposition: attachment; filename="\xfc.png"',
    'Date: Thu, 01 Jan 2026 00:00:00 GMT',
    'Connection: close, X-Only-Here',
    'X-Only-Here: 1',
    'Keep-Alive: timeout=3',
    'Proxy-Authenticate: Basic',
    'Trailer: X-Sum',
    'Transfer-Encoding: chunked',
  ].join('\r\n');

  async function rawAnswerThrough(front?: (app: Express) => void): Promise<string[]> {
    const backend = await startRaw(startRawAnswer(`${head}\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n`));
    const { port } = await startFront(backend.url, (app) => {
      app.disable('x-powered-by');
      front?.(app);
    });
    const client = rawClient(port, 'GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
    expect(await client.ended).toBe('fin');
    expect(client.text).toContain('\r\n\r\n3\r\nabc\r\n0\r\n\r\n');
    return client.text.slice(0, client.text.indexOf('\r\n\r\n')).split('\r\n');
  }

  test('has its status, reason and headers, in their case, repeated as they were, without those of the connection', async () => {
    expect((await rawAnswerThrough()).sort()).toEqual(
      [
        'HTTP/1.1 299 Quite fine',
        'Set-Cookie: a=1',
        'Set-Cookie: b=2; Path=/',
        'X-CaSe: kept',
        'x-repeated: 1',
        'x-repeated: 2',
        'Vary: Accept-Encoding',
        'Content-Disposition: attachment; filename="\xfc.png"',
        'Date: Thu, 01 Jan 2026 00:00:00 GMT',
        'Connection: close',
        'Transfer-Encoding: chunked',
      ].sort(),
    );
  });

  test('replaces what a middleware in front has set, but for lists that both add to', async () => {
    const lines = await rawAnswerThrough((app) =>
      app.use((_req, res, next) => {
        res.setHeader('X-Case', 'replaced');
        res.setHeader('X-Host', 'kept');
        res.setHeader('Set-Cookie', 'session=1');
        res.setHeader('Vary', 'Origin');
        next();
      }),
    );
    expect(lines.filter((line) => /^(x-|set-cookie|vary)/i.test(line)).sort()).toEqual(
      [
        'X-Host: kept',
        'X-CaSe: kept',
        'x-repeated: 1',
        'x-repeated: 2',
        'Set-Cookie: session=1',
        'Set-Cookie: a=1',
        'Set-Cookie: b=2; Path=/',
        'Vary: Origin',
        'Vary: Accept-Encoding',
      ].sort(),
    );
  });

  test.each([
    ['HEAD', 'HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n', '1234'],
    ['GET', 'HTTP/1.1 204 No Content\r\n\r\n', undefined],
    ['GET', 'HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\nETag: "a"\r\n\r\n', '99'],
  ])('%s: %j has no body, and its length', async (method, answer, length) => {
    const backend = await startRaw(startRawAnswer(answer, (socket) => socket.end()));
    const { url } = await startFront(backend.url);
    const { headers, body } = await call(url, { method }).answer;
    expect(headers['content-length']).toBe(length);
    expect(body.length).toBe(0);
  });

  test('passes the 1xx over in silence', async () => {
    const early = 'HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n';
    const backend = await startRaw(startRawAnswer(`${early}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok`));
    const { url } = await startFront(backend.url);
    expect((await call(url).answer).body.toString()).toBe('ok');
  });

  test('a reason that cannot be said is left out', async () => {
    const backend = await startRaw(startRawAnswer('HTTP/1.1 200 O\x01K\r\nContent-Length: 2\r\n\r\nok'));
    const { url } = await startFront(backend.url);
    const answer = await call(url).answer;
    expect([answer.status, answer.body.toString()]).toEqual([200, 'ok']);
  });

  const chunk = 'a'.repeat(1000);
  const broken: [string, string, (socket: Socket) => void][] = [
    [
      'a chunked answer, by RST',
      `Transfer-Encoding: chunked\r\n\r\n3e8\r\n${chunk}\r\n`,
      (s) => s.resetAndDestroy(),
    ],
    ['a chunked answer, by FIN', `Transfer-Encoding: chunked\r\n\r\n3e8\r\n${chunk}\r\n`, (s) => s.end()],
    ['one of known length, by FIN', `Content-Length: 2000\r\n\r\n${chunk}`, (s) => s.end()],
    ['one that ends with the connection, by RST', `X-A: b\r\n\r\n${chunk}`, (s) => s.resetAndDestroy()],
    ['bad chunks', `Transfer-Encoding: chunked\r\n\r\n3e8\r\n${chunk}\r\n`, (s) => s.write('no number\r\n')],
  ];
  test.each(broken)('%s breaks off: so does ours, by RST', async (_name, rest, how) => {
    for (const version of ['1.1', '1.0']) {
      let breakOff = () => {};
      const backend = await startRaw(
        startRawServer((socket) => {
          socket.once('data', () => socket.write(`HTTP/1.1 200 OK\r\n${rest}`));
          breakOff = () => how(socket);
        }),
      );
      const { port } = await startFront(backend.url);
      const client = rawClient(port, `GET / HTTP/${version}\r\nHost: x\r\n\r\n`);
      await client.until(chunk);
      breakOff();
      expect(await client.ended).toBe('error');
    }
  });
});

test('who has a way of their own to break an answer off is left to use it', async () => {
  const backend = await startRaw(
    startRawServer((socket) => {
      socket.once('data', () =>
        socket.write('HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf', () => socket.end()),
      );
    }),
  );
  const { url } = await startFront(backend.url, (app) =>
    app.use((_req, res, next) => {
      res.destroy = (error) => res.end(` ${error?.message}`.slice(0, 6));
      next();
    }),
  );
  expect((await call(url).answer).body.toString()).toBe('half The b');
});

test('a request whose body cannot be read to its end does not leave the backend waiting', async () => {
  const backend = createServer((req) => req.resume());
  const backendUrl = `http://127.0.0.1:${await listen(backend)}`;
  const { url } = await startFront(backendUrl, (app) =>
    app.use((req, _res, next) => {
      // As a body that waits on a disk and cannot be read back: only the stream ends, not the connection.
      req._destroy = (_error, callback) => callback(null);
      backend.once('request', () => req.destroy());
      next();
    }),
  );
  const request = call(url, { headers: { 'Content-Length': 100 }, open: true });
  request.request.write('the beginning');
  const answer = await request.answer;
  expect([answer.status, errorOf(answer.body)]).toEqual([500, 'The request broke off before its end']);
  await noConnections(backend);
});

describe('no answer', () => {
  test('a backend that is down: 502 that names it and says what to check', async () => {
    const backend = await startRawServer(() => {});
    await backend.close();
    const { url } = await startFront(`${backend.url}/base`);
    const answer = await call(url).answer;
    expect(answer.status).toBe(502);
    expect(answer.headers['content-type']).toBe('application/json; charset=utf-8');
    expect(errorOf(answer.body)).toBe(
      `Testback at ${backend.url} cannot be reached (ECONNREFUSED). Check the cable.`,
    );
    expect((await call(url, { method: 'HEAD' }).answer).status).toBe(502);
  });

  test('an upload to a backend that is down is taken in, and answered', async () => {
    const backend = await startRawServer(() => {});
    await backend.close();
    const { port } = await startFront(backend.url);
    const size = 20_000_000;
    const client = rawClient(port, `POST / HTTP/1.1\r\nHost: x\r\nContent-Length: ${size}\r\n\r\n`);
    // Looks at no answer before everything is sent, and then goes on with the connection.
    client.socket.pause();
    await new Promise((resolve) => client.socket.write(Buffer.alloc(size), resolve));
    client.socket.write('GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
    client.socket.resume();
    expect(await client.ended).toBe('fin');
    expect(client.text.match(/HTTP\/1.1 502/g)).toHaveLength(2);
  });

  test.each([
    ['closes the connection', '', 'closed the connection before it had answered (ECONNRESET)'],
    [
      'breaks off in the head',
      'HTTP/1.1 200 OK\r\nX-',
      'closed the connection before it had answered (ECONNRESET)',
    ],
    ['says something else', 'SSH-2.0-OpenSSH_9.2\r\n', 'gave an answer that is not HTTP (HPE_'],
    [
      'says an impossible status',
      'HTTP/1.1 099 Odd\r\n\r\n',
      'gave an answer that is not HTTP (HPE_INVALID_STATUS)',
    ],
    [
      'switches the protocol unasked',
      'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n',
      'closed the connection before it had answered',
    ],
  ])('a backend that %s: 502', async (_name, said, expected) => {
    const backend = await startRaw(startRawAnswer(said, (socket) => socket.end()));
    const { url } = await startFront(backend.url);
    const answer = await call(url).answer;
    expect(answer.status).toBe(502);
    expect(errorOf(answer.body)).toContain(`Testback at ${backend.url} ${expected}`);
    expect(errorOf(answer.body)).toContain('Check the cable.');
  });

  test('a refusal in the middle of an upload reaches the client whole, although the backend then breaks off', async () => {
    const refusal = 'HTTP/1.1 413 Too Large\r\nContent-Length: 7\r\nConnection: close\r\n\r\ntoo big';
    const backend = await startRaw(startRawAnswer(refusal, (socket) => socket.resetAndDestroy()));
    const { port } = await startFront(backend.url);
    const size = 20_000_000;
    const client = rawClient(port, `POST / HTTP/1.1\r\nHost: x\r\nContent-Length: ${size}\r\n\r\nbegin`);
    await client.until('too big');
    client.socket.write(Buffer.alloc(size - 5));
    client.socket.write('POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n');
    expect(await client.ended).toBe('fin');
    expect(client.text.match(/HTTP\/1.1 413 Too Large/g)).toHaveLength(2);
  });

  test('somebody in front who answers in the meantime has answered', async () => {
    let answerNow = () => {};
    const backend = await startBackend(() => {});
    const { url } = await startFront(backend.url, (app) =>
      app.use((_req, res, next) => {
        answerNow = () => void res.status(503).end('too slow');
        next();
      }),
    );
    const request = call(url);
    await once(backend.server, 'request');
    answerNow();
    expect((await request.answer).status).toBe(503);
    await noConnections(backend.server);
  });

  test('also where the backend answers before that is over', async () => {
    let endNow = () => {};
    let toldUs: (socket: Socket) => void = () => {};
    const told = new Promise<Socket>((resolve) => {
      toldUs = resolve;
    });
    const backend = await startRaw(
      startRawAnswer('HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok', (socket) => toldUs(socket)),
    );
    const { url } = await startFront(backend.url, (app) =>
      app.use((_req, res, next) => {
        next();
        res.writeHead(503).write('too');
        endNow = () => void res.end(' slow');
      }),
    );
    const request = call(url);
    // Who has read the answer, and has no use for it, closes.
    await once((await told).resume(), 'end');
    endNow();
    expect((await request.answer).body.toString()).toBe('too slow');
  });
});

describe('a client that leaves', () => {
  test('while the backend works: its request is aborted', async () => {
    const backend = await startBackend(() => {});
    const { url, server } = await startFront(backend.url);
    const request = call(url);
    await once(backend.server, 'request');
    request.request.destroy();
    await noConnections(backend.server);
    await noConnections(server);
  });

  test('in the middle of its upload: the backend does not wait for the rest', async () => {
    const backend = createServer((req) => req.resume());
    const backendUrl = `http://127.0.0.1:${await listen(backend)}`;
    const { url, server } = await startFront(backendUrl);
    const request = call(url, { headers: { 'Content-Length': 100 }, open: true });
    request.request.write('the beginning');
    const [upstream] = (await once(backend, 'request')) as [IncomingMessage];
    upstream.on('error', () => {});
    request.request.destroy();
    await new Promise((resolve) => upstream.once('close', resolve));
    expect(upstream.complete).toBe(false);
    await noConnections(backend);
    await noConnections(server);
  });

  test('in the middle of the answer: the backend is not read to its end', async () => {
    const backend = await startBackend((res) => {
      res.write('the beginning');
    });
    const { url, server } = await startFront(backend.url);
    const request = call(url);
    await request.head;
    request.request.destroy();
    await noConnections(backend.server);
    await noConnections(server);
  });

  test.each(['GET', 'POST'])(
    'while somebody in front was busy: a %s goes nowhere, and nothing hangs',
    async (method) => {
      const backend = await startBackend();
      let seen = () => {};
      const arrived = new Promise<void>((resolve) => {
        seen = resolve;
      });
      let handled = () => {};
      const forwarded = new Promise<void>((resolve) => {
        handled = resolve;
      });
      const { url } = await startFront(backend.url, (app) =>
        app.use(async (_req, res, next) => {
          seen();
          await once(res, 'close');
          await new Promise((resolve) => setImmediate(resolve));
          next();
          handled();
        }),
      );
      const request = call(url, method === 'POST' ? { headers: { 'Content-Length': 9 }, open: true } : {});
      request.request.flushHeaders();
      await arrived;
      request.request.destroy();
      await forwarded;
      let connections = 0;
      backend.server.on('connection', () => {
        connections += 1;
      });
      await call(backend.url).answer;
      expect(connections).toBe(1);
      expect(backend.got.length).toBe(1);
    },
  );
});
