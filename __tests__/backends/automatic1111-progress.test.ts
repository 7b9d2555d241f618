import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { automatic1111Progress } from '../../lib/backends/automatic1111-progress.js';
import { type ScriptedBackend, startScriptedBackend } from '../helpers/scripted-backend.js';

const TASK = 'POST /internal/progress';
const ANY = 'GET /sdapi/v1/progress?skip_current_image=true';

let backend: ScriptedBackend;
let answers: Record<string, unknown>;
let asked: [string, string, string | undefined][];

beforeEach(async () => {
  answers = {};
  asked = [];
  backend = await startScriptedBackend((res, body, req) => {
    const key = `${req.method} ${req.url}`;
    asked.push([key, body.toString(), req.headers.authorization]);
    const answer = answers[key];
    if (typeof answer === 'number') res.writeHead(answer).end('{"detail":"x"}');
    else res.end(typeof answer === 'string' ? answer : JSON.stringify(answer));
  });
});

afterEach(() => backend.close());

const url = (login = '') => new URL(backend.url.replace('//', `//${login}`));
const ofTask = () => automatic1111Progress.ofTask(url('ann:uno@'), 'Ab12Cd34', AbortSignal.timeout(10_000));
const ofAny = () => automatic1111Progress.ofWhateverRuns(url(), AbortSignal.timeout(10_000));
const state = (fields: object) => ({
  progress: 0.3,
  eta_relative: 7.123,
  textinfo: null,
  state: { job_count: 1, sampling_step: 6, sampling_steps: 20, ...fields },
});
const task = (fields: object) => ({
  active: true,
  queued: false,
  completed: false,
  progress: 0.25,
  eta: 12.34,
  textinfo: null,
  ...fields,
});

describe('of a task', () => {
  test('that runs: how far it is, and its steps, as whoever has the login is told', async () => {
    answers = { [TASK]: task({}), [ANY]: state({}) };
    expect(await ofTask()).toEqual({ progress: 0.25, eta_seconds: 12.3, step: 6, steps: 20 });
    expect(asked).toEqual([
      [
        TASK,
        '{"id_task":"Ab12Cd34","id_live_preview":-1,"live_preview":false}',
        `Basic ${Buffer.from('ann:uno').toString('base64')}`,
      ],
      [ANY, '', `Basic ${Buffer.from('ann:uno').toString('base64')}`],
    ]);
  });

  test('that runs, with steps that are not told', async () => {
    answers = { [TASK]: task({ progress: null, eta: null, textinfo: 'Loading' }), [ANY]: 401 };
    expect(await ofTask()).toEqual({ progress: 0, text: 'Loading' });
  });

  test('that waits', async () => {
    answers = { [TASK]: task({ active: false, queued: true, progress: null, textinfo: 'In queue: 1/3' }) };
    expect(await ofTask()).toEqual({ progress: 0, text: 'In queue: 1/3' });
    expect(asked).toHaveLength(1);
  });

  test.each([
    ['is unknown', task({ active: false })],
    ['is done', task({ active: false, completed: true, progress: 1 })],
    ['there is no route for', 404],
  ])('that %s: nothing', async (_name, answer) => {
    answers = { [TASK]: answer };
    expect(await ofTask()).toBeUndefined();
  });

  test.each([
    ['an error', 500],
    ['a page', '<html>'],
    ['a number', '7'],
    ['null', 'null'],
  ])('%s is no answer', async (_name, answer) => {
    answers = { [TASK]: answer };
    await expect(ofTask()).rejects.toMatchObject({ code: 'BACKEND_UNANSWERED' });
  });
});

describe('of whatever runs', () => {
  test('how far it is', async () => {
    answers = { [ANY]: state({}) };
    expect(await ofAny()).toEqual({ progress: 0.3, eta_seconds: 7.1, step: 6, steps: 20 });
  });

  test('nothing, where nothing does', async () => {
    answers = { [ANY]: state({ job_count: 0 }) };
    expect(await ofAny()).toBeUndefined();
  });

  test.each([
    [{ sampling_step: 25 }, { step: 20, steps: 20 }],
    [{ sampling_steps: 0 }, {}],
    [{ sampling_step: 'x' }, {}],
  ])('steps that make no sense are put right, or left out: %j', async (fields, expected) => {
    answers = { [ANY]: state(fields) };
    expect(await ofAny()).toEqual({ progress: 0.3, eta_seconds: 7.1, ...expected });
  });

  test.each([401, 'no JSON'])('%s is no answer', async (answer) => {
    answers = { [ANY]: answer };
    await expect(ofAny()).rejects.toMatchObject({ code: 'BACKEND_UNANSWERED' });
  });
});
