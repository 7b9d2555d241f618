import { once } from 'node:events';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { createDemoA1111, type DemoA1111 } from '../examples/demo-backend.js';
import { LowdbJobStore } from '../lib/stores/lowdb-job-store.js';
import { type Answer, call, post } from './helpers/client.js';
import { type Gateway, startGateway } from './helpers/gateway.js';
import { collectLog, makeJob } from './helpers/job-records.js';
import { until } from './helpers/kept-jobs.js';
import { tempFolders } from './helpers/temp-folder.js';

const newFolder = tempFolders();

let demo: DemoA1111;
let gateway: Gateway;
let store: LowdbJobStore;

beforeEach(async () => {
  demo = createDemoA1111({ generationMs: 0 });
  const dir = await newFolder();
  store = new LowdbJobStore({ folder: dir, logger: collectLog() });
  gateway = await startGateway({ dir, store, a1111: await demo.listen(), headAfter: 0 });
});

afterEach(async () => {
  demo.state.release();
  await gateway.close();
  await demo.close();
});

async function startRunning(): Promise<string> {
  demo.state.hold(5);
  const held = once(demo.state, 'held');
  const { head } = post(`${gateway.url}/sdapi/v1/txt2img`, { prompt: 'p', steps: 20, width: 64, height: 64 });
  await held;
  return (await head).headers['x-job-id'] as string;
}

const jobUrl = (id: string, query = '') => `${gateway.url}/sdapi/v1/job/${id}${query}`;
const json = ({ body }: Answer) => JSON.parse(body.toString());

/** Asks for a job, and resolves once the request has come as far as the store. */
async function asked(id: string, query: string, headers: Record<string, string> = {}) {
  const { get } = store;
  let reads = 0;
  store.get = (one) => {
    reads += 1;
    return get.call(store, one);
  };
  const request = call(jobUrl(id, query), { headers });
  // Once for whose it is, once for how it is.
  await until(() => reads === 2);
  store.get = get;
  return request;
}

describe('a read that waits', () => {
  test.each([
    ['?wait=25', {}, undefined],
    ['?wait=25s', {}, undefined],
    ['?wait=2m', {}, undefined],
    ['?wait=300', {}, undefined],
    ['', { Prefer: 'wait=25' }, 'wait=25'],
    ['', { Prefer: 'respond-async, Wait=25' }, 'wait=25'],
    ['', { Prefer: 'wait=100000' }, 'wait=300'],
    ['?wait=20&images=none', { Prefer: 'wait=25' }, undefined],
  ])('%s %j is answered when the job has ended', async (query, headers, applied) => {
    const id = await startRunning();
    const request = await asked(id, query, headers as Record<string, string>);
    let isOver = false;
    void request.head.then(() => {
      isOver = true;
    });
    await call(jobUrl(id)).answer;
    expect(isOver).toBe(false);
    demo.state.release();
    const answer = await request.answer;
    expect(answer.status).toBe(200);
    expect(answer.headers['preference-applied']).toBe(applied);
    expect(json(answer)).toMatchObject({ id, status: 'Completed', finished_at: expect.any(Number) });
    expect(json(answer).images).toHaveLength(query.includes('none') ? 0 : 1);
  });

  test.each([
    ['?wait=0', {}],
    ['?wait=1ms', {}],
    ['', { Prefer: 'wait=0' }],
    ['', { Prefer: 'wait=-5' }],
    ['', { Prefer: 'wait=1.5' }],
    ['', { Prefer: 'wait=soon' }],
    ['', { Prefer: 'respond-async' }],
    ['?wait=', {}],
  ])('%s %j gets the job as it is, after its time', async (query, headers) => {
    const id = await startRunning();
    const answer = await call(jobUrl(id, query), { headers: headers as Record<string, string> }).answer;
    expect(json(answer)).toMatchObject({ id, status: 'Processing', images: [] });
  });

  test('a job that has ended is not waited for', async () => {
    const id = await startRunning();
    demo.state.release();
    await gateway.ended(id);
    const answer = await call(jobUrl(id), { headers: { Prefer: 'wait=300' } }).answer;
    expect([json(answer).status, answer.headers['preference-applied']]).toEqual(['Completed', 'wait=300']);
  });

  test('a job that fails has ended, too', async () => {
    const id = await startRunning();
    const request = await asked(id, '?wait=300');
    expect(await gateway.tracker.jobs.cancel(id)).toBe('cancelled');
    expect(json(await request.answer)).toMatchObject({ status: 'Failed', error: { code: 'cancelled' } });
  });

  test('a job that is removed meanwhile is not found', async () => {
    const job = makeJob(1, { status: 'Processing' });
    await store.insert(job);
    const request = await asked(job.id, '?wait=300');
    await store.remove(job.id);
    gateway.tracker.events.emit('removed', job);
    const answer = await request.answer;
    expect([answer.status, json(answer)]).toEqual([404, { error: 'Job not found' }]);
  });

  test.each([
    ['301', '"301"'],
    ['-1', '"-1"'],
    ['1.5', '"1.5"'],
    ['-5s', '"-5s"'],
    ['6m', '"6m"'],
    ['soon', '"soon"'],
    ['1e2', '"1e2"'],
    [' 5', '" 5"'],
    ['0x10', '"0x10"'],
    ['9'.repeat(400), `"${'9'.repeat(99)}`],
  ])('?wait=%s is 400', async (given, shown) => {
    const id = await startRunning();
    const answer = await call(jobUrl(id, `?wait=${encodeURIComponent(given)}`)).answer;
    expect([answer.status, json(answer)]).toEqual([
      400,
      {
        error: `Expected \`wait\` to be a whole number of seconds, or a duration such as "25s", up to 300 seconds, got ${shown}`,
      },
    ]);
  });

  test('several times is 400 as well', async () => {
    const id = await startRunning();
    const answer = await call(jobUrl(id, '?wait=1&wait=2')).answer;
    expect([answer.status, json(answer).error]).toEqual([400, expect.stringContaining('given once')]);
  });

  test('whoever leaves is not waited for: the job is not read once more', async () => {
    const id = await startRunning();
    const request = await asked(id, '?wait=300');
    request.request.destroy();
    await until(
      () => new Promise((resolve) => gateway.server.getConnections((_error, n) => resolve(n === 1))),
    );
    const { get } = store;
    let reads = 0;
    store.get = (one) => {
      reads += 1;
      return get.call(store, one);
    };
    demo.state.release();
    await once(gateway.tracker.events, 'completed');
    await new Promise((resolve) => setImmediate(resolve));
    expect(reads).toBe(0);
    expect(gateway.log).toEqual([]);
  });

  test('two hundred wait for one job', async () => {
    const warnings: Error[] = [];
    const collect = (warning: Error) => void warnings.push(warning);
    process.on('warning', collect);
    const id = await startRunning();
    const requests = Array.from({ length: 200 }, () => call(jobUrl(id, '?wait=300&images=none')));
    await until(
      () => new Promise((resolve) => gateway.server.getConnections((_error, n) => resolve(n === 201))),
    );
    demo.state.release();
    const answers = await Promise.all(requests.map(({ answer }) => answer));
    expect(new Set(answers.map((one) => json(one).status))).toEqual(new Set(['Completed']));
    process.off('warning', collect);
    expect(warnings).toEqual([]);
  });
});

describe('a tracker that is closed', () => {
  test('gives those who wait the end of their job', async () => {
    const id = await startRunning();
    const request = await asked(id, '?wait=300');
    const closing = gateway.tracker.close();
    demo.state.release();
    expect(json(await request.answer)).toMatchObject({ status: 'Completed' });
    await closing;
  });

  test('waits for nobody who waits for a job that it does not run', async () => {
    const job = makeJob(1, { status: 'Processing' });
    await store.insert(job);
    const request = await asked(job.id, '?wait=300');
    await gateway.tracker.close();
    expect(json(await request.answer)).toMatchObject({ id: job.id, status: 'Processing' });
    const late = await call(jobUrl(job.id, '?wait=300')).answer;
    expect(late.status).toBe(503);
  });
});
