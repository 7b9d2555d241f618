import { EventEmitter } from 'node:events';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { Job } from '../../lib/index.js';
import { createJobEvents, type JobEvents } from '../../lib/jobs/job-events.js';
import { JobEnds } from '../../lib/routes/wait-for-end.js';
import { makeJob } from '../helpers/job-records.js';

const LONG_MS = 300_000;
const running = makeJob(1, { status: 'Processing' });
const completed = makeJob(1, { status: 'Completed' });

let events: JobEvents;
let stored: Job | undefined;
let reads: number;
let ends: JobEnds;
const warnings: Error[] = [];
const collect = (warning: Error) => void warnings.push(warning);
const settled = () => new Promise((resolve) => setImmediate(resolve));
const stays = () => new AbortController().signal;

beforeEach(() => {
  events = createJobEvents();
  stored = running;
  reads = 0;
  ends = new JobEnds({
    events,
    jobs: {
      async get(id) {
        reads += 1;
        return stored?.id === id ? stored : undefined;
      },
    },
  });
  warnings.length = 0;
  process.on('warning', collect);
});

afterEach(() => {
  process.off('warning', collect);
});

describe('waiting for a job', () => {
  test.each(['completed', 'failed', 'removed'] as const)(
    'ends when it is %s, with it as it is then',
    async (name) => {
      const waiting = ends.wait(running.id, LONG_MS, stays());
      await settled();
      stored = name === 'removed' ? undefined : completed;
      events.emit(name, completed);
      expect(await waiting).toEqual(stored);
    },
  );

  test('is not needed where it has ended, is not there, or may take no time', async () => {
    expect(await ends.wait(running.id, 0, stays())).toBe(running);
    stored = completed;
    expect(await ends.wait(running.id, LONG_MS, stays())).toBe(completed);
    expect(await ends.wait('Unknown1', LONG_MS, stays())).toBeUndefined();
  });

  test('misses no end that comes while the job is looked at', async () => {
    const waiting = ends.wait(running.id, LONG_MS, stays());
    // The store has been asked and has answered "running"; that answer is still on its way.
    events.emit('completed', completed);
    stored = completed;
    expect(await waiting).toBe(completed);
  });

  test('does not end with another job, or with a change', async () => {
    let isOver = false;
    const leave = new AbortController();
    const waiting = ends.wait(running.id, LONG_MS, leave.signal).then(() => {
      isOver = true;
    });
    await settled();
    events.emit('completed', makeJob(2));
    events.emit('status', running);
    await settled();
    expect(isOver).toBe(false);
    leave.abort();
    await waiting;
  });

  test('takes no longer than it may', async () => {
    expect(await ends.wait(running.id, 1, stays())).toBe(running);
    expect(reads).toBe(2);
  });

  test('ends with whoever waits, before or meanwhile, and nothing of it is left', async () => {
    const leave = new AbortController();
    const waiting = ends.wait(running.id, LONG_MS, leave.signal);
    await settled();
    leave.abort();
    await waiting;
    await ends.wait(running.id, LONG_MS, AbortSignal.abort());
    const before = reads;
    events.emit('completed', completed);
    await settled();
    expect(reads).toBe(before);
  });

  test('a thousand may wait: nobody is warned, all hear it', async () => {
    const listeners = () => EventEmitter.listenerCount(events, 'completed');
    const before = listeners();
    const all = Array.from({ length: 1_000 }, () => ends.wait(running.id, LONG_MS, stays()));
    await settled();
    expect(listeners()).toBe(before);
    stored = completed;
    events.emit('completed', completed);
    expect(new Set(await Promise.all(all))).toEqual(new Set([completed]));
    await settled();
    expect(warnings).toEqual([]);
  });

  test('a store that fails is heard, and holds up no other', async () => {
    const failing = new JobEnds({ events, jobs: { get: () => Promise.reject(new Error('gone')) } });
    await expect(failing.wait(running.id, LONG_MS, stays())).rejects.toThrow('gone');
    await failing.close();
  });
});

describe('closing', () => {
  test('gives everybody the job as it is, and waits until they have it', async () => {
    const order: string[] = [];
    const waiting = ends.wait(running.id, LONG_MS, stays()).then((job) => order.push(job?.status ?? ''));
    await settled();
    await ends.close();
    order.push('closed');
    await waiting;
    expect(order).toEqual(['Processing', 'closed']);
    expect(await ends.wait(running.id, LONG_MS, stays())).toBe(running);
    await ends.close();
  });
});
