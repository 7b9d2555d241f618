import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { createProxyMiddleware } from 'http-proxy-middleware';
import { createDemoA1111, type DemoA1111 } from '../examples/demo-backend.js';
import type { Job, JobChange } from '../lib/index.js';
import { LowdbJobStore } from '../lib/stores/lowdb-job-store.js';
import { type Call, call, post } from './helpers/client.js';
import { type Gateway, type GatewayOptions, startGateway } from './helpers/gateway.js';
import { collectLog } from './helpers/job-records.js';
import { until } from './helpers/kept-jobs.js';
import { sampleImages } from './helpers/sample-images.js';
import { answerWith, sendAnswer, startScriptedBackend } from './helpers/scripted-backend.js';
import { tempFolders } from './helpers/temp-folder.js';

const newFolder = tempFolders();

let demo: DemoA1111;
let gateway: Gateway;

beforeEach(() => {
  demo = createDemoA1111({ generationMs: 0 });
});

afterEach(async () => {
  demo.state.release();
  await gateway.close();
  await demo.close();
});

const modes: Readonly<Record<string, (url: string) => GatewayOptions>> = {
  'forward mode': (a1111) => ({ a1111 }),
  'wrap mode': (target) => ({
    concurrency: 1,
    behind: (app) => app.use(createProxyMiddleware({ target })),
  }),
};

async function start(mode = 'forward mode', options: Partial<GatewayOptions> = {}): Promise<void> {
  const made = modes[mode]?.(await demo.listen());
  gateway = await startGateway({ dir: await newFolder(), headAfter: 0, ...made, ...options });
}

const txt2img = (prompt: string, fields: object = {}, headers = {}): Call =>
  post(
    `${gateway.url}/sdapi/v1/txt2img`,
    { prompt, steps: 20, width: 64, height: 64, ...fields },
    { headers },
  );
const idOf = async (request: Call): Promise<string> => (await request.head).headers['x-job-id'] as string;
const jobOf = async (id: string): Promise<Job> => (await gateway.tracker.jobs.get(id)) as Job;
const say = (what: string, options: Parameters<typeof call>[1] = {}) =>
  call(`${gateway.url}/sdapi/v1/${what}`, { method: 'POST', ...options }).answer;

async function startRunning(prompt = 'running', fields: object = {}, headers = {}): Promise<Call> {
  demo.state.hold(5);
  const held = once(demo.state, 'held');
  const request = txt2img(prompt, fields, headers);
  await held;
  return request;
}

describe.each(Object.keys(modes))('%s', (mode) => {
  test('an interrupt is written down with the job that runs, which completes with what its answer has', async () => {
    await start(mode);
    const before = txt2img('before');
    await before.answer;
    const beforeId = await idOf(before);
    await gateway.ended(beforeId);
    const request = await startRunning('running', { n_iter: 2 });
    const waiting = txt2img('waiting');
    const [id, waitingId] = [await idOf(request), await idOf(waiting)];
    demo.state.hold();
    expect((await say('interrupt')).status).toBe(200);
    expect((await request.answer).status).toBe(200);
    const job = await gateway.ended(id);
    expect(job).toMatchObject({ status: 'Completed', disturbed_by: 'interrupt' });
    expect(job.output_paths).toHaveLength(1);
    demo.state.release();
    await waiting.answer;
    for (const one of [beforeId, waitingId]) {
      expect(await gateway.ended(one)).toMatchObject({ status: 'Completed' });
      expect(await jobOf(one)).not.toHaveProperty('disturbed_by');
    }
    const shown = JSON.parse((await call(`${gateway.url}/sdapi/v1/job/${id}`).answer).body.toString());
    expect(shown).toMatchObject({ disturbed_by: 'interrupt' });
  });

  test('a skip as well; an interrupt after it says more, a skip after an interrupt does not', async () => {
    let generating: ServerResponse | undefined;
    const backend = await startScriptedBackend((res, _body, { url }) => {
      if (url === '/sdapi/v1/txt2img') generating = res;
      else res.end('{}');
    });
    gateway = await startGateway({ dir: await newFolder(), headAfter: 0, ...modes[mode]?.(backend.url) });
    const request = txt2img('a');
    const id = await idOf(request);
    await backend.received();
    for (const [what, expected] of [
      ['skip', 'skip'],
      ['skip', 'skip'],
      ['interrupt', 'interrupt'],
      ['skip', 'interrupt'],
    ] as const) {
      await say(what);
      // One change is written after the other.
      await until(async () => (await jobOf(id)).disturbed_by === expected);
    }
    sendAnswer(generating as ServerResponse, answerWith([sampleImages.png as Buffer]));
    expect(await gateway.ended(id)).toMatchObject({ status: 'Completed', disturbed_by: 'interrupt' });
    await backend.close();
  });

  test.each(['GET interrupt', 'POST interrupts', 'POST progress', 'OPTIONS interrupt', 'HEAD skip'])(
    '%s is none',
    async (line) => {
      await start(mode);
      const request = await startRunning();
      const [method, path] = line.split(' ') as [string, string];
      await call(`${gateway.url}/sdapi/v1/${path}`, { method }).answer;
      demo.state.release();
      await request.answer;
      expect(await gateway.ended(await idOf(request))).not.toHaveProperty('disturbed_by');
    },
  );
});

test('all jobs that the backend has are disturbed', async () => {
  await start('wrap mode', { concurrency: 2 });
  const running = await startRunning();
  const [other, pending] = [txt2img('other'), txt2img('pending')];
  const ids = await Promise.all([running, other, pending].map(idOf));
  await say('interrupt');
  demo.state.release();
  const jobs = await Promise.all(ids.map((id) => gateway.ended(id)));
  expect(jobs.map(({ disturbed_by: by }) => by)).toEqual(['interrupt', 'interrupt', undefined]);
});

test('one that is refused for want of a login disturbs nobody', async () => {
  await start('forward mode', { auth: 'ann:one,bob:two' });
  const login = (text: string) => ({ Authorization: `Basic ${Buffer.from(text).toString('base64')}` });
  const request = await startRunning('a', {}, login('ann:one'));
  const id = await idOf(request);
  expect((await say('interrupt')).status).toBe(401);
  expect((await say('interrupt', { headers: login('ann:wrong') })).status).toBe(401);
  const foreign = { ...login('ann:one'), Origin: 'https://evil.example' };
  expect((await say('interrupt', { headers: foreign })).status).toBe(403);
  expect(await jobOf(id)).not.toHaveProperty('disturbed_by');
  expect((await say('interrupt', { headers: login('bob:two') })).status).toBe(200);
  expect(await gateway.ended(id)).toMatchObject({ disturbed_by: 'interrupt' });
});

describe('a store that', () => {
  async function startWithStore(
    onDisturbance: (update: () => Promise<Job | undefined>) => Promise<Job | undefined>,
  ): Promise<void> {
    const dir = await newFolder();
    const store = new LowdbJobStore({ folder: dir, logger: collectLog() });
    const { update } = store;
    store.update = (id: string, change: JobChange) => {
      const real = () => update.call(store, id, change);
      return change.disturbed_by ? onDisturbance(real) : real();
    };
    await start('forward mode', { dir, store });
  }

  test('takes its time does not hold an interrupt up', async () => {
    let write = () => {};
    await startWithStore(
      (update) =>
        new Promise((resolve) => {
          write = () => resolve(update());
        }),
    );
    const request = await startRunning();
    expect((await say('interrupt')).status).toBe(200);
    write();
    await request.answer;
    expect(await gateway.ended(await idOf(request))).toMatchObject({ disturbed_by: 'interrupt' });
  });

  test('refuses: that is said, and the job ends all the same', async () => {
    await startWithStore(() => Promise.reject(new Error('the disk is full')));
    const request = await startRunning();
    const id = await idOf(request);
    expect((await say('interrupt')).status).toBe(200);
    await request.answer;
    expect(await gateway.ended(id)).toMatchObject({ status: 'Completed' });
    expect(gateway.log).toEqual([`The change of job ${id} in disturbed_by is not durable: the disk is full`]);
  });
});
