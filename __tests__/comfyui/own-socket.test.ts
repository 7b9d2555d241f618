import { EventEmitter, once } from 'node:events';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { type WebSocket, WebSocketServer } from 'ws';
import { OwnSocket } from '../../lib/comfyui/own-socket.js';
import type { RequestFields } from '../../lib/job.js';
import { RunningJob } from '../../lib/jobs/running-job.js';
import { makeJob } from '../helpers/job-records.js';

interface Peer {
  readonly socket: WebSocket;
  readonly req: IncomingMessage;
}

let backend: Server;
let url: URL;
let refusing: boolean;
let sockets: WebSocketServer;
/** `connected` with a peer, `refused`, `disconnected`. */
let seen: EventEmitter;
let texts: string[];
let own: OwnSocket;
const running: RunningJob[] = [];

beforeEach(async () => {
  refusing = false;
  seen = new EventEmitter();
  texts = [];
  sockets = new WebSocketServer({ noServer: true });
  backend = createServer();
  backend.on('upgrade', (req: IncomingMessage, connection: Socket, head: Buffer) => {
    if (refusing) {
      connection.end('HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n\r\n', () =>
        seen.emit('refused'),
      );
      return;
    }
    sockets.handleUpgrade(req, connection, head, (socket) => {
      socket.once('close', () => seen.emit('disconnected'));
      seen.emit('connected', { socket, req } satisfies Peer);
    });
  });
  backend.listen(0, '127.0.0.1');
  await once(backend, 'listening');
  const { port } = backend.address() as AddressInfo;
  url = new URL(`http://ann:p%40ss@127.0.0.1:${port}/base/`);
  own = new OwnSocket({ url, onText: (text) => texts.push(text) });
});

afterEach(async () => {
  await Promise.all(running.splice(0).map((job) => job.complete({ output_paths: [] })));
  for (const socket of sockets.clients) socket.terminate();
  await new Promise((resolve) => backend.close(resolve));
});

function makeRunning(number: number, request: RequestFields = {}): RunningJob {
  const record = makeJob(number, { backend: 'comfyui', status: 'Pending', prompt_id: `p${number}`, request });
  const job = new RunningJob(record, async () => true);
  running.push(job);
  return job;
}

async function connected(): Promise<Peer> {
  const [peer] = await once(seen, 'connected');
  return peer;
}

const connections = () =>
  new Promise<number>((resolve) => backend.getConnections((_error, count) => resolve(count)));

describe('our own socket', () => {
  test('is open, under a name of ours, while there is a job without a client', async () => {
    const connecting = connected();
    const [one, two] = [makeRunning(1), makeRunning(2)];
    own.serve(one);
    own.serve(two);
    const { socket, req } = await connecting;
    expect(req.url).toMatch(/^\/base\/ws\?clientId=job-tracker-[-0-9a-f]{36}$/);
    expect(req.headers.authorization).toBe(`Basic ${Buffer.from('ann:p@ss').toString('base64')}`);
    expect(req.headers['sec-websocket-extensions']).toBeUndefined();
    socket.send(Buffer.alloc(100_000));
    socket.send('{"type":"status"}');
    socket.ping();
    await once(socket, 'pong');
    expect(texts).toEqual(['{"type":"status"}']);
    expect(await connections()).toBe(1);
    await one.complete({ output_paths: [] });
    socket.ping();
    await once(socket, 'pong');
    const gone = once(seen, 'disconnected');
    await two.complete({ output_paths: [] });
    await gone;
  });

  test('is not opened for a job whose client listens by itself, or that is over', async () => {
    own.serve(makeRunning(1, { client_id: 'c' }));
    const over = makeRunning(2);
    await over.complete({ output_paths: [] });
    own.serve(over);
    const connecting = connected();
    const last = makeRunning(3);
    own.serve(last);
    await connecting;
    expect(await connections()).toBe(1);
  });

  test('is one, also where the first job is over before it could be opened', async () => {
    let opened = 0;
    seen.on('connected', () => {
      opened += 1;
    });
    const connecting = connected();
    own.serve({ request: {}, ended: false, over: Promise.resolve() } as unknown as RunningJob);
    // The job's end is known by then, and the socket is not there yet.
    await Promise.resolve();
    const job = makeRunning(1);
    own.serve(job);
    const { socket } = await connecting;
    socket.ping();
    await once(socket, 'pong');
    expect(opened).toBe(1);
    const gone = once(seen, 'disconnected');
    await job.complete({ output_paths: [] });
    await gone;
    expect(sockets.clients.size).toBe(0);
  });

  test('is opened again when ComfyUI comes back, and not once the last job is over', async () => {
    refusing = true;
    const refused = once(seen, 'refused');
    const job = makeRunning(1);
    own.serve(job);
    await refused;
    refusing = false;
    const first = await connected();
    first.socket.send('hello');
    const again = connected();
    first.socket.terminate();
    const second = await again;
    expect(second.req.url).toBe(first.req.url);
    const gone = once(seen, 'disconnected');
    // It breaks, and the last job ends before it is there again.
    second.socket.terminate();
    await gone;
    await job.complete({ output_paths: [] });
    const other = connected();
    own.serve(makeRunning(2));
    await other;
    expect(await connections()).toBe(1);
  });

  test('a job that is left to the next process needs it no more', async () => {
    const connecting = connected();
    const job = makeRunning(1);
    own.serve(job);
    await connecting;
    const gone = once(seen, 'disconnected');
    job.park();
    await gone;
  });

  test('the last job ends while the connection is being made: nobody hears of it', async () => {
    const job = makeRunning(1);
    own.serve(job);
    await job.complete({ output_paths: [] });
    const connecting = connected();
    own.serve(makeRunning(2));
    await connecting;
    while ((await connections()) > 1) await new Promise((resolve) => setImmediate(resolve));
  });
});
