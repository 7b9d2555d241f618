import { once } from 'node:events';
import http from 'node:http';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { createProxyMiddleware } from 'http-proxy-middleware';
import type { Job } from '../lib/index.js';
import { type Answer, type Call, call, post } from './helpers/client.js';
import { type Gateway, type GatewayOptions, startGateway } from './helpers/gateway.js';
import { openFilesBelow, until } from './helpers/kept-jobs.js';
import { sampleImages } from './helpers/sample-images.js';
import {
  answerWith,
  gate,
  type ScriptedBackend,
  sendAnswer,
  startScriptedBackend,
} from './helpers/scripted-backend.js';
import { tempFolders } from './helpers/temp-folder.js';

const newFolder = tempFolders();
const answer = answerWith([sampleImages.png as Buffer]);

let backend: ScriptedBackend;
let gateway: Gateway;
let held: ReturnType<typeof gate>;
let dir: string;

beforeEach(async () => {
  held = gate();
  dir = await newFolder();
  backend = await startScriptedBackend(async (res) => {
    await held.opened;
    sendAnswer(res, answer);
  });
});

afterEach(async () => {
  held.open();
  await gateway.close();
  await backend.close();
});

const modes: Readonly<Record<string, () => GatewayOptions>> = {
  'forward mode': () => ({ a1111: backend.url }),
  'wrap mode': () => ({
    concurrency: 1,
    behind: (app) => app.use(createProxyMiddleware({ target: backend.url })),
  }),
};

async function start(options: Partial<GatewayOptions> = {}, mode = 'forward mode'): Promise<void> {
  gateway = await startGateway({ dir, headAfter: 0, retryWindow: false, ...modes[mode]?.(), ...options });
}

const txt2img = (prompt: string, fields: object = {}, options: Parameters<typeof call>[1] = {}): Call =>
  post(`${gateway.url}/sdapi/v1/txt2img`, { prompt, ...fields }, options);
const promptsAtBackend = () => backend.bodies.map((body) => JSON.parse(body.toString()).prompt);
const total = async () => (await gateway.tracker.jobs.list()).total;

/** Fills the slot and so many places behind it. */
async function fill(places: number): Promise<Call[]> {
  const calls: Call[] = [];
  for (let n = 0; n <= places; n += 1) {
    const one = txt2img(`job ${n}`);
    await one.head;
    calls.push(one);
  }
  await backend.received();
  return calls;
}

function expectRefused({ status, headers, body }: Answer, waiting = '\\d+'): void {
  expect(status).toBe(429);
  expect(headers['retry-after']).toMatch(/^[1-9]\d*$/);
  expect(headers['content-type']).toBe('application/json; charset=utf-8');
  expect(headers).not.toHaveProperty('x-job-id');
  const { error } = JSON.parse(body.toString());
  expect(error).toMatch(
    new RegExp(
      `^Expected a place in the queue, got none: ${waiting} generations wait already \\(\`maxQueue\`\\). ` +
        `Try again in ${headers['retry-after']} s$`,
    ),
  );
}

describe.each(Object.keys(modes))('%s', (mode) => {
  test('a job more than may wait is refused, and leaves no trace', async () => {
    await start({ maxQueue: 2 }, mode);
    const calls = await fill(2);
    expectRefused(await txt2img('too many').answer, '2');
    expect(await total()).toBe(3);
    held.open();
    for (const one of calls) expect((await one.answer).status).toBe(200);
    expect(promptsAtBackend()).toEqual(['job 0', 'job 1', 'job 2']);
    expect((await txt2img('later').answer).status).toBe(200);
  });

  test('of many that come at once as many get in as may, and the others hear it whole', async () => {
    await start({ maxQueue: 10 }, mode);
    const ballast = 'x'.repeat(200_000);
    const calls = Array.from({ length: 40 }, (_, n) => txt2img(`${n}`, { ballast }));
    const heads = await Promise.all(calls.map(({ head }) => head));
    const refused = calls.filter((_, n) => heads[n]?.status === 429);
    expect(refused).toHaveLength(29);
    for (const one of refused) expectRefused(await one.answer);
    held.open();
    const taken = calls.filter((one) => !refused.includes(one));
    for (const one of taken) expect((await one.answer).status).toBe(200);
    expect(await total()).toBe(11);
    expect(backend.bodies).toHaveLength(11);
  });
});

test('a large request is refused when it has been sent, over a connection that stays', async () => {
  await start({ maxQueue: 1 });
  await fill(1);
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  const ports = new Set<number | undefined>();
  const ask = (body: string) =>
    new Promise<{ status: number; text: string }>((resolve, reject) => {
      const request = http.request(
        `${gateway.url}/sdapi/v1/txt2img`,
        { method: 'POST', agent },
        async (res) => {
          ports.add(res.socket.localPort);
          let text = '';
          for await (const chunk of res.setEncoding('utf8')) text += chunk;
          resolve({ status: res.statusCode ?? 0, text });
        },
      );
      request.once('error', reject);
      request.end(body);
    });
  for (const size of [5_000_000, 10, 3_000_000]) {
    const { status, text } = await ask(JSON.stringify({ prompt: 'x'.repeat(size) }));
    expect([status, JSON.parse(text)]).toEqual([429, { error: expect.stringContaining('maxQueue') }]);
  }
  expect(ports.size).toBe(1);
  agent.destroy();
  await until(() => openFilesBelow(dir).every((path) => !path.includes('requests')));
  expect(await total()).toBe(2);
});

test('a body that the host has parsed, and a page of another origin', async () => {
  const { default: express } = await import('express');
  await start({ maxQueue: 1, headAfter: '1ms', front: (app) => app.use(express.json()) });
  await fill(1);
  const { status, headers } = await txt2img('too many', {}, { headers: { Origin: 'https://app.example' } })
    .answer;
  expect([status, headers['access-control-expose-headers']]).toEqual([
    429,
    'X-Job-ID, Location, Link, Retry-After, X-Total-Count',
  ]);
  expect(headers['cache-control']).toBe('no-store');
});

test('a place that gets free can be had at once', async () => {
  await start({ maxQueue: 1 });
  const [, waiting] = await fill(1);
  expect((await txt2img('refused').answer).status).toBe(429);
  const id = (await (waiting as Call).head).headers['x-job-id'] as string;
  expect(await gateway.tracker.jobs.cancel(id)).toBe('cancelled');
  const next = txt2img('next');
  expect((await next.head).status).toBe(200);
  expect((await txt2img('refused').answer).status).toBe(429);
});

test('jobs that cannot be recorded take no places, and are not refused', async () => {
  await start({ maxQueue: 1 });
  await fill(1);
  const patched = await call(`${gateway.url}/job-tracker/settings`, {
    method: 'PATCH',
    body: '{"tracking_enabled":false}',
  }).answer;
  expect(patched.status).toBe(200);
  const untracked = txt2img('untracked');
  await backend.received(2);
  held.open();
  const { status, headers } = await untracked.answer;
  expect([status, headers['x-job-id']]).toEqual([200, undefined]);
});

test('a client that leaves while its request is refused harms nothing', async () => {
  await start({ maxQueue: 1 });
  const calls = await fill(1);
  const arrived = once(gateway.server, 'request');
  const leaving = txt2img('too many', { ballast: 'x'.repeat(2_000_000) });
  await arrived;
  leaving.request.destroy();
  await until(
    () => new Promise((resolve) => gateway.server.getConnections((_error, n) => resolve(n === calls.length))),
  );
  expect((await txt2img('refused').answer).status).toBe(429);
  held.open();
  for (const one of calls) expect((await one.answer).status).toBe(200);
  expect(await total()).toBe(2);
});

test('a hundred jobs reach the backend in the order in which they came', async () => {
  await start();
  const calls = await fill(100);
  held.open();
  await Promise.all(calls.map(({ answer: one }) => one));
  expect(promptsAtBackend()).toEqual(calls.map((_, n) => `job ${n}`));
  const jobs = (await gateway.tracker.jobs.list({ limit: 200 })).jobs as Job[];
  const started = jobs.toReversed().map((job) => job.started_at as number);
  expect(started).toEqual(started.toSorted((a, b) => a - b));
});
