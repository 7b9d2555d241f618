import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import compression from 'compression';
import { createDemoA1111, type DemoA1111 } from '../../examples/demo-backend.js';
import { call, getJson, post } from '../helpers/client.js';
import { type EventClient, openEvents, statusOf } from '../helpers/event-client.js';
import type { GatewayOptions } from '../helpers/gateway.js';
import { type KeptJobs, startWithKeptJobs, until } from '../helpers/kept-jobs.js';
import { tempFolders } from '../helpers/temp-folder.js';

const newFolder = tempFolders();

let demo: DemoA1111;
let kept: KeptJobs;
let clients: EventClient[];

beforeEach(() => {
  demo = createDemoA1111({ generationMs: 0 });
  clients = [];
});

afterEach(async () => {
  demo.state.release();
  for (const client of clients) client.request.destroy();
  await kept.gateway.close();
  await demo.close();
});

const byHeader = { user: (req: IncomingMessage) => req.headers['x-user'] as string | undefined };

async function start(options: GatewayOptions = {}): Promise<void> {
  kept = await startWithKeptJobs(await newFolder(), { a1111: await demo.listen(), headAfter: 0, ...options });
}

function open(path = '/sdapi/v1/jobs/events', headers: Record<string, string> = {}): EventClient {
  const client = openEvents(kept.gateway.url + path, headers);
  clients.push(client);
  return client;
}

/** A stream whose first frame has come: what happens from now on is told. */
async function opened(path?: string, headers?: Record<string, string>): Promise<EventClient> {
  const client = open(path, headers);
  await client.until(/^retry: 2000\n/);
  return client;
}

const txt2img = (prompt = 'a lighthouse', headers = {}) =>
  post(`${kept.gateway.url}/sdapi/v1/txt2img`, { prompt, steps: 20 }, { headers });

async function generate(prompt?: string, headers = {}): Promise<string> {
  const id = (await txt2img(prompt, headers).head).headers['x-job-id'] as string;
  await kept.gateway.ended(id);
  return id;
}

/** Starts a generation that stands still at the backend. */
async function startRunning(prompt = 'running', headers = {}): Promise<string> {
  demo.state.hold(5);
  const held = once(demo.state, 'held');
  const request = txt2img(prompt, headers);
  await held;
  return (await request.head).headers['x-job-id'] as string;
}

const inList = async (id: string): Promise<unknown> =>
  (await getJson<{ id: string }[]>(`${kept.gateway.url}/sdapi/v1/jobs`)).find((job) => job.id === id);

describe('all jobs', () => {
  test('the head is that of a stream that nobody keeps back or changes', async () => {
    await start();
    const client = open();
    expect(await client.head).toMatchObject({
      status: 200,
      headers: {
        'content-type': 'text/event-stream',
        'cache-control': 'no-store, no-transform',
        'x-accel-buffering': 'no',
        'x-content-type-options': 'nosniff',
      },
    });
    // From the first moment on, a client that loses its connection can tell where it was.
    await client.until(/^retry: 2000\nid: [0-9a-f]{16}-0\n\n/);
    const head = await call(`${kept.gateway.url}/sdapi/v1/jobs/events`, { method: 'HEAD' }).answer;
    expect([head.status, head.headers['content-type'], head.body.length]).toEqual([
      200,
      'text/event-stream',
      0,
    ]);
  });

  test('a job is told of when it is made, when it runs, and when it ends, as the list has it', async () => {
    await start();
    const client = await opened();
    const id = await generate('snow "☃"\nand a line');
    const end = await client.next(statusOf(id, 'Completed'));
    expect(client.events.map(({ event, data }) => [event, data.status])).toEqual([
      ['status', 'Pending'],
      ['status', 'Processing'],
      ['status', 'Completed'],
    ]);
    expect(end.data).toEqual(await inList(id));
    expect(end.data).toMatchObject({
      image_urls: [`/sdapi/v1/job/${id}/images/0`],
      prompt: 'snow "☃"\nand a line',
    });
    expect(client.lastEventId).toBe(end.id);
    expect(new Set(client.events.map((event) => event.id)).size).toBe(3);
  });

  test('addresses begin with the mount path', async () => {
    await start({ mount: '/tracker' });
    const client = await opened('/tracker/sdapi/v1/jobs/events');
    await post(`${kept.gateway.url}/tracker/sdapi/v1/txt2img`, { prompt: 'p' }).answer;
    const { data } = await client.next(({ data: { status } }) => status === 'Completed');
    expect(data.image_urls).toEqual([`/tracker/sdapi/v1/job/${data.id}/images/0`]);
  });

  test('a job that is removed is told of by its id', async () => {
    await start();
    const job = await kept.keepJob(1);
    const client = await opened();
    await kept.gateway.tracker.jobs.remove(job.id);
    const removed = await client.next(({ event }) => event === 'removed');
    expect(removed).toEqual({ event: 'removed', id: expect.any(String), data: { id: job.id } });
  });

  test('those that wait are told of again when they move up', async () => {
    await start();
    const running = await startRunning();
    const client = await opened();
    const [second, third] = [txt2img('second'), txt2img('third')];
    const ids: string[] = [];
    for (const { head } of [second, third]) ids.push((await head).headers['x-job-id'] as string);
    const at = (id: string, position: number) =>
      client.next(
        ({ data }) => data.id === id && data.queue_position === position && data.status === 'Pending',
      );
    await at(ids[0] as string, 1);
    await at(ids[1] as string, 2);
    await kept.gateway.tracker.jobs.cancel(ids[0] as string);
    const moved = await at(ids[1] as string, 1);
    expect(moved.id).toBe(client.lastEventId);
    expect(moved.data).toEqual(await inList(ids[1] as string));
    await kept.gateway.tracker.jobs.cancel(ids[1] as string);
    demo.state.release();
    await kept.gateway.ended(running);
  });

  test('everybody hears of their own jobs, an admin of all', async () => {
    await start({ ...byHeader, admins: ['root'] });
    const [ann, bob, root] = await Promise.all(
      ['ann', 'bob', 'root'].map((user) => opened(undefined, { 'X-User': user })),
    );
    const anns = await generate('ann’s', { 'X-User': 'ann' });
    const bobs = await generate('bob’s', { 'X-User': 'bob' });
    await Promise.all([
      ann?.next(statusOf(anns, 'Completed')),
      bob?.next(statusOf(bobs, 'Completed')),
      root?.next(statusOf(bobs, 'Completed')),
    ]);
    await kept.gateway.tracker.jobs.remove(anns);
    await Promise.all([ann, root].map((client) => client?.next(({ event }) => event === 'removed')));
    const last = await generate('bob’s last', { 'X-User': 'bob' });
    await bob?.next(statusOf(last, 'Completed'));
    const seen = (client: EventClient | undefined) => [...new Set(client?.events.map(({ data }) => data.id))];
    expect([seen(ann), seen(bob), seen(root)]).toEqual([[anns], [bobs, last], [anns, bobs, last]]);
    expect((await open().head).status).toBe(403);
    const resumed = await opened(undefined, {
      'X-User': 'ann',
      'Last-Event-ID': bob?.lastEventId?.replace(/-\d+$/, '-0') as string,
    });
    await generate('ann’s last', { 'X-User': 'ann' });
    await resumed.next(({ data }) => data.prompt === 'ann’s last' && data.status === 'Completed');
    expect(resumed.text).not.toContain('bob’s');
  });

  test('with compression() in front, events come at once', async () => {
    await start({ front: (app) => void app.use(compression({ threshold: 0 })) });
    const client = await opened(undefined, { 'Accept-Encoding': 'gzip' });
    expect((await client.head).headers['content-encoding']).toBeUndefined();
    const id = await generate();
    await client.next(statusOf(id, 'Completed'));
  });

  test.each(['GET', 'HEAD'])('a client that leaves leaves nothing behind (%s)', async (method) => {
    await start();
    const { events } = kept.gateway.tracker;
    const before = events.eventNames().map((name) => events.listenerCount(name));
    if (method === 'HEAD') {
      await call(`${kept.gateway.url}/sdapi/v1/jobs/events`, { method }).answer;
    } else {
      const client = await opened();
      expect(events.listenerCount('progress')).toBe(1);
      client.request.destroy();
      await until(() => events.listenerCount('progress') === 0);
    }
    expect(events.eventNames().map((name) => events.listenerCount(name))).toEqual(before);
  });

  test('one caller may have 32 streams; with one of them gone there is room again', async () => {
    await start(byHeader);
    const ann = { 'X-User': 'ann' };
    const all = await Promise.all(Array.from({ length: 32 }, () => opened(undefined, ann)));
    const refused = await open(undefined, ann).answer;
    expect([refused.status, refused.headers['retry-after'], JSON.parse(refused.body.toString())]).toEqual([
      429,
      '10',
      { error: 'Expected at most 32 streams of events at once from one caller' },
    ]);
    await opened(undefined, { 'X-User': 'bob' });
    all[0]?.request.destroy();
    await until(async () => (await open(undefined, ann).head).status === 200);
  });
});

describe('a client that comes again', () => {
  test('is told of what it has missed, each job as it is now, and of nothing twice', async () => {
    await start();
    const gone = await kept.keepJob(1);
    const first = await opened();
    const seen = await generate('seen');
    await first.next(statusOf(seen, 'Completed'));
    first.request.destroy();
    await first.ended;
    const missed = await generate('missed');
    await kept.gateway.tracker.jobs.remove(gone.id);
    const second = await opened(undefined, { 'Last-Event-ID': first.lastEventId as string });
    await second.next(({ event }) => event === 'removed');
    expect(second.events.map(({ event, data }) => [event, data.id, data.status])).toEqual([
      ['status', missed, 'Completed'],
      ['removed', gone.id, undefined],
    ]);
    const third = await opened(undefined, { 'Last-Event-ID': second.lastEventId as string });
    const next = await generate('next');
    await third.next(statusOf(next, 'Completed'));
    expect(new Set(third.events.map(({ data }) => data.id))).toEqual(new Set([next]));
  });

  test('can go on from the very first moment', async () => {
    await start();
    const first = await opened();
    await first.until(/\n\n/);
    first.request.destroy();
    const id = await generate();
    const second = await opened(undefined, { 'Last-Event-ID': first.lastEventId as string });
    await second.next(statusOf(id, 'Completed'));
  });

  test.each([
    ['of another process', '0123456789abcdef-0'],
    ['of the future', 'PROCESS-99'],
    ['that is none', 'abc'],
    ['with more in it', 'PROCESS-0-end'],
    ['with a number that is none', 'PROCESS--1'],
  ])('with an id %s has to load anew', async (_name, id) => {
    await start();
    const first = await opened();
    await first.until(/\n\n/);
    const prefix = first.lastEventId?.split('-')[0] as string;
    const second = await opened(undefined, { 'Last-Event-ID': id.replace('PROCESS', prefix) });
    const reset = await second.next(() => true);
    expect(reset).toEqual({ event: 'reset', id: first.lastEventId, data: {} });
  });

  test('too late has to load anew', async () => {
    await start();
    const first = await opened();
    await first.until(/\n\n/);
    const { events } = kept.gateway.tracker;
    const job = await kept.keepJob(1);
    for (let n = 0; n < 1_001; n += 1)
      events.emit('status', { ...job, id: `Job1${String(n).padStart(4, '0')}` });
    const last = (await first.next(statusOf('Job11000'))).id as string;
    const [process, number] = last.split('-');
    const late = await opened(undefined, {
      'Last-Event-ID': first.lastEventId?.replace(/-\d+$/, '-0') as string,
    });
    expect((await late.next(() => true)).event).toBe('reset');
    const inTime = await opened(undefined, { 'Last-Event-ID': `${process}-${Number(number) - 1_000}` });
    expect((await inTime.next(() => true)).data.id).toBe('Job10001');
    await inTime.next(statusOf('Job11000'));
    expect(inTime.events).toHaveLength(1_000);
  });
});

describe('one job', () => {
  const path = (id: string) => `/sdapi/v1/job/${id}/events`;

  test('is told of as it is, then of its end, and that ends the stream', async () => {
    await start();
    const id = await startRunning();
    const client = await opened(path(id));
    await client.next(statusOf(id, 'Processing'));
    const other = await txt2img('other').head;
    demo.state.release();
    await client.ended;
    await kept.gateway.ended(other.headers['x-job-id'] as string);
    expect(new Set(client.events.map(({ data }) => data.id))).toEqual(new Set([id]));
    // It may be seen as running before that is durable, and told.
    expect([...new Set(client.events.map(({ data }) => data.status))]).toEqual(['Processing', 'Completed']);
    expect(client.events.filter(({ data }) => data.status === 'Completed')).toHaveLength(1);
    expect(client.events.at(-1)?.data).toEqual(await inList(id));
    await expect(client.answer).resolves.toMatchObject({ status: 200 });
  });

  test('that has ended is told of once; an EventSource that comes again is told not to', async () => {
    await start();
    const job = await kept.keepJob(1);
    const first = open(path(job.id));
    await first.ended;
    expect(first.events.map(({ data }) => data.id)).toEqual([job.id]);
    const again = await open(path(job.id), { 'Last-Event-ID': first.lastEventId as string }).answer;
    expect([again.status, again.body.length]).toEqual([204, 0]);
    const other = open(path(job.id), { 'Last-Event-ID': '0123456789abcdef-7' });
    await other.ended;
    expect(other.events).toHaveLength(1);
  });

  test('that waits is told of with its position, and when that changes', async () => {
    await start();
    await startRunning();
    const ids: string[] = [];
    for (const prompt of ['second', 'third']) {
      ids.push((await txt2img(prompt).head).headers['x-job-id'] as string);
    }
    const client = await opened(path(ids[1] as string));
    await client.next(({ data }) => data.queue_position === 2);
    await kept.gateway.tracker.jobs.cancel(ids[0] as string);
    await client.next(({ data }) => data.queue_position === 1);
    demo.state.release();
    await client.ended;
    expect(new Set(client.events.map(({ data }) => data.id))).toEqual(new Set([ids[1]]));
  });

  test('that is removed meanwhile ends the stream', async () => {
    await start();
    const job = await kept.keepJob(1, { status: 'Processing' });
    const client = await opened(path(job.id));
    await client.next(statusOf(job.id, 'Processing'));
    kept.gateway.tracker.events.emit('removed', job);
    await client.ended;
    expect(client.events.at(-1)).toMatchObject({ event: 'removed', data: { id: job.id } });
  });

  test('that is not there, or not one’s own, is not found', async () => {
    await start({ ...byHeader, admins: ['root'] });
    const job = await kept.keepJob(1, { user: 'ann' });
    for (const [id, user, status] of [
      [job.id, 'ann', 200],
      [job.id, 'root', 200],
      [job.id, 'bob', 404],
      ['Unknown1', 'ann', 404],
    ] as const) {
      expect((await open(path(id), { 'X-User': user }).head).status).toBe(status);
    }
  });
});

describe('progress', () => {
  test('comes while somebody looks, without an id, and is in the list as long as the job runs', async () => {
    await start();
    const client = await opened();
    const id = await startRunning();
    const { data, id: none } = await client.next(({ event }) => event === 'progress');
    expect(none).toBeUndefined();
    expect(data).toMatchObject({ id, step: 5, steps: 20 });
    expect(data.progress).toBeGreaterThan(0);
    expect(await inList(id)).toMatchObject({ progress: data.progress });
    expect(await getJson(`${kept.gateway.url}/sdapi/v1/job/${id}`)).toMatchObject({
      progress: data.progress,
    });
    demo.state.release();
    const end = await client.next(statusOf(id, 'Completed'));
    expect(end.data).not.toHaveProperty('progress');
    expect(await inList(id)).toEqual(end.data);
    const late = await opened(undefined, { 'Last-Event-ID': end.id as string });
    await generate('another');
    await late.next(({ data: { status } }) => status === 'Completed');
    expect(late.text).not.toContain(id);
  });

  test('nobody else is told of it', async () => {
    await start(byHeader);
    const [ann, bob] = await Promise.all(['ann', 'bob'].map((user) => opened(undefined, { 'X-User': user })));
    await startRunning('ann’s', { 'X-User': 'ann' });
    await ann?.next(({ event }) => event === 'progress');
    demo.state.release();
    await generate('bob’s', { 'X-User': 'bob' });
    await bob?.next(({ data }) => data.status === 'Completed');
    expect(bob?.text).not.toContain('event: progress');
  });

  test('the host hears of it as well', async () => {
    await start();
    const told = once(kept.gateway.tracker.events, 'progress');
    const id = await startRunning();
    expect(await told).toEqual([expect.objectContaining({ id }), expect.objectContaining({ step: 5 })]);
  });
});

test('close() ends all streams, and opens none any more', async () => {
  await start();
  const running = await kept.keepJob(1, { status: 'Processing' });
  const streams = await Promise.all([opened(), opened(`/sdapi/v1/job/${running.id}/events`)]);
  await kept.gateway.tracker.close();
  for (const { answer } of streams) await expect(answer).resolves.toMatchObject({ status: 200 });
  const { events } = kept.gateway.tracker;
  expect(events.listenerCount('progress')).toBe(0);
  expect((await open().answer).status).toBe(503);
});
