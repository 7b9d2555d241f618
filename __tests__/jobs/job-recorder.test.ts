import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import { type JobError, JobTrackerError } from '../../lib/index.js';
import type { Job } from '../../lib/job.js';
import { generateJobId } from '../../lib/job-id.js';
import { createJobEvents, type JobEvents } from '../../lib/jobs/job-events.js';
import { JobRecorder, type NewJob } from '../../lib/jobs/job-recorder.js';
import type { RunningJob } from '../../lib/jobs/running-job.js';
import type { JobStore } from '../../lib/stores/job-store.js';
import { LowdbJobStore } from '../../lib/stores/lowdb-job-store.js';
import { type CollectedLog, collectLog, makeJob } from '../helpers/job-records.js';
import { gate } from '../helpers/scripted-backend.js';
import { tempFolders } from '../helpers/temp-folder.js';

const newFolder = tempFolders();
const facts: NewJob = { prompt: 'a boat', ip: '192.0.2.7', backend: 'a1111', path: '/sdapi/v1/txt2img' };
const failure: JobError = { code: 'backend', message: 'it said no', status: 500 };

let store: JobStore;
let events: JobEvents;
let log: CollectedLog;
/** What happened, each as `name id status`. */
let heard: string[];

beforeEach(async () => {
  log = collectLog();
  store = new LowdbJobStore({ folder: await newFolder(), logger: log });
  await store.open();
  events = createJobEvents();
  heard = [];
  for (const name of ['created', 'status', 'completed', 'failed'] as const) {
    events.on(name, (job: Job) => heard.push(`${name} ${job.id} ${job.status}`));
  }
});

afterEach(async () => {
  jest.useRealTimers();
  await store.close();
});

const recorderOf = (options: { store?: JobStore; generateId?: () => string } = {}) =>
  new JobRecorder({ store, events, logger: log, generateId: generateJobId, ...options });

/** The store with some of its methods replaced. */
const wrapped = (methods: Partial<JobStore>): JobStore => ({
  open: () => store.open(),
  insert: (job) => store.insert(job),
  update: (id, change) => store.update(id, change),
  get: (id) => store.get(id),
  list: (query) => store.list(query),
  walk: () => store.walk(),
  remove: (id) => store.remove(id),
  unfinished: () => store.unfinished(),
  close: () => store.close(),
  ...methods,
});

/** Gives the ids one after the other, the last one for ever. */
function idsInTurn(...ids: string[]): () => string {
  let calls = 0;
  return () => ids[Math.min(calls++, ids.length - 1)] as string;
}

async function begun(recorder: JobRecorder): Promise<RunningJob> {
  const job = await recorder.begin(facts);
  if (!job) throw new Error(`the job was not recorded: ${log.errors.join()}`);
  return job;
}

describe('the record', () => {
  test('is there before the id is given out: Pending, with what was known', async () => {
    const before = Math.floor(Date.now() / 1000);
    const { id, createdAt, ended } = await begun(recorderOf());
    const job = await store.get(id);
    expect(job).toEqual({ id, ...facts, timestamp: expect.any(Number), status: 'Pending', output_paths: [] });
    expect(job?.timestamp).toBeGreaterThanOrEqual(before);
    expect(job?.timestamp).toBeLessThanOrEqual(Date.now() / 1000);
    expect(createdAt.getTime()).toBe((job?.timestamp as number) * 1000);
    expect(ended).toBe(false);
    expect(heard).toEqual([`created ${id} Pending`]);
  });

  test('the id is not given out before the store says that the record is durable', async () => {
    let isDurable = false;
    const insert = async (job: Job) => {
      const inserted = await store.insert(job);
      await new Promise((resolve) => setImmediate(resolve));
      isDurable = true;
      return inserted;
    };
    await begun(recorderOf({ store: wrapped({ insert }) }));
    expect(isDurable).toBe(true);
  });

  test('goes to Processing and to Completed, with times, paths and events', async () => {
    const recorder = recorderOf();
    const job = await begun(recorder);
    job.start();
    await job.complete({ output_paths: ['2026-11-22/x-0.png'], sidecar: '2026-11-22/x.json' });
    const { id } = job;
    const record = await store.get(id);
    expect(record).toMatchObject({
      status: 'Completed',
      output_paths: ['2026-11-22/x-0.png'],
      sidecar: '2026-11-22/x.json',
    });
    expect(record?.finished_at).toBeGreaterThanOrEqual(record?.started_at as number);
    expect(record?.started_at).toBeGreaterThan(1_700_000_000);
    expect(Math.round((record?.finished_at as number) * 1000) / 1000).toBe(record?.finished_at);
    expect(heard).toEqual([
      `created ${id} Pending`,
      `status ${id} Processing`,
      `status ${id} Completed`,
      `completed ${id} Completed`,
    ]);
  });

  test('a failure keeps what is whole, and says why', async () => {
    const job = await begun(recorderOf());
    await job.fail(failure, { output_paths: ['2026-11-22/x-0.png'] });
    expect(await store.get(job.id)).toMatchObject({
      status: 'Failed',
      error: failure,
      output_paths: ['2026-11-22/x-0.png'],
    });
    expect(heard.slice(1)).toEqual([`status ${job.id} Failed`, `failed ${job.id} Failed`]);
  });
});

describe('each job ends once', () => {
  const ends: [string, (job: RunningJob) => Promise<void>][] = [
    ['complete', (job) => job.complete({ output_paths: ['a.png'] })],
    ['fail', (job) => job.fail(failure)],
  ];
  const pairs = ends.flatMap(([one, end]) => ends.map(([other, again]) => ({ one, end, other, again })));

  test.each(pairs)('$one, then $other', async ({ one, end, again }) => {
    const job = await begun(recorderOf());
    const first = end(job);
    expect(job.ended).toBe(true);
    const second = again(job);
    job.start();
    await Promise.all([first, second]);
    await again(job);
    job.start();
    const status = one === 'complete' ? 'Completed' : 'Failed';
    expect((await store.get(job.id))?.status).toBe(status);
    expect((await store.get(job.id))?.started_at).toBeUndefined();
    expect(heard.filter((line) => line.startsWith('status'))).toEqual([`status ${job.id} ${status}`]);
  });
});

describe('an id that is taken', () => {
  test('another one is tried, and nothing happens to the job that has it', async () => {
    const taken = [makeJob(1), makeJob(2)];
    for (const job of taken) await store.insert(job);
    const ids = taken.map((job) => job.id);
    const recorder = recorderOf({ generateId: idsInTurn(...ids, ...ids, 'Free0001') });
    expect((await begun(recorder)).id).toBe('Free0001');
    for (const job of taken) expect(await store.get(job.id)).toEqual(job);
    expect(heard).toEqual(['created Free0001 Pending']);
    expect(log.errors).toEqual([]);
  });

  test('a hundred begin at once with a generator that says each id ten times', async () => {
    let calls = 0;
    const recorder = recorderOf({
      generateId: () => `Id${String(Math.floor(calls++ / 10)).padStart(6, '0')}`,
    });
    const jobs = await Promise.all(Array.from({ length: 100 }, () => begun(recorder)));
    expect(new Set(jobs.map((job) => job.id)).size).toBe(100);
    expect((await store.list({ limit: 1000 })).total).toBe(100);
  });

  test('a generator that only repeats itself: the generation goes on without an id, which is said once', async () => {
    const taken = makeJob(1, { prompt: 'mine' });
    await store.insert(taken);
    const recorder = recorderOf({ generateId: () => taken.id });
    expect(await recorder.begin(facts)).toBeUndefined();
    expect(await recorder.begin(facts)).toBeUndefined();
    expect(log.errors).toEqual([
      'A generation goes on without a job id, because it could not be recorded: The last 100 job ids are all taken',
    ]);
    expect(await store.get(taken.id)).toEqual(taken);
    expect(heard).toEqual([]);
    await recorder.idle();
  });
});

describe('a store that fails', () => {
  test('insert rejects: no id, said once until it has been well again', async () => {
    let isWell = false;
    const insert = async (job: Job) => {
      if (!isWell) throw new JobTrackerError('NOT_STORED', 'the disk is full');
      return store.insert(job);
    };
    const recorder = recorderOf({ store: wrapped({ insert }) });
    expect(await recorder.begin(facts)).toBeUndefined();
    expect(await recorder.begin(facts)).toBeUndefined();
    expect(log.errors).toHaveLength(1);
    expect(log.errors[0]).toMatch(/without a job id.*the disk is full/);
    isWell = true;
    expect(await recorder.begin(facts)).toBeDefined();
    isWell = false;
    expect(await recorder.begin(facts)).toBeUndefined();
    expect(await recorder.begin(facts)).toBeUndefined();
    expect(log.errors).toHaveLength(2);
  });

  test('insert throws instead of rejecting', async () => {
    const insert = () => {
      throw new Error('not even a promise');
    };
    expect(await recorderOf({ store: wrapped({ insert }) }).begin(facts)).toBeUndefined();
    expect(log.errors[0]).toContain('not even a promise');
  });

  test('an end that cannot be kept is logged, rejects nowhere, and the job is over', async () => {
    const update = async () => {
      throw new JobTrackerError('NOT_STORED', 'the disk is full');
    };
    const recorder = recorderOf({ store: wrapped({ update }) });
    const job = await begun(recorder);
    job.start();
    await job.complete({ output_paths: [] });
    await recorder.idle();
    expect(log.errors).toHaveLength(1);
    expect(log.errors[0]).toMatch(/^The change of job \w+ to Processing is not durable: the disk is full$/);
    expect(heard).toEqual([`created ${job.id} Pending`]);
  });

  test('a record that somebody has removed meanwhile: nothing is made up', async () => {
    const job = await begun(recorderOf());
    await store.remove(job.id);
    await job.complete({ output_paths: [] });
    expect(await store.get(job.id)).toBeUndefined();
    expect(heard).toEqual([`created ${job.id} Pending`]);
  });
});

describe('a store that is slow', () => {
  /** A store whose `insert` is held at a gate, with what tells that the recorder waits there. */
  function slowStore() {
    let open = () => {};
    const gate = new Promise<void>((resolve) => {
      open = resolve;
    });
    let arrived = () => {};
    const waiting = new Promise<void>((resolve) => {
      arrived = resolve;
    });
    let removed = (_id: string) => {};
    const removal = new Promise<string>((resolve) => {
      removed = resolve;
    });
    const slow = wrapped({
      insert: async (job) => {
        arrived();
        await gate;
        return store.insert(job);
      },
      remove: async (id) => {
        const done = await store.remove(id);
        removed(id);
        return done;
      },
    });
    return { slow, open, waiting, removal };
  }

  const fakeClock = () =>
    jest.useFakeTimers({ doNotFake: ['nextTick', 'queueMicrotask', 'setImmediate', 'Date'] });

  test('for more than 2 s: it goes on without an id, and the record that comes late is removed', async () => {
    fakeClock();
    const { slow, open, waiting, removal } = slowStore();
    const recorder = recorderOf({ store: slow, generateId: () => 'Late0001' });
    const beginning = recorder.begin(facts);
    await waiting;
    jest.advanceTimersByTime(2_000);
    expect(await beginning).toBeUndefined();
    expect(log.errors).toEqual([
      'A generation goes on without a job id, because it could not be recorded: The store did not answer within 2000 ms',
    ]);
    await recorder.idle();
    open();
    expect(await removal).toBe('Late0001');
    expect(await store.get('Late0001')).toBeUndefined();
    expect(heard).toEqual([]);
  });

  test('for less than 2 s: it is waited for', async () => {
    fakeClock();
    const { slow, open, waiting } = slowStore();
    const recorder = recorderOf({ store: slow, generateId: () => 'Slow0001' });
    const beginning = recorder.begin(facts);
    await waiting;
    jest.advanceTimersByTime(1_999);
    open();
    expect((await beginning)?.id).toBe('Slow0001');
    jest.advanceTimersByTime(10_000);
    expect(await store.get('Slow0001')).toMatchObject({ status: 'Pending' });
    expect(log.errors).toEqual([]);
  });

  test('what comes late and is refused, or fails, is nobody else’s job, and harms nothing', async () => {
    fakeClock();
    const other = makeJob(1);
    await store.insert(other);
    for (const late of [false, new Error('gone')]) {
      let settle = () => {};
      const insert = () =>
        new Promise<boolean>((resolve, reject) => {
          settle = () => (late instanceof Error ? reject(late) : resolve(late));
        });
      const beginning = recorderOf({ store: wrapped({ insert }), generateId: () => other.id }).begin(facts);
      jest.advanceTimersByTime(2_000);
      expect(await beginning).toBeUndefined();
      settle();
      await new Promise((resolve) => setImmediate(resolve));
      expect(await store.get(other.id)).toEqual(other);
    }
  });

  test('the 2 s are for all attempts together', async () => {
    fakeClock();
    let attempts = 0;
    const insert = async () => {
      attempts += 1;
      // Each attempt takes half a second.
      await jest.advanceTimersByTimeAsync(500);
      return false;
    };
    expect(await recorderOf({ store: wrapped({ insert }) }).begin(facts)).toBeUndefined();
    expect(attempts).toBeLessThanOrEqual(5);
    expect(log.errors[0]).toContain('did not answer within 2000 ms');
  });
});

describe('idle', () => {
  test('is at once where nothing runs', async () => {
    await recorderOf().idle();
  });

  test('waits for every job, also when asked twice', async () => {
    const recorder = recorderOf();
    const jobs = await Promise.all([begun(recorder), begun(recorder)]);
    const over: string[] = [];
    const waits = ['one', 'two'].map((name) => recorder.idle().then(() => over.push(name)));
    await jobs[0]?.complete({ output_paths: [] });
    await new Promise((resolve) => setImmediate(resolve));
    expect(over).toEqual([]);
    await jobs[1]?.fail(failure);
    await Promise.all(waits);
    expect(over).toEqual(['one', 'two']);
  });

  test('a job is durably over before it is said to be', async () => {
    const recorder = recorderOf();
    const job = await begun(recorder);
    void job.complete({ output_paths: [] });
    await recorder.idle();
    expect((await store.get(job.id))?.status).toBe('Completed');
  });
});

describe('interrupted', () => {
  const settled = () => new Promise((resolve) => setImmediate(resolve));
  /** Only what the recorder itself waits for stands still. */
  const holdClock = () =>
    jest.useFakeTimers({
      doNotFake: ['nextTick', 'queueMicrotask', 'setImmediate', 'Date', 'setInterval', 'performance'],
    });
  const running =
    'The gateway was stopped while this job was running; what the backend made of it is not known';
  const waiting = 'The gateway was stopped while this job was waiting; the backend did not get it';

  test('every job that has not ended is Failed, durably when it is idle, and each once', async () => {
    // Nothing here takes its time.
    holdClock();
    const recorder = recorderOf();
    const [started, queued, over] = await Promise.all([begun(recorder), begun(recorder), begun(recorder)]);
    started?.start();
    await over?.complete({ output_paths: ['a.png'] });
    recorder.interruptAll();
    recorder.interruptAll();
    expect([started?.ended, queued?.ended]).toEqual([true, true]);
    await recorder.idle();
    for (const [job, message] of [
      [started, running],
      [queued, waiting],
    ] as const) {
      const { id } = job as RunningJob;
      expect(await store.get(id)).toMatchObject({
        status: 'Failed',
        error: { code: 'interrupted', message },
      });
      expect(heard.filter((line) => line === `failed ${id} Failed`)).toHaveLength(1);
    }
    expect(await store.get((over as RunningJob).id)).toMatchObject({ status: 'Completed' });
    expect(log.errors).toEqual([]);
  });

  test('no job can start any more', async () => {
    const recorder = recorderOf();
    const job = await begun(recorder);
    recorder.interruptAll();
    job.start();
    await recorder.idle();
    expect((await store.get(job.id))?.started_at).toBeUndefined();
    expect(heard).toEqual([
      `created ${job.id} Pending`,
      `status ${job.id} Failed`,
      `failed ${job.id} Failed`,
    ]);
  });

  test('whoever runs a job ends it, with what is whole of it', async () => {
    const recorder = recorderOf();
    const job = await begun(recorder);
    job.start();
    const errors: JobError[] = [];
    job.onBrokenOff((error) => {
      errors.push(error);
      void settled().then(() => job.fail(error, { output_paths: ['whole.png'] }));
    });
    recorder.interruptAll();
    await recorder.idle();
    expect(errors).toEqual([{ code: 'interrupted', message: running }]);
    expect(await store.get(job.id)).toMatchObject({
      status: 'Failed',
      output_paths: ['whole.png'],
      error: { code: 'interrupted' },
    });
  });

  test('an answer that is whole and being kept may complete', async () => {
    const recorder = recorderOf();
    const job = await begun(recorder);
    job.onBrokenOff(() => void settled().then(() => job.complete({ output_paths: ['whole.png'] })));
    recorder.interruptAll();
    await recorder.idle();
    expect(await store.get(job.id)).toMatchObject({ status: 'Completed', output_paths: ['whole.png'] });
  });

  test('who takes a job over after that is told at once', async () => {
    const recorder = recorderOf();
    const job = await begun(recorder);
    recorder.interruptAll();
    const errors: JobError[] = [];
    job.onBrokenOff((error) => errors.push(error));
    expect(errors).toEqual([{ code: 'interrupted', message: waiting }]);
    recorder.interruptAll();
    expect(errors).toHaveLength(1);
    await recorder.idle();
  });

  test('a job that is just being recorded ends as well', async () => {
    const { opened, open } = gate();
    const insert = async (job: Job) => {
      await opened;
      return store.insert(job);
    };
    const recorder = recorderOf({ store: wrapped({ insert }) });
    const beginning = begun(recorder);
    recorder.interruptAll();
    const idle = recorder.idle();
    open();
    const job = await beginning;
    expect(job.ended).toBe(true);
    await idle;
    expect(await store.get(job.id)).toMatchObject({
      status: 'Failed',
      error: { code: 'interrupted', message: waiting },
    });
  });

  test('a disk that is stuck with the images does not keep the record from its end', async () => {
    holdClock();
    const recorder = recorderOf();
    const job = await begun(recorder);
    // Whoever runs it waits for ever.
    job.onBrokenOff(() => {});
    recorder.interruptAll();
    const idle = recorder.idle();
    await settled();
    jest.advanceTimersByTime(3_999);
    await settled();
    expect((await store.get(job.id))?.status).toBe('Pending');
    jest.advanceTimersByTime(1);
    await idle;
    expect(await store.get(job.id)).toMatchObject({ status: 'Failed', error: { code: 'interrupted' } });
    jest.advanceTimersByTime(10_000);
    expect(log.errors).toEqual([]);
  });

  test('a store that never answers is waited for five seconds, which is said', async () => {
    holdClock();
    const recorder = recorderOf({ store: wrapped({ update: () => new Promise(() => {}) }) });
    const [job, ending] = await Promise.all([begun(recorder), begun(recorder)]);
    job?.start();
    void ending?.complete({ output_paths: [] });
    recorder.interruptAll();
    const order: string[] = [];
    const idle = recorder.idle().then(() => order.push('idle'));
    jest.advanceTimersByTime(4_999);
    await settled();
    expect(order).toEqual([]);
    jest.advanceTimersByTime(1);
    await idle;
    await recorder.idle();
    expect(log.errors).toEqual(['The store has not taken the ends of 2 interrupted job(s) in time']);
  });

  test('without jobs nothing happens, and nothing is said', async () => {
    holdClock();
    const recorder = recorderOf();
    recorder.interruptAll();
    await recorder.idle();
    jest.advanceTimersByTime(10_000);
    expect([...log.errors, ...log.warnings]).toEqual([]);
  });
});

describe('what an earlier process left', () => {
  test('unfinished jobs become Failed (interrupted), with the images they have; finished ones stay', async () => {
    await store.insert(makeJob(1));
    await store.insert(
      makeJob(2, { status: 'Processing', started_at: 1_790_000_002.5, output_paths: ['a.png'] }),
    );
    await store.insert(makeJob(3, { status: 'Completed', finished_at: 1_790_000_003 }));
    await store.insert(makeJob(4, { status: 'Failed', error: failure }));
    await recorderOf().failInterrupted();
    const jobs = (await store.list({ limit: 10 })).jobs.toReversed();
    expect(jobs.map((job) => [job.status, job.error?.code])).toEqual([
      ['Failed', 'interrupted'],
      ['Failed', 'interrupted'],
      ['Completed', undefined],
      ['Failed', 'backend'],
    ]);
    expect(jobs[1]?.output_paths).toEqual(['a.png']);
    expect(jobs[0]?.finished_at).toBeGreaterThan(1_700_000_000);
    expect(log.warnings).toEqual([
      '2 job(s) that were running when the gateway ended are now Failed (interrupted)',
    ]);
  });

  test('nothing to do, nothing to say', async () => {
    await recorderOf().failInterrupted();
    expect(log.warnings).toEqual([]);
  });
});

test('a listener that throws is logged, and the job goes on', async () => {
  events.on('created', () => {
    throw new Error('a bad listener');
  });
  events.on('completed', () => {
    throw new Error('another one');
  });
  const job = await begun(recorderOf());
  await job.complete({ output_paths: [] });
  expect((await store.get(job.id))?.status).toBe('Completed');
  expect(log.errors).toEqual([
    'A listener for "created" threw Error: a bad listener',
    'A listener for "completed" threw Error: another one',
  ]);
});
