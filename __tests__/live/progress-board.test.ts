import { afterEach, beforeEach, expect, jest, test } from '@jest/globals';
import type { JobProgress } from '../../lib/job.js';
import { createJobEvents, type JobEvents } from '../../lib/jobs/job-events.js';
import { ProgressBoard } from '../../lib/live/progress-board.js';
import { fakeOnly } from '../helpers/fake-timers.js';
import { type CollectedLog, collectLog, makeJob } from '../helpers/job-records.js';

let events: JobEvents;
let board: ProgressBoard;
let log: CollectedLog;
let told: [id: string, progress: JobProgress][];
const job = makeJob(1, { status: 'Processing' });

beforeEach(() => {
  fakeOnly('setTimeout', 'clearTimeout', 'performance');
  events = createJobEvents();
  log = collectLog();
  board = new ProgressBoard({ events, logger: log });
  told = [];
});

afterEach(() => {
  jest.useRealTimers();
});

const listen = () => events.on('progress', ({ id }, progress) => told.push([id, progress]));

test('is told four times a second at most, the newest at last', () => {
  listen();
  events.emit('status', job);
  for (let ms = 0; ms < 1_000; ms += 10) {
    board.report(job.id, { progress: ms / 1_000, step: ms, steps: 1_000 });
    jest.advanceTimersByTime(10);
  }
  expect(told.length).toBeGreaterThanOrEqual(4);
  expect(told.length).toBeLessThanOrEqual(5);
  jest.advanceTimersByTime(250);
  expect(told.at(-1)).toEqual([job.id, { progress: 0.99, step: 990, steps: 1_000 }]);
  expect(jest.getTimerCount()).toBe(0);
});

test('each job has its own measure', () => {
  listen();
  const other = makeJob(2, { status: 'Processing' });
  for (const one of [job, other]) events.emit('status', one);
  for (const one of [job, other]) board.report(one.id, { progress: 0.5 });
  expect(told.map(([id]) => id)).toEqual([job.id, other.id]);
});

test.each(['Completed', 'Failed', 'removed'] as const)('is over once the job is %s', (end) => {
  listen();
  events.emit('status', job);
  board.report(job.id, { progress: 0.1 });
  board.report(job.id, { progress: 0.2 });
  expect(board.of(job.id)).toEqual({ progress: 0.2 });
  if (end === 'removed') events.emit('removed', job);
  else events.emit('status', { ...job, status: end });
  expect(board.of(job.id)).toBeUndefined();
  board.report(job.id, { progress: 0.3 });
  jest.advanceTimersByTime(1_000);
  expect(told).toHaveLength(1);
  expect(board.of(job.id)).toBeUndefined();
  expect(jest.getTimerCount()).toBe(0);
});

test('is known, and told to nobody, while nobody listens', () => {
  events.emit('status', job);
  expect(board.isWatched).toBe(false);
  board.report(job.id, { progress: 0.4 });
  board.report(job.id, { progress: 0.5 });
  expect(board.of(job.id)).toEqual({ progress: 0.5 });
  expect(jest.getTimerCount()).toBe(0);
  listen();
  expect(board.isWatched).toBe(true);
});

test.each([
  [-1, 0],
  [1.5, 1],
  [Number.NaN, undefined],
  [Number.POSITIVE_INFINITY, undefined],
])('%d is taken as %p', (progress, expected) => {
  events.emit('status', job);
  board.report(job.id, { progress });
  expect(board.of(job.id)?.progress).toBe(expected);
});

test('a listener of the host’s that throws harms nobody', () => {
  events.on('progress', () => {
    throw new Error('host');
  });
  events.emit('status', job);
  board.report(job.id, { progress: 0.5 });
  expect(log.errors).toEqual(['A listener for "progress" threw Error: host']);
});
