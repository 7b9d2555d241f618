import { beforeEach, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { ComfyUIMessages } from '../../lib/comfyui/messages.js';
import type { JobProgress, RequestFields } from '../../lib/job.js';
import { RunningJob } from '../../lib/jobs/running-job.js';
import { makeJob } from '../helpers/job-records.js';

const P1 = '11111111-1111-4111-8111-111111111111';
const P2 = '22222222-2222-4222-8222-222222222222';

let jobs: Map<string, RunningJob>;
/** What the follower was told. */
let told: string[];
let reports: [id: string, report: JobProgress][];
let messages: ComfyUIMessages;

beforeEach(() => {
  jobs = new Map();
  told = [];
  reports = [];
  const follower = {
    jobOf: (promptId: string) => jobs.get(promptId),
    get onlyProcessing() {
      const [job, another] = [...jobs.values()].filter(({ isProcessing }) => isProcessing);
      return another ? undefined : job;
    },
    async started(promptId: string) {
      told.push(`started ${promptId}`);
      await jobs.get(promptId)?.processing();
    },
    lookSoon: () => void told.push('look'),
  };
  messages = new ComfyUIMessages({ follower, onProgress: (id, report) => reports.push([id, report]) });
});

function follow(number: number, promptId: string, request: RequestFields = {}): RunningJob {
  const record = makeJob(number, { status: 'Pending', backend: 'comfyui', prompt_id: promptId, request });
  const job = new RunningJob(record, async () => true);
  jobs.set(promptId, job);
  return job;
}

async function receive(type: string, data: unknown): Promise<void> {
  messages.receive(JSON.stringify({ type, data }));
  await new Promise((resolve) => setImmediate(resolve));
}

describe('the messages of ComfyUI', () => {
  test('a prompt that starts, and its end, are told to the follower', async () => {
    follow(1, P1);
    await receive('execution_start', { prompt_id: P1, timestamp: 1 });
    await receive('executing', { node: '3', display_node: '3', prompt_id: P1 });
    expect(told).toEqual([`started ${P1}`, `started ${P1}`]);
    for (const type of ['execution_success', 'execution_error', 'execution_interrupted']) {
      told = [];
      await receive(type, { prompt_id: P1 });
      expect(told).toEqual(['look']);
    }
    told = [];
    await receive('executing', { node: null, prompt_id: P1 });
    await receive('status', { status: { exec_info: { queue_remaining: 0 } } });
    expect(told).toEqual(['look', 'look']);
  });

  test('its progress is reckoned by the size of its workflow', async () => {
    const job = follow(1, P1, { nodes: 3, steps: 4, client_id: 'c' });
    await receive('execution_cached', { nodes: ['a'], prompt_id: P1 });
    const running = { value: 2, max: 4, state: 'running', node_id: 'b', prompt_id: P1 };
    await receive('progress_state', { prompt_id: P1, nodes: { b: running } });
    await receive('progress', { value: 2, max: 4, prompt_id: P1, node: 'b' });
    expect(reports).toEqual([[job.id, { progress: 0.4, step: 2, steps: 4, text: 'Node b' }]]);
    const finished = { ...running, value: 4, state: 'finished' };
    await receive('progress_state', { prompt_id: P1, nodes: { b: finished, c: { ...running, state: 'x' } } });
    expect(reports[1]?.[1].progress).toBeGreaterThan(0.7);
  });

  test('nodes that were cached count also where they were told before the job was followed', async () => {
    await receive('execution_cached', { nodes: ['a', 'b'], prompt_id: P1 });
    for (let n = 0; n < 15; n += 1)
      await receive('execution_cached', { nodes: ['c'], prompt_id: `other ${n}` });
    follow(1, P1, { nodes: 4 });
    const nodes = { c: { value: 1, max: 1, state: 'finished' } };
    await receive('progress_state', { prompt_id: P1, nodes });
    expect(reports.map(([, { progress }]) => progress)).toEqual([0.5]);
  });

  test('two prompts are kept apart', async () => {
    const [one, two] = [follow(1, P1), follow(2, P2)];
    await receive('progress', { value: 1, max: 4, prompt_id: P1, node: 'a' });
    await receive('progress', { value: 3, max: 4, prompt_id: P2, node: 'a' });
    await receive('progress', { value: 2, max: 4, prompt_id: P1, node: 'a' });
    expect(reports.map(([id, { progress }]) => [id, progress])).toEqual([
      [one.id, 0.25],
      [two.id, 0.75],
      [one.id, 0.5],
    ]);
  });

  test('progress without a prompt id counts where only one can be meant', async () => {
    const progress = { value: 1, max: 4 };
    const one = follow(1, P1);
    const two = follow(2, P2);
    await receive('progress', progress);
    expect(reports).toEqual([]);
    await one.processing();
    await receive('progress', progress);
    expect(reports).toEqual([[one.id, { progress: 0.25, step: 1, steps: 4 }]]);
    await two.processing();
    await receive('progress', { value: 2, max: 4 });
    expect(reports).toHaveLength(1);
  });

  test('nothing is told before the job is on record as Processing, or after its end', async () => {
    let recorded: (isDurable: boolean) => void = () => {};
    const record = makeJob(1, { status: 'Pending', backend: 'comfyui', prompt_id: P1 });
    const job = new RunningJob(record, () => new Promise((resolve) => (recorded = resolve)));
    jobs.set(P1, job);
    await receive('progress', { value: 1, max: 4, prompt_id: P1, node: 'a' });
    expect(reports).toEqual([]);
    recorded(true);
    await receive('progress', { value: 2, max: 4, prompt_id: P1, node: 'a' });
    expect(reports.map(([, { step }]) => step)).toEqual([1, 2]);
    void job.complete({ output_paths: [] });
    await receive('progress', { value: 3, max: 4, prompt_id: P1, node: 'a' });
    expect(reports).toHaveLength(2);
  });

  test('what is about prompts that nobody follows does nothing', async () => {
    follow(1, P1);
    for (const type of ['execution_start', 'executing', 'progress', 'execution_success', 'execution_error']) {
      await receive(type, { prompt_id: P2, node: null, value: 1, max: 2 });
    }
    await receive('progress_state', { prompt_id: P2, nodes: { a: { value: 1, max: 2, state: 'running' } } });
    expect([told, reports]).toEqual([[], []]);
  });

  test('what is not to be understood says nothing, and throws nothing', async () => {
    const job = follow(1, P1, { nodes: 3 });
    await job.processing();
    const hostile = fc.oneof(
      fc.jsonValue(),
      fc.constantFrom(-1, 1e308, null, '', '__proto__', 'constructor', P1, [], {}),
    );
    const data = fc.oneof(
      hostile,
      fc.record({ prompt_id: fc.constantFrom<unknown>(P1, P2, null, 7, {}), nodes: hostile, node: hostile }),
      fc.record({ prompt_id: fc.constant(P1), value: hostile, max: hostile, node: hostile }),
      fc.record({ prompt_id: fc.constant(P1), nodes: fc.record({ __proto__: hostile, a: hostile }) }),
    );
    const types = fc.constantFrom(
      ...['status', 'execution_start', 'execution_cached', 'executing', 'progress', 'progress_state'],
      ...['execution_success', 'executed', 'constructor', '__proto__'],
    );
    await fc.assert(
      fc.asyncProperty(fc.oneof(types, hostile), data, async (type, value) => {
        await receive(type as string, value);
        messages.receive(JSON.stringify(value));
      }),
    );
    for (const text of [
      '',
      '{',
      '[]',
      'null',
      '"x"',
      '{"type":"progress","data":{"value":1e999,"max":1e999}}',
    ]) {
      messages.receive(text);
    }
    messages.receive(`${'['.repeat(100_000)}`);
    for (const [, { progress, text = '' }] of reports) {
      expect(progress >= 0 && progress <= 1 && text.length < 200).toBe(true);
    }
  });
});
