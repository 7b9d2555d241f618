import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import type { Job } from '../../lib/job.js';
import { createJobEvents, type JobEvents } from '../../lib/jobs/job-events.js';
import { LiveEvents } from '../../lib/live/live-events.js';
import { openEvents } from '../helpers/event-client.js';
import { fakeOnly } from '../helpers/fake-timers.js';
import { makeJob } from '../helpers/job-records.js';
import { until } from '../helpers/kept-jobs.js';

const everybody = { name: undefined, isAdmin: true };

let events: JobEvents;
let live: LiveEvents;
let server: Server;
let positions: Map<string, number>;
let jobs: Map<string, Job>;
let url: string;

beforeEach(async () => {
  events = createJobEvents();
  positions = new Map();
  jobs = new Map();
  live = new LiveEvents({
    events,
    queue: {
      get positions() {
        return positions;
      },
    },
    jobs: { get: async (id) => jobs.get(id) },
    stateOf: (id) => ({ queuePosition: positions.get(id) }),
    logger: console,
  });
  server = createServer((req, res) => {
    const refusal = live.open(res, {
      identity: everybody,
      mountPath: '',
      name: req.headers['x-caller'] as string,
      jobId: req.url === '/' ? undefined : req.url?.slice(1),
      lastEventId: undefined,
    });
    if (refusal) res.writeHead(refusal.status).end();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
});

afterEach(async () => {
  jest.useRealTimers();
  live.close();
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});

/** A client that reads nothing until it is told to. */
async function slowClient(path = '/'): Promise<Socket> {
  const socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
  socket.on('error', () => {});
  socket.pause();
  socket.write(`GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`);
  await until(() => events.listenerCount('progress') > 0);
  return socket;
}

/** Reads on until the text matches. */
function readUntil(socket: Socket, pattern: RegExp): Promise<string> {
  return new Promise((resolve) => {
    let text = '';
    const take = (chunk: Buffer) => {
      text += chunk.toString('latin1');
      if (!pattern.test(text)) return;
      socket.off('data', take);
      resolve(text);
    };
    socket.on('data', take);
    socket.resume();
  });
}

const rss = () => process.memoryUsage().rss;
const long = 'x'.repeat(10_000);

describe('a client that does not read', () => {
  test('is held little for, is told nothing more, and then to load anew; others are told everything', async () => {
    const slow = await slowClient();
    const quick = openEvents(url, { 'X-Caller': 'quick' });
    await quick.until(/\n\n/);
    const count = 3_000;
    const before = rss();
    for (let n = 0; n < count; n += 1) {
      events.emit('status', makeJob(n, { prompt: long }));
      if (n % 20 === 0) await quick.next(({ data }) => data.id === makeJob(n).id);
    }
    // 30 MB have been told.
    expect(rss() - before).toBeLessThan(200 * 1024 * 1024);
    await quick.next(({ data }) => data.id === makeJob(count - 1).id);
    expect(quick.events).toHaveLength(count);
    const text = await readUntil(slow, /event: reset\n/);
    const told = text.match(/event: status\n/g)?.length ?? 0;
    expect(told).toBeGreaterThan(10);
    expect(told).toBeLessThan(count - 100);
    // What is told after that is told again.
    const afterwards = readUntil(slow, /"prompt":"afterwards"/);
    events.emit('status', makeJob(1, { prompt: 'afterwards' }));
    await afterwards;
    slow.destroy();
    quick.request.destroy();
  });

  test('is taken for gone after a minute', async () => {
    fakeOnly('setTimeout', 'clearTimeout');
    const slow = await slowClient();
    for (let n = 0; n < 3_000; n += 1) {
      events.emit('status', makeJob(n, { prompt: long }));
      if (n % 100 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    expect(events.listenerCount('progress')).toBe(1);
    jest.advanceTimersByTime(60_000);
    await until(() => events.listenerCount('progress') === 0);
    slow.destroy();
  });

  test('misses progress first', async () => {
    const slow = await slowClient();
    const job = makeJob(1, { status: 'Processing' });
    const text = 'y'.repeat(1_000);
    for (let n = 0; n < 30_000; n += 1) {
      events.emit('progress', job, { progress: n / 30_000, text });
      if (n % 1_000 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    events.emit('status', makeJob(1, { status: 'Completed' }));
    const got = await readUntil(slow, /"status":"Completed"/);
    expect(got).not.toContain('event: reset');
    expect(got.match(/event: progress/g)?.length).toBeLessThan(29_000);
    slow.destroy();
  });

  test('does not hold up the end', async () => {
    fakeOnly('setTimeout', 'clearTimeout');
    const slow = await slowClient();
    for (let n = 0; n < 3_000; n += 1) events.emit('status', makeJob(n, { prompt: long }));
    live.close();
    expect(events.listenerCount('progress')).toBe(1);
    jest.advanceTimersByTime(5_000);
    await until(() => events.listenerCount('progress') === 0);
    slow.destroy();
  });
});

describe('time', () => {
  test('a comment every 15 seconds keeps the connection alive', async () => {
    fakeOnly('setInterval', 'clearInterval');
    const client = openEvents(url);
    await client.until(/\n\n/);
    expect(client.text).not.toMatch(/^:/m);
    jest.advanceTimersByTime(14_999);
    jest.advanceTimersByTime(1);
    await client.until(/\n\n:\n\n$/);
    jest.advanceTimersByTime(15_000);
    await client.until(/\n\n:\n\n:\n\n$/);
    expect(jest.getTimerCount()).toBe(1);
    client.request.destroy();
    await until(() => jest.getTimerCount() === 0);
  });

  test('after half an hour a stream ends, so that its client shows its login again', async () => {
    fakeOnly('setTimeout', 'clearTimeout');
    const client = openEvents(url);
    await client.until(/\n\n/);
    jest.advanceTimersByTime(30 * 60_000);
    await expect(client.answer).resolves.toMatchObject({ status: 200 });
    await until(() => jest.getTimerCount() === 0);
  });
});

describe('positions in the queue', () => {
  const waiting = Array.from({ length: 150 }, (_, n) => makeJob(n + 1));
  const wait = (all: readonly Job[]) => {
    positions = new Map(all.map(({ id }, index) => [id, index + 1]));
    live.queueMoved();
  };

  beforeEach(() => {
    for (const job of waiting) jobs.set(job.id, job);
  });

  test('are told once a second at most, the newest only, and of the first hundred', async () => {
    const client = openEvents(url);
    await client.until(/\n\n/);
    wait(waiting);
    await client.next(({ data }) => data.queue_position === 100);
    const told = performance.now();
    for (let n = 1; n <= 20; n += 1) {
      wait(waiting.slice(n));
      await new Promise((resolve) => setImmediate(resolve));
    }
    await client.next(({ data }) => data.id === 'Job00021' && data.queue_position === 1);
    expect(performance.now() - told).toBeGreaterThan(900);
    const last = await client.next(({ data }) => data.queue_position === 100);
    expect(last.data.id).toBe('Job00120');
    expect(client.events).toHaveLength(200);
    client.request.destroy();
  });

  test('who looks at one job is told of it wherever it stands', async () => {
    const client = openEvents(`${url}Job00150`);
    await client.until(/status/);
    wait(waiting);
    await client.next(({ data }) => data.id === 'Job00150' && data.queue_position === 150);
    expect(new Set(client.events.map(({ data }) => data.id))).toEqual(new Set(['Job00150']));
    client.request.destroy();
  });

  test('nobody asks the store while nobody looks', async () => {
    let asked = 0;
    jobs.get = (id) => {
      asked += 1;
      return Map.prototype.get.call(jobs, id);
    };
    wait(waiting);
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(asked).toBe(0);
  });
});

test('there are 500 streams at most', async () => {
  const clients = await Promise.all(
    Array.from({ length: 500 }, async (_, n) => {
      const client = openEvents(url, { 'X-Caller': `user ${n % 50}` });
      await client.until(/\n\n/);
      return client;
    }),
  );
  const refused = openEvents(url, { 'X-Caller': 'another' });
  expect((await refused.head).status).toBe(503);
  for (const client of clients) client.request.destroy();
  await until(() => events.listenerCount('progress') === 0);
  const next = openEvents(url, { 'X-Caller': 'another' });
  expect((await next.head).status).toBe(200);
  next.request.destroy();
});

test('a job that ends while it is looked at is told of as it is then', async () => {
  let answer: (job: Job) => void = () => {};
  const asked = new Promise<void>((resolveAsked) => {
    jobs.get = (() => {
      resolveAsked();
      return new Promise((resolve) => {
        answer = resolve;
      });
    }) as never;
  });
  const client = openEvents(`${url}Job00001`);
  await asked;
  events.emit('status', makeJob(1, { status: 'Completed' }));
  answer(makeJob(1, { status: 'Processing' }));
  await client.ended;
  expect(client.events.map(({ data }) => data.status)).toEqual(['Completed']);
});

test('a store that cannot be asked ends the stream', async () => {
  const warnings: unknown[] = [];
  const warn = jest.spyOn(console, 'warn').mockImplementation((...parts) => void warnings.push(parts));
  jobs.get = () => {
    throw new Error('gone');
  };
  const client = openEvents(`${url}Job00001`);
  await client.ended;
  expect(warnings).toEqual([['The events of job Job00001 cannot be told: gone']]);
  warn.mockRestore();
});
