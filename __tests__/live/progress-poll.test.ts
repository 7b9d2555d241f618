import { setImmediate as immediately } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import type { JobProgress } from '../../lib/job.js';
import type { RunningJob } from '../../lib/jobs/running-job.js';
import { ProgressPoll } from '../../lib/live/progress-poll.js';
import { fakeOnly } from '../helpers/fake-timers.js';

interface FakeJob {
  id: string;
  taskId?: string;
  stage: RunningJob['stage'];
  ended: boolean;
}

let running: FakeJob[];
let isWatched: boolean;
let asked: string[];
let reports: [string, JobProgress][];
let poll: ProgressPoll;
let ofTask: (taskId: string) => Promise<JobProgress | undefined>;
const signals: AbortSignal[] = [];

const job = (id: string, taskId?: string): FakeJob => ({
  id,
  stage: 'running',
  ended: false,
  ...(taskId !== undefined && { taskId }),
});

beforeEach(() => {
  fakeOnly('setTimeout', 'clearTimeout');
  running = [job('one', 'task one')];
  isWatched = true;
  asked = [];
  reports = [];
  ofTask = async () => ({ progress: 0.5 });
  poll = new ProgressPoll({
    backend: {
      name: 'a1111',
      url: new URL('http://127.0.0.1:1'),
      source: {
        ofTask: (_url, taskId, signal) => {
          asked.push(taskId);
          signals.push(signal);
          return ofTask(taskId);
        },
        ofWhateverRuns: async () => {
          asked.push('whatever');
          return { progress: 0.1 };
        },
      },
    },
    recorder: { processing: () => running as unknown as RunningJob[] },
    board: {
      get isWatched() {
        return isWatched;
      },
      report: (id, progress) => void reports.push([id, progress]),
    },
  });
});

afterEach(() => {
  poll.close();
  jest.useRealTimers();
});

async function pass(seconds: number): Promise<void> {
  for (let n = 0; n < seconds; n += 1) {
    jest.advanceTimersByTime(1_000);
    await immediately();
  }
}

test('once a second, until nothing runs any more', async () => {
  poll.wake();
  poll.wake();
  await pass(3);
  expect(reports).toEqual(Array(3).fill(['one', { progress: 0.5 }]));
  running = [];
  await pass(5);
  expect(asked).toHaveLength(3);
  expect(jest.getTimerCount()).toBe(0);
  running = [job('two', 'task two')];
  poll.wake();
  await pass(1);
  expect(asked.at(-1)).toBe('task two');
});

test('nothing is asked while nobody looks, and soon once somebody does', async () => {
  isWatched = false;
  poll.wake();
  await pass(10);
  expect(asked).toEqual([]);
  isWatched = true;
  await pass(1);
  expect(asked).toEqual(['task one']);
});

test('one question at a time', async () => {
  running = [job('one', 'task one'), job('two', 'task two')];
  let answer: (progress: JobProgress) => void = () => {};
  ofTask = () =>
    new Promise((resolve) => {
      answer = resolve;
    });
  poll.wake();
  await pass(5);
  poll.wake();
  await pass(5);
  expect(asked).toEqual(['task one']);
  answer({ progress: 0.2 });
  await pass(1);
  expect(asked).toEqual(['task one', 'task two']);
});

test('one that does not answer is asked less and less often, until it does', async () => {
  ofTask = async () => {
    throw new Error('not there');
  };
  poll.wake();
  await pass(200);
  // After 1, 2, 4, 8, 16, and then every 30 seconds.
  expect(asked).toHaveLength(10);
  ofTask = async () => ({ progress: 0.9 });
  await pass(30);
  asked.length = 0;
  await pass(5);
  expect(asked).toHaveLength(5);
});

describe('a backend that does not know the task', () => {
  beforeEach(() => {
    ofTask = async () => undefined;
  });

  test('is asked for whatever runs, where that can only be the one', async () => {
    poll.wake();
    await pass(1);
    expect(reports).toEqual([['one', { progress: 0.1 }]]);
  });

  test('is not, where it may be another one', async () => {
    running = [job('one', 'task one'), job('two')];
    poll.wake();
    await pass(2);
    expect(asked).toEqual(['task one', 'task one']);
    // The backend is through with it; its answer is on the way.
    (running[0] as FakeJob).stage = 'answered';
    await pass(1);
    expect(reports).toEqual([['two', { progress: 0.1 }]]);
  });
});

test('close() ends it, and the question that is under way', async () => {
  ofTask = () => new Promise(() => {});
  poll.wake();
  await pass(1);
  poll.close();
  poll.close();
  expect(signals.at(-1)?.aborted).toBe(true);
  poll.wake();
  expect(jest.getTimerCount()).toBe(0);
});
