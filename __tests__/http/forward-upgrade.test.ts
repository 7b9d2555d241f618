import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { text } from 'node:stream/consumers';
import { afterEach, describe, expect, test } from '@jest/globals';
import { WebSocket, WebSocketServer } from 'ws';
import { Forwarder } from '../../lib/http/forward.js';
import {
  type RawClient,
  type RawServer,
  rawClient,
  startRawAnswer,
  startRawServer,
} from '../helpers/raw-http.js';

const ASK = ['Host: x.example', 'Connection: keep-alive, Upgrade', 'Upgrade: websocket', 'X-Kept: a'].join(
  '\r\n',
);
const AGREED =
  'HTTP/1.1 101 Sw\xfctching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX-CaSe: \xfc\r\n\r\n';

const cleanups: (() => unknown)[] = [];

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function startRaw(server: Promise<RawServer>): Promise<RawServer> {
  const raw = await server;
  cleanups.push(() => raw.close());
  return raw;
}

/** A server that forwards upgrades, and answers any other request by itself. */
async function startFront(
  target: string,
  onUpgrade: (socket: Duplex) => void = () => {},
): Promise<{ port: number; server: Server }> {
  const forwarder = new Forwarder({
    target: new URL(target),
    backend: { title: 'Testback', hint: 'Check the cable.' },
  });
  const server = createServer(async (req, res) => {
    const { method, url, headers } = req;
    res.end(JSON.stringify({ method, url, headers, body: await text(req) }));
  });
  const sockets = new Set<Socket>();
  server.on('connection', (socket) => sockets.add(socket));
  server.on('upgrade', (req, socket, head) => {
    onUpgrade(socket);
    forwarder.upgrade(req, socket, head);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  cleanups.push(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  });
  return { port: (server.address() as AddressInfo).port, server };
}

const askUpgrade = (port: number, more = ''): RawClient =>
  rawClient(port, `GET /ws?a=1 HTTP/1.1\r\n${ASK}\r\n\r\n${more}`);

async function noConnections(server: Server): Promise<void> {
  for (;;) {
    const count = await new Promise<number>((resolve) => server.getConnections((_error, n) => resolve(n)));
    if (count === 0) return;
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** A backend that agrees to one upgrade, and the connection to it. */
async function agree(): Promise<{ backend: RawServer; agreed: Promise<Socket> }> {
  let resolveAgreed: (socket: Socket) => void = () => {};
  const agreed = new Promise<Socket>((resolve) => {
    resolveAgreed = resolve;
  });
  const backend = await startRaw(
    startRawServer((socket) => {
      socket.once('data', () => socket.write(AGREED, 'latin1', () => resolveAgreed(socket)));
    }),
  );
  return { backend, agreed };
}

describe('an upgrade to a WebSocket', () => {
  test('is passed on, messages both ways and the close too', async () => {
    const backend = createServer();
    const sockets = new WebSocketServer({ server: backend });
    sockets.on('connection', (socket, req) => {
      socket.send(
        `at ${req.url}, for ${req.headers['x-forwarded-for']} at ${req.headers['x-forwarded-host']}`,
      );
      socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
      socket.once('close', (code, reason) => backend.emit('said goodbye', code, reason.toString()));
    });
    backend.listen(0, '127.0.0.1');
    await once(backend, 'listening');
    cleanups.push(() => new Promise((resolve) => backend.close(resolve)));
    const { port } = await startFront(`http://127.0.0.1:${(backend.address() as AddressInfo).port}/base`);
    const client = new WebSocket(`ws://127.0.0.1:${port}/queue/join?a=1`);
    const messages: unknown[] = [];
    client.on('message', (data) => messages.push(data));
    await once(client, 'message');
    const big = Buffer.alloc(3_000_000, 'x');
    client.send(big);
    await once(client, 'message');
    expect(String(messages[0])).toBe(`at /base/queue/join?a=1, for 127.0.0.1 at 127.0.0.1:${port}`);
    expect(big.equals(messages[1] as Buffer)).toBe(true);
    const goodbye = once(backend, 'said goodbye');
    client.close(4321, 'enough');
    expect(await goodbye).toEqual([4321, 'enough']);
    await once(client, 'close');
  });

  test('passes the head as it was, and what either end said early', async () => {
    const got: Buffer[] = [];
    const backend = await startRaw(
      startRawServer((socket) => {
        socket.on('data', (chunk) => got.push(chunk));
        socket.once('end', () => socket.end());
        socket.once('data', () => socket.write(`${AGREED}early word`, 'latin1'));
      }),
    );
    const { port } = await startFront(backend.url);
    const client = askUpgrade(port, 'client early word');
    await client.until('early word');
    expect(client.text).toBe(`${AGREED}early word`);
    client.socket.end(' and last');
    await client.ended;
    const [head, ...rest] = Buffer.concat(got).toString('latin1').split('\r\n\r\n');
    expect(head?.split('\r\n').sort()).toEqual(
      [
        'GET /ws?a=1 HTTP/1.1',
        'host: x.example',
        'x-kept: a',
        'x-forwarded-for: 127.0.0.1',
        'x-forwarded-proto: http',
        'x-forwarded-host: x.example',
        'connection: Upgrade',
        'upgrade: websocket',
      ].sort(),
    );
    expect(rest.join()).toBe(Buffer.from('client early word and last').toString('latin1'));
  });

  test('the last words before the backend’s end arrive whole, however slow the client', async () => {
    let clientTakesIt = () => {};
    const backend = await startRaw(
      startRawServer((socket) => {
        socket.once('data', () => socket.end(`${AGREED}last words`, 'latin1'));
        socket.resume().once('close', () => clientTakesIt());
      }),
    );
    const { port } = await startFront(backend.url, (socket) => {
      const write = socket._write;
      socket._write = (...args) => {
        clientTakesIt = () => write.apply(socket, args);
        socket._write = write;
      };
    });
    const client = askUpgrade(port);
    expect(await client.ended).toBe('fin');
    expect(client.text).toBe(`${AGREED}last words`);
  });

  test.each([
    'HTTP/1.1 403 Forbidden\r\nX-CaSe: \xfc\r\ncontent-length: 2\r\nConnection: close\r\n\r\nno',
    'HTTP/1.1 403 Forbidden\r\nX-CaSe: \xfc\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n',
    'HTTP/1.0 403 Forbidden\r\nX-CaSe: \xfc\r\n\r\nno',
  ])('a refusal reaches the client: %j', async (refusal) => {
    const backend = await startRaw(startRawAnswer(refusal, (socket) => socket.end()));
    const { port, server } = await startFront(backend.url);
    const client = askUpgrade(port);
    expect(await client.ended).toBe('fin');
    expect(client.text).toMatch(
      /^HTTP\/1.1 403 Forbidden\r\nX-CaSe: \xfc\r\n(content-length: 2\r\n)?Connection: close\r\n\r\nno$/,
    );
    await noConnections(server);
  });

  test('a refusal that breaks off does so for the client', async () => {
    const backend = await startRaw(
      startRawServer((socket) => {
        socket.once('data', () => socket.write('HTTP/1.1 403 Forbidden\r\n\r\nno'));
        socket.once('end', () => {});
        backendSocket = socket;
      }),
    );
    let backendSocket: Socket | undefined;
    const { port } = await startFront(backend.url);
    const client = askUpgrade(port);
    await client.until('no');
    backendSocket?.resetAndDestroy();
    expect(await client.ended).toBe('error');
  });

  test.each([
    ['is down', undefined, 'cannot be reached (ECONNREFUSED)'],
    ['closes the connection', '', 'closed the connection before it had answered (ECONNRESET)'],
    ['does not speak HTTP', 'hello\r\n', 'gave an answer that is not HTTP (HPE_INVALID_CONSTANT)'],
  ])('a backend that %s: 502 that names it', async (_name, said, expected) => {
    const backend = await startRawAnswer(said ?? '', (socket) => socket.end());
    if (said === undefined) await backend.close();
    else cleanups.push(() => backend.close());
    const { port, server } = await startFront(backend.url);
    const client = askUpgrade(port);
    expect(await client.ended).toBe('fin');
    const [head, body] = client.text.split('\r\n\r\n');
    expect(head?.split('\r\n')).toEqual([
      'HTTP/1.1 502 Bad Gateway',
      'Content-Type: application/json; charset=utf-8',
      `Content-Length: ${body?.length}`,
      'Connection: close',
    ]);
    expect(JSON.parse(body ?? '')).toEqual({
      error: `Testback at ${backend.url} ${expected}. Check the cable.`,
    });
    await noConnections(server);
  });

  test.each(['FIN', 'RST'])('the backend breaks off by %s: the client’s connection ends', async (how) => {
    const { backend, agreed } = await agree();
    const { port, server } = await startFront(backend.url);
    const client = askUpgrade(port);
    const socket = await agreed;
    await client.until(AGREED);
    if (how === 'FIN') socket.destroy();
    else socket.resetAndDestroy();
    await client.ended;
    client.socket.destroy();
    await noConnections(server);
  });

  test.each(['FIN', 'RST'])('the client leaves by %s: the backend’s connection ends', async (how) => {
    const { backend, agreed } = await agree();
    const { port, server } = await startFront(backend.url);
    const client = askUpgrade(port);
    const socket = await agreed;
    socket.resume();
    await client.until(AGREED);
    if (how === 'FIN') client.socket.destroy();
    else client.socket.resetAndDestroy();
    await once(socket, 'end');
    socket.end();
    await noConnections(server);
  });

  test('the client leaves before the backend has answered: so do we', async () => {
    let arrived: (socket: Socket) => void = () => {};
    const asked = new Promise<Socket>((resolve) => {
      arrived = resolve;
    });
    const backend = await startRaw(startRawServer((socket) => socket.once('data', () => arrived(socket))));
    const { port, server } = await startFront(backend.url);
    const client = askUpgrade(port);
    const socket = await asked;
    client.socket.resetAndDestroy();
    await once(socket.resume(), 'end');
    await noConnections(server);
  });
});

describe('any other upgrade', () => {
  test('is served as the plain request that it also is, again and again', async () => {
    const { port } = await startFront('http://127.0.0.1:9');
    const body = 'b'.repeat(300_000);
    const head = (url: string, connection: string) =>
      [
        `POST ${url} HTTP/1.1`,
        'Host: x.example',
        `Connection: ${connection}`,
        'Upgrade: h2c',
        'HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA',
        'Content-Type: text/plain',
        `Content-Length: ${body.length}`,
        '',
        body,
      ].join('\r\n');
    const client = rawClient(port, head('/one', 'Upgrade, HTTP2-Settings'));
    await client.until(`"body":"${body}"`);
    client.socket.write(head('/two', 'close, Upgrade, HTTP2-Settings'));
    await client.until('"url":"/two"');
    client.socket.end();
    await client.ended;
    const answers = client.text.split(/HTTP\/1.1 200 OK\r\n/).slice(1);
    expect(answers.map((answer) => JSON.parse(answer.split('\r\n\r\n')[1] ?? ''))).toEqual(
      ['/one', '/two'].map((url) => ({
        method: 'POST',
        url,
        headers: { host: 'x.example', 'content-type': 'text/plain', 'content-length': '300000' },
        body,
      })),
    );
  });
});
