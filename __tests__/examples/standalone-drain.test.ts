import { once } from 'node:events';
import http, { createServer, type IncomingMessage, type RequestListener, type Server } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { expect, test } from '@jest/globals';
import { drainable } from '../../examples/standalone/drain.js';
import { serveWithoutUpgrade } from '../../lib/http/plain-upgrade.js';
import { call } from '../helpers/client.js';

/** Longer than a test may take. */
const PATIENT_MS = 60_000;

async function start(answer: RequestListener): Promise<{ server: Server; url: string }> {
  const server = createServer(answer).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { server, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` };
}

test('an answer that is still being sent arrives whole', async () => {
  const size = 50_000_000;
  const { server, url } = await start((_req, res) => {
    res.setHeader('Content-Length', size);
    res.end(Buffer.alloc(size));
  });
  const drain = drainable(server, PATIENT_MS);
  const request = call(url, { unread: true });
  const incoming = await request.incoming;
  const drained = drain();
  let received = 0;
  incoming.on('data', (chunk: Buffer) => {
    received += chunk.length;
  });
  await once(incoming, 'end');
  expect(received).toBe(size);
  await drained;
});

test('a connection that could be used again ends with its answer', async () => {
  let endNow = () => {};
  const { server, url } = await start((_req, res) => {
    res.write('the last ');
    endNow = () => void res.end('answer');
  });
  server.keepAliveTimeout = 0;
  const drain = drainable(server, PATIENT_MS);
  const agent = new http.Agent({ keepAlive: true });
  const [incoming] = (await once(http.get(url, { agent }), 'response')) as [IncomingMessage];
  const drained = drain();
  endNow();
  expect(String(Buffer.concat(await incoming.toArray()))).toBe('the last answer');
  await drained;
  agent.destroy();
});

test('what has not ended when the patience has is broken off', async () => {
  const { server, url } = await start((_req, res) => void res.write('never '));
  const drain = drainable(server, 10);
  const request = call(url);
  await request.head;
  await drain();
  await expect(request.answer).rejects.toThrow();
});

test('a connection that is handed back to its server again and again counts once', async () => {
  const { server, url } = await start((_req, res) => void res.end());
  const drain = drainable(server, PATIENT_MS);
  server.on('upgrade', serveWithoutUpgrade);
  const connected = once(server, 'connection') as Promise<[Socket]>;
  const agent = new http.Agent({ keepAlive: true });
  const headers = { Connection: 'Upgrade', Upgrade: 'h2c' };
  const listeners: number[] = [];
  for (let i = 0; i < 3; i += 1) {
    const [incoming] = (await once(http.get(url, { agent, headers }), 'response')) as [IncomingMessage];
    await once(incoming.resume(), 'end');
    const [socket] = await connected;
    listeners.push(socket.listenerCount('close'));
  }
  expect(listeners[1]).toBe(listeners[0]);
  expect(listeners[2]).toBe(listeners[0]);
  await drain();
  agent.destroy();
});
