import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { createProxyMiddleware } from 'http-proxy-middleware';
import { type JobTracker, jobTracker } from '../lib/index.js';
import { post } from './helpers/client.js';
import { collectingLogger, type Gateway, startGateway } from './helpers/gateway.js';
import {
  answerWith,
  bigPng,
  type ScriptedBackend,
  sendAnswer,
  startScriptedBackend,
} from './helpers/scripted-backend.js';
import { tempFolders } from './helpers/temp-folder.js';

const newFolder = tempFolders();
const image = bigPng(5000);
const answer = answerWith([image]);

let backend: ScriptedBackend;
let inner: JobTracker;
let gateway: Gateway;

beforeEach(async () => {
  backend = await startScriptedBackend((res) => sendAnswer(res, answer));
  inner = jobTracker({ dir: await newFolder(), logger: collectingLogger([]) });
  await inner.ready;
  gateway = await startGateway({
    dir: await newFolder(),
    behind: (app) => app.use(inner, createProxyMiddleware({ target: backend.url })),
  });
});

afterEach(async () => {
  await gateway.close();
  await inner.close();
  await backend.close();
});

test('what one tracker has made a job of passes another one behind it', async () => {
  const { status, headers, body } = await post(`${gateway.url}/sdapi/v1/txt2img`, { prompt: 'p' }).answer;
  expect([status, body.equals(answer)]).toEqual([200, true]);
  expect((await gateway.ended(headers['x-job-id'] as string)).status).toBe('Completed');
  expect((await inner.jobs.list()).total).toBe(0);
});

test.each([
  ['small', 'p'],
  ['too large for memory', 'p'.repeat(5_000_000)],
])('one that does not track lets the other do so: a request that is %s', async (_size, prompt) => {
  await gateway.tracker.close();
  const { status, body } = await post(`${gateway.url}/sdapi/v1/txt2img`, { prompt }).answer;
  expect([status, body.equals(answer)]).toEqual([200, true]);
  expect(JSON.parse(String(backend.bodies.at(-1))).prompt).toBe(prompt);
  expect((await inner.jobs.list()).jobs.map((job) => job.status)).toEqual(['Completed']);
});
