import { once } from 'node:events';
import { type FileHandle, readdir, readFile } from 'node:fs/promises';
import http, { createServer, type IncomingMessage, type RequestListener, type Server } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import { WebSocket } from 'ws';
import { createDemoA1111 } from '../../examples/demo-backend.js';
import { drainable } from '../../examples/standalone/drain.js';
import { type Standalone, startStandalone } from '../../examples/standalone.js';
import { serveWithoutUpgrade } from '../../lib/http/plain-upgrade.js';
import { type Job, jobTracker } from '../../lib/index.js';
import { type Call, call, getJson, post } from '../helpers/client.js';
import { fileHandlePrototype } from '../helpers/file-handles.js';
import { until } from '../helpers/kept-jobs.js';
import { rawClient } from '../helpers/raw-http.js';
import { sampleImages } from '../helpers/sample-images.js';
import {
  answerWith,
  bigPng,
  gate,
  type ScriptedBackend,
  sendAnswer,
  startScriptedBackend,
} from '../helpers/scripted-backend.js';
import { startStandaloneProcess } from '../helpers/standalone-process.js';
import { tempFolders } from '../helpers/temp-folder.js';

const newFolder = tempFolders();
const portOf = (url: string) => Number(new URL(url).port);

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
  const drain = drainable(server);
  const request = call(url, { unread: true });
  const incoming = await request.incoming;
  const drained = drain.begin();
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
  const drain = drainable(server);
  const agent = new http.Agent({ keepAlive: true });
  const [incoming] = (await once(http.get(url, { agent }), 'response')) as [IncomingMessage];
  const drained = drain.begin();
  endNow();
  expect(String(Buffer.concat(await incoming.toArray()))).toBe('the last answer');
  await drained;
  agent.destroy();
});

test('what is broken off is no whole answer to any client', async () => {
  const { server, url } = await start((_req, res) => void res.write('never '));
  const drain = drainable(server);
  const request = rawClient(portOf(url), 'GET / HTTP/1.0\r\n\r\n');
  await request.until('never ');
  const drained = drain.begin();
  drain.breakOff();
  await drained;
  // HTTP/1.0: the end of the connection would be the regular end of the answer.
  expect(await request.ended).toBe('error');
});

test('a connection that is handed back to its server again and again counts once', async () => {
  const { server, url } = await start((_req, res) => void res.end());
  const drain = drainable(server);
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
  await drain.begin();
  agent.destroy();
});

describe('the gateway at its end', () => {
  const cleanups: (() => unknown)[] = [];
  const png = sampleImages.png as Buffer;
  let backend: ScriptedBackend;
  let dir: string;
  let warn: jest.Spied<typeof console.warn>;

  beforeEach(async () => {
    warn = jest.spyOn(console, 'warn').mockImplementation(() => {});
    dir = await newFolder();
    // It never answers.
    backend = await startScriptedBackend(() => {});
    cleanups.push(() => backend.close());
  });

  afterEach(async () => {
    for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
    jest.restoreAllMocks();
  });

  const env = () => ({ PORT: '0', TRACKER_DIR: dir, A1111_URL: backend.url });

  async function startWithin(drainMs: number): Promise<Standalone> {
    const gateway = await startStandalone(env(), { drainMs });
    cleanups.push(() => gateway.stop());
    return gateway;
  }

  const txt2img = (url: string, prompt: string) =>
    post(`${url}/sdapi/v1/txt2img`, { prompt, width: 64, height: 64, steps: 2 });

  /** Resolves once the gateway has no connection of a client left. */
  async function alone(client: Call, url: string): Promise<void> {
    client.request.destroy();
    await once(client.request, 'close');
    // The loss of a connection is noticed in the order of what happens to a server's connections.
    await call(`${url}/sdapi/v1/jobs`).answer;
  }

  /** What people find in jobs.json, by prompt. */
  async function jobsIn(folder: string): Promise<Readonly<Record<string, Job>>> {
    const jobs = JSON.parse(await readFile(join(folder, 'jobs.json'), 'utf8')) as Job[];
    return Object.fromEntries(jobs.map((job) => [job.prompt, job]));
  }

  async function expectFree(folder: string): Promise<void> {
    expect(await readdir(folder)).not.toContain('jobs.json.lock');
    const tracker = jobTracker({ dir: folder });
    await tracker.ready;
    await tracker.close();
  }

  const interrupted = (message: RegExp) => ({
    status: 'Failed',
    error: { code: 'interrupted', message: expect.stringMatching(message) },
  });

  test('a job that never ends, and those that wait behind it, are broken off and Failed', async () => {
    const { url, stop } = await startWithin(50);
    const first = txt2img(url, 'first');
    await first.head;
    await backend.received();
    const others = ['second', 'third'].map((prompt) => txt2img(url, prompt));
    await Promise.all(others.map(({ head }) => head));
    await stop();
    for (const { answer } of [first, ...others])
      await expect(answer).rejects.toMatchObject({ code: 'ECONNRESET' });
    expect(await jobsIn(dir)).toMatchObject({
      first: interrupted(/while this job was running/),
      second: interrupted(/while this job was waiting/),
      third: interrupted(/while this job was waiting/),
    });
    // None of them got the place that the first one had.
    expect(backend.bodies).toHaveLength(1);
    expect(warn.mock.calls.join()).toContain('3 job(s) are broken off');
    await expectFree(dir);
  });

  test('a job that never ends and whose client has left is Failed as well', async () => {
    const { url, stop } = await startWithin(50);
    const request = txt2img(url, 'left');
    await request.head;
    await alone(request, url);
    await stop();
    expect(await jobsIn(dir)).toMatchObject({ left: interrupted(/while this job was running/) });
    await expectFree(dir);
  });

  test('an answer that has begun and does not go on is interrupted, not the backend’s fault', async () => {
    const whole = answerWith([png, png]);
    backend.script = (res) => {
      res.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': whole.length });
      res.write(whole.subarray(0, whole.length - png.length));
    };
    const { url, stop } = await startWithin(200);
    const request = txt2img(url, 'half');
    const incoming = await request.incoming;
    await once(incoming, 'readable');
    await stop();
    await expect(request.answer).rejects.toMatchObject({ code: 'ECONNRESET' });
    const { half } = await jobsIn(dir);
    expect(half).toMatchObject(interrupted(/while this job was running/));
    expect(half?.output_paths).toHaveLength(1);
  });

  test('a client that takes nothing of its answer is broken off; its job is Completed', async () => {
    const whole = answerWith([bigPng(30_000_000)]);
    backend.script = (res) => sendAnswer(res, whole);
    const { url, stop } = await startWithin(100);
    const request = call(`${url}/sdapi/v1/txt2img`, {
      headers: { 'Content-Type': 'application/json' },
      body: '{"prompt":"unread"}',
      unread: true,
    });
    const incoming = await request.incoming;
    await until(async () => (await getJson<Job[]>(`${url}/sdapi/v1/jobs`))[0]?.status === 'Completed');
    await stop();
    incoming.resume();
    await expect(request.answer).rejects.toMatchObject({ code: 'ECONNRESET' });
    expect(await jobsIn(dir)).toMatchObject({ unread: { status: 'Completed' } });
    await expectFree(dir);
  });

  test('what ends in time is whole, and nobody waits longer than that', async () => {
    const hold = gate();
    backend.script = async (res) => {
      await hold.opened;
      sendAnswer(res, answerWith([png]));
    };
    const { url, stop } = await startWithin(60_000);
    const [left, stays] = [txt2img(url, 'left'), txt2img(url, 'stays')] as const;
    await Promise.all([left.head, stays.head]);
    await alone(left, url);
    const stopped = stop();
    expect(stop()).toBe(stopped);
    hold.open();
    await stopped;
    expect((await stays.answer).status).toBe(200);
    expect(await jobsIn(dir)).toMatchObject({
      left: { status: 'Completed' },
      stays: { status: 'Completed' },
    });
    expect(warn).not.toHaveBeenCalled();
  });

  test('a disk that is stuck is not waited for, which is said', async () => {
    const error = jest.spyOn(console, 'error').mockImplementation(() => {});
    const { url, stop } = await startStandalone(env(), { drainMs: 50 });
    const request = txt2img(url, 'stuck');
    await request.head;
    await backend.received();
    const handles = await fileHandlePrototype();
    const { datasync } = handles;
    const disk = gate();
    jest.spyOn(handles, 'datasync').mockImplementation(async function (this: FileHandle) {
      await disk.opened;
      return datasync.call(this);
    });
    jest.useFakeTimers({ doNotFake: ['nextTick', 'queueMicrotask', 'setImmediate', 'setInterval', 'Date'] });
    const stopped = stop().then(
      () => 'stopped',
      (reason: Error) => reason.message,
    );
    await jest.advanceTimersByTimeAsync(10_049);
    expect(await Promise.race([stopped, 'still waits'])).toBe('still waits');
    await jest.advanceTimersByTimeAsync(100);
    jest.useRealTimers();
    expect(await stopped).toBe('Jobs could not be ended within 10 s: their records may be incomplete');
    await expect(request.answer).rejects.toMatchObject({ code: 'ECONNRESET' });
    expect(error.mock.calls.join()).toContain('The store has not taken the ends of 1 interrupted job(s)');
    // Its process would have ended by now; this one lets the folder go before it is removed.
    disk.open();
    await until(async () => !(await readdir(dir)).includes('jobs.json.lock'));
  });

  test.each(['SIGTERM', 'SIGINT'] as const)(
    '%s to a process with all of that: it exits with 0',
    async (signal) => {
      const demo = createDemoA1111({ generationMs: 0 });
      const gateway = startStandaloneProcess({ ...env(), A1111_URL: await demo.listen() });
      cleanups.push(() => demo.close());
      demo.state.hold();
      cleanups.push(async () => {
        gateway.child.kill('SIGKILL');
        await gateway.ended;
      });
      const url = await gateway.listening();
      const agent = new http.Agent({ keepAlive: true });
      cleanups.push(() => agent.destroy());
      const [idle] = (await once(http.get(url, { agent }), 'response')) as [IncomingMessage];
      await once(idle.resume(), 'end');
      const webSocket = new WebSocket(`${url.replace('http', 'ws')}/queue/join`);
      await once(webSocket, 'open');
      const left = txt2img(url, 'left');
      await left.head;
      await alone(left, url);
      const [stays, waits] = [txt2img(url, 'stays'), txt2img(url, 'waits')];
      await Promise.all([stays.head, waits.head]);
      gateway.child.kill(signal);
      await once(webSocket, 'close');
      await gateway.saying('Stopping');
      demo.state.release();
      expect(JSON.parse((await stays.answer).body.toString()).images).toHaveLength(1);
      expect((await waits.answer).status).toBe(200);
      expect(await gateway.ended).toBe(0);
      expect(gateway.said.err).toBe('');
      const jobs = await jobsIn(dir);
      const ends = ['left', 'stays', 'waits'].map((prompt) => jobs[prompt]?.status);
      expect(ends).toEqual(['Completed', 'Completed', 'Completed']);
      await expectFree(dir);
    },
  );
});
