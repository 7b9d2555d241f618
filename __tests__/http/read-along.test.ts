import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { afterEach, describe, expect, test } from '@jest/globals';
import { WebSocket, WebSocketServer } from 'ws';
import { Forwarder } from '../../lib/http/forward.js';
import { rawClient, startRawServer } from '../helpers/raw-http.js';
import { frame, TEXT } from '../helpers/websocket-frames.js';

const cleanups: (() => unknown)[] = [];

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function listen(server: Server): Promise<number> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket) => sockets.add(socket));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  cleanups.push(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  });
  return (server.address() as AddressInfo).port;
}

/** A server of WebSockets that compresses where it may. */
async function startBackend(onConnection: (socket: WebSocket, req: IncomingMessage) => void) {
  const server = createServer();
  const sockets = new WebSocketServer({ server, perMessageDeflate: { threshold: 0 } });
  sockets.on('connection', onConnection);
  return `http://127.0.0.1:${await listen(server)}`;
}

/** Forwards upgrades; what comes to `/ws` is read along. */
async function startFront(target: string, onText: (text: string) => void): Promise<number> {
  const forwarder = new Forwarder({
    target: new URL(target),
    backend: { title: 'Testback', hint: 'Check the cable.' },
    readerOf: (path) => (path === '/ws' ? onText : undefined),
  });
  const server = createServer();
  server.on('upgrade', (req, socket, head) => forwarder.upgrade(req, socket, head));
  return listen(server);
}

async function startBoth(onConnection: (socket: WebSocket, req: IncomingMessage) => void) {
  const texts: string[] = [];
  const port = await startFront(await startBackend(onConnection), (text) => texts.push(text));
  return { texts, port };
}

function connect(port: number, path = '/ws?clientId=a'): WebSocket {
  const socket = new WebSocket(`ws://127.0.0.1:${port}${path}`);
  cleanups.push(() => socket.terminate());
  return socket;
}

const hashOf = (data: unknown) =>
  createHash('sha256')
    .update(data as Buffer)
    .digest('hex');

describe('a WebSocket that is read along', () => {
  test('brings texts and large pictures as they were, to the client and to the reader', async () => {
    const pictures = [Buffer.alloc(5_000_000, 'picture'), Buffer.alloc(3_000_000, '{"type":"status"}')];
    const { texts, port } = await startBoth((socket) => {
      socket.send('{"first":1}');
      for (const picture of pictures) socket.send(picture);
      socket.send('{"last":"ü"}', { fin: false });
      socket.send('!');
      socket.close(1000, 'done');
    });
    const client = connect(port);
    const got: string[] = [];
    client.on('message', (data, isBinary) => got.push(isBinary ? hashOf(data) : String(data)));
    const [code, reason] = await once(client, 'close');
    expect([code, String(reason)]).toEqual([1000, 'done']);
    expect(got).toEqual(['{"first":1}', ...pictures.map(hashOf), '{"last":"ü"}!']);
    expect(texts).toEqual(['{"first":1}', '{"last":"ü"}!']);
  });

  test('is not compressed, and any other still is', async () => {
    const offers: unknown[] = [];
    const { texts, port } = await startBoth((socket, req) => {
      offers.push(req.headers['sec-websocket-extensions']);
      socket.send('hello');
    });
    const watched = connect(port);
    const [word] = await once(watched, 'message');
    const other = connect(port, '/queue/join');
    const [otherWord] = await once(other, 'message');
    expect([String(word), watched.extensions]).toEqual(['hello', '']);
    expect([String(otherWord), other.extensions]).toEqual(['hello', 'permessage-deflate']);
    expect(offers).toEqual([undefined, expect.stringContaining('permessage-deflate')]);
    expect(texts).toEqual(['hello']);
  });

  test('the client’s own words, pings and close go to the backend as they are', async () => {
    let said: (what: unknown[]) => void = () => {};
    const heard = new Promise<unknown[]>((resolve) => {
      said = resolve;
    });
    const { texts, port } = await startBoth((socket) => {
      const all: unknown[] = [];
      socket.on('message', (data) => all.push(String(data)));
      socket.on('ping', (data) => all.push(`ping ${data}`));
      socket.once('close', (code, reason) => said([...all, code, String(reason)]));
    });
    const client = connect(port);
    await once(client, 'open');
    client.send('{"type":"feature_flags"}');
    client.ping('still there?');
    const [pong] = await once(client, 'pong');
    client.close(4001, 'enough');
    expect(String(pong)).toBe('still there?');
    expect(await heard).toEqual(['{"type":"feature_flags"}', 'ping still there?', 4001, 'enough']);
    expect(texts).toEqual([]);
  });

  test('a slow client holds the backend back, as without a reader', async () => {
    const piece = Buffer.alloc(1_000_000, 'x');
    let backend: WebSocket | undefined;
    const { texts, port } = await startBoth((socket) => {
      backend = socket;
      for (let n = 0; n < 60; n += 1) socket.send(piece);
      socket.send('the last');
    });
    const client = connect(port);
    await once(client, 'open');
    client.pause();
    // What fits into the buffers on the way has left; the rest stays where it is.
    let before = -1;
    while (backend === undefined || before !== backend.bufferedAmount) {
      before = backend?.bufferedAmount ?? -1;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
    expect(before).toBeGreaterThan(10_000_000);
    expect(texts).toEqual([]);
    let bytes = 0;
    const last = new Promise<string>((resolve) => {
      client.on('message', (data, isBinary) => {
        if (isBinary) bytes += (data as Buffer).length;
        else resolve(String(data));
      });
    });
    client.resume();
    expect(await last).toBe('the last');
    expect(bytes).toBe(60_000_000);
    expect(texts).toEqual(['the last']);
  });

  test('a reader that fails is not asked again, and the client does not notice', async () => {
    let calls = 0;
    const backend = await startBackend((socket) => {
      socket.send('one');
      socket.send('two');
      socket.on('message', () => socket.send('three'));
    });
    const port = await startFront(backend, () => {
      calls += 1;
      throw new Error('no more');
    });
    const client = connect(port);
    const got: string[] = [];
    client.on('message', (data) => got.push(String(data)));
    await once(client, 'message');
    client.send('go on');
    while (!got.includes('three')) await once(client, 'message');
    expect(got).toEqual(['one', 'two', 'three']);
    expect(calls).toBe(1);
  });

  test('what is not to be understood passes all the same', async () => {
    const strange = Buffer.concat([
      frame({ opcode: TEXT, payload: Buffer.from('clear') }),
      frame({ opcode: TEXT, payload: Buffer.from('squeezed'), reserved: 4 }),
      frame({ opcode: TEXT, payload: Buffer.from('after') }),
    ]);
    const agreed = 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n';
    const backend = await startRawServer((socket) => {
      // The first frames come with the head, in one piece.
      socket.once('data', () => socket.end(Buffer.concat([Buffer.from(agreed), strange])));
    });
    cleanups.push(() => backend.close());
    const texts: string[] = [];
    const port = await startFront(backend.url, (text) => texts.push(text));
    const client = rawClient(
      port,
      'GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n',
    );
    expect(await client.ended).toBe('fin');
    expect(client.text).toBe(agreed + strange.toString('latin1'));
    expect(texts).toEqual(['clear']);
  });

  test('a backend that dies in the middle of a message takes only itself away', async () => {
    const { texts, port } = await startBoth((socket) => {
      socket.send('{"a":1}', { fin: false }, () => socket.terminate());
    });
    const client = connect(port);
    client.on('error', () => {});
    expect((await once(client, 'close'))[0]).toBe(1006);
    expect(texts).toEqual([]);
  });
});
