import { mkdir, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import fc from 'fast-check';
import { FileImageStore } from '../../lib/images/file-image-store.js';
import type { ImageStore } from '../../lib/images/image-store.js';
import { type Job, unixSeconds } from '../../lib/job.js';
import { createJobEvents, type JobEvents } from '../../lib/jobs/job-events.js';
import { createJobs } from '../../lib/jobs/jobs.js';
import { Retention, type RetentionOptions } from '../../lib/retention/retention.js';
import type { JobStore } from '../../lib/stores/job-store.js';
import { LowdbJobStore } from '../../lib/stores/lowdb-job-store.js';
import { fileHandlePrototype } from '../helpers/file-handles.js';
import { type CollectedLog, collectLog, makeJob } from '../helpers/job-records.js';
import { openFilesBelow, until } from '../helpers/kept-jobs.js';
import { sampleImages } from '../helpers/sample-images.js';
import { tempFolders } from '../helpers/temp-folder.js';

const newFolder = tempFolders();
const DAY_MS = 86_400_000;
const png = sampleImages.png as Buffer;
/** The wall clock stands here until a test moves it. */
const NOW = 1_800_000_000_000;

let root: string;
let folder: string;
let output: string;
let log: CollectedLog;
let store: JobStore;
let images: FileImageStore;
let events: JobEvents;
let retention: Retention;
/** What a person may change. */
let settings: { retentionMs: number };

beforeEach(async () => {
  root = await newFolder();
  folder = join(root, 'tracker');
  output = join(folder, 'output');
  jest.useFakeTimers({
    now: NOW,
    doNotFake: [
      ...(['nextTick', 'queueMicrotask', 'setImmediate', 'clearImmediate', 'setTimeout'] as const),
      ...(['clearTimeout', 'hrtime', 'performance'] as const),
    ],
  });
  settings = { retentionMs: 0 };
  await openStores();
});

afterEach(async () => {
  await retention?.close();
  await store.close();
  jest.restoreAllMocks();
  jest.useRealTimers();
});

async function openStores(): Promise<void> {
  log = collectLog();
  store = new LowdbJobStore({ folder, logger: log });
  images = new FileImageStore({ folder: output, logger: log });
  events = createJobEvents();
  await store.open();
  await images.open();
}

function retentionOf(differences: Partial<RetentionOptions> = {}): Retention {
  const parts = { store, images, ...differences };
  retention = new Retention({
    events,
    settings,
    jobs: createJobs({ ...parts, events, logger: log }),
    maxBytes: Number.POSITIVE_INFINITY,
    purgeEveryMs: 6 * 60 * 60 * 1000,
    folder,
    logger: log,
    ...parts,
  });
  return retention;
}

/** Opened, with the first sweep done. */
async function opened(differences?: Partial<RetentionOptions>): Promise<Retention> {
  const made = retentionOf(differences);
  await made.open();
  await sweepsDone();
  return made;
}

/** Resolves once all that has been begun is done: it takes turns. */
const sweepsDone = () => retention.purge({ olderThanMs: 1e15, dryRun: true });

/** The same folder, in another process. */
async function restart(differences?: Partial<RetentionOptions>): Promise<void> {
  await retention.close();
  await store.close();
  await openStores();
  await opened(differences);
}

const nextSweep = async () => {
  jest.advanceTimersByTime(6 * 60 * 60 * 1000);
  await sweepsDone();
};

/** The store with some of its methods replaced. */
const storeWith = (methods: Partial<JobStore>): JobStore => ({
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

const imagesWith = (methods: Partial<ImageStore>): ImageStore => ({
  open: () => images.open(),
  create: (stem) => images.create(stem),
  read: (path) => images.read(path),
  remove: (path) => images.remove(path),
  ...methods,
});

async function keepFile(stem: string, sizeBytes: number): Promise<string> {
  const writer = await images.create(stem);
  await writer.write(Buffer.alloc(sizeBytes, 7));
  return writer.finish('png');
}

/** A job that ended so many days ago and has files of these sizes, the last of which is its sidecar. */
async function keepJob(
  number: number,
  daysAgo: number,
  sizes: readonly number[] = [],
  differences: Partial<Job> = {},
): Promise<Job> {
  const paths: string[] = [];
  for (const [n, size] of sizes.entries())
    paths.push(await keepFile(`2026-11-22/${makeJob(number).id}-${n}`, size));
  const endedMs = NOW - daysAgo * DAY_MS;
  const job = makeJob(number, {
    status: 'Completed',
    timestamp: Math.floor(endedMs / 1000) - 60,
    finished_at: unixSeconds(endedMs),
    output_paths: paths.slice(0, Math.max(1, paths.length - 1)),
    ...(paths.length > 1 && { sidecar: paths.at(-1) as string }),
    ...(paths.length > 0 && { bytes: sizes.reduce((sum, size) => sum + size) }),
    ...differences,
  });
  await store.insert(job);
  return job;
}

/** A job that ends now, as the recorder does it. */
async function endJob(number: number, sizes: readonly number[], differences?: Partial<Job>): Promise<Job> {
  const job = await keepJob(number, (NOW - Date.now()) / DAY_MS, sizes, differences);
  events.emit('status', job);
  events.emit(job.status === 'Completed' ? 'completed' : 'failed', job);
  return job;
}

const idOf = (number: number) => makeJob(number).id;

async function numbersKept(): Promise<number[]> {
  const { jobs } = await store.list({ limit: Number.POSITIVE_INFINITY });
  return jobs.map(({ id }) => Number(id.slice(3))).sort((a, b) => a - b);
}

/** The files below the output folder, without those that are on their way. */
async function filesKept(): Promise<string[]> {
  const entries = await readdir(output, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map(({ name }) => name);
}

const lastSweep = async () => JSON.parse(await readFile(join(folder, 'last-sweep.json'), 'utf8'));

describe('a purge', () => {
  test('removes jobs with all their files, and tells how many and how much', async () => {
    await keepJob(1, 9, [100, 20, 3]);
    await keepJob(2, 8, [5_000]);
    await keepJob(3, 1, [7]);
    const removed: string[] = [];
    await opened();
    events.on('removed', ({ id }) => removed.push(id));
    expect(await retention.purge({ olderThanMs: 2 * DAY_MS })).toEqual({ jobs: 2, bytes: 5_123 });
    expect(await numbersKept()).toEqual([3]);
    expect(await filesKept()).toEqual([`${idOf(3)}-0.png`]);
    expect(removed.sort()).toEqual([idOf(1), idOf(2)]);
    expect(log.infos).toEqual(['Removed 2 job(s) that had outlived their time, with 5123 bytes of files']);
    expect([...log.warnings, ...log.errors]).toEqual([]);
  });

  test('goes by the end, strictly, and by the beginning where no end is known', async () => {
    await keepJob(1, 2, [], { timestamp: 0 });
    await keepJob(2, 2 + 1 / DAY_MS, [], { timestamp: NOW / 1000 });
    await store.insert(makeJob(3, { status: 'Failed', timestamp: NOW / 1000 - 2 * 86_400 }));
    await store.insert(makeJob(4, { status: 'Failed', timestamp: NOW / 1000 - 2 * 86_400 - 1 }));
    await opened();
    expect(await retention.purge({ olderThanMs: 2 * DAY_MS })).toEqual({ jobs: 2, bytes: 0 });
    expect(await numbersKept()).toEqual([1, 3]);
  });

  test('goes by the setting where no age is given; 0 is for ever', async () => {
    for (const [number, days] of [10, 8, 6].entries()) await keepJob(number, days, [10]);
    await opened();
    expect(await retention.purge()).toEqual({ jobs: 0, bytes: 0 });
    settings.retentionMs = 9 * DAY_MS;
    expect(await retention.purge()).toEqual({ jobs: 1, bytes: 10 });
    settings.retentionMs = 7 * DAY_MS;
    expect(await retention.purge({ olderThanMs: 9 * DAY_MS })).toEqual({ jobs: 0, bytes: 0 });
    expect(await retention.purge({})).toEqual({ jobs: 1, bytes: 10 });
    expect(await numbersKept()).toEqual([2]);
  });

  test('never touches a job that has not ended, however old', async () => {
    await store.insert(makeJob(1, { status: 'Pending', timestamp: 1 }));
    await store.insert(makeJob(2, { status: 'Processing', timestamp: 1, output_paths: ['a.png'] }));
    await opened({ maxBytes: 1 });
    settings.retentionMs = 1;
    expect(await retention.purge()).toEqual({ jobs: 0, bytes: 0 });
    await nextSweep();
    expect(await numbersKept()).toEqual([1, 2]);
  });

  test('a record with times that make no sense stays', async () => {
    const finished_at = 'long ago' as unknown as number;
    await store.insert(makeJob(1, { status: 'Failed', finished_at, timestamp: 'x' as unknown as number }));
    await store.insert(makeJob(2, { status: 'Failed', finished_at }));
    await opened();
    expect(await retention.purge({ olderThanMs: 1 })).toEqual({ jobs: 1, bytes: 0 });
    expect(await numbersKept()).toEqual([1]);
  });

  test.each([0, -1, Number.NaN, '5', null])('of jobs older than %p is refused', async (olderThanMs) => {
    await keepJob(1, 9);
    await opened();
    await expect(retention.purge({ olderThanMs: olderThanMs as number })).rejects.toMatchObject({
      code: 'INVALID_PARAMETER',
      message: `Expected \`olderThanMs\` to be a number above 0, got ${olderThanMs}`,
    });
    expect(await numbersKept()).toEqual([1]);
  });

  test('that is dry removes nothing, and tells what the same purge then removes', async () => {
    await keepJob(1, 9, [100, 20]);
    await keepJob(2, 8, [5], { bytes: undefined as unknown as number });
    await store.insert(makeJob(3, { status: 'Completed', output_paths: ['/etc/hostname'], timestamp: 5 }));
    await keepJob(4, 1, [1]);
    await opened();
    const dry = await retention.purge({ olderThanMs: 2 * DAY_MS, dryRun: true });
    expect(dry).toEqual({ jobs: 3, bytes: 125 });
    expect(await numbersKept()).toEqual([1, 2, 3, 4]);
    expect(await filesKept()).toHaveLength(4);
    expect(log.infos).toEqual([]);
    expect(await retention.purge({ olderThanMs: 2 * DAY_MS })).toEqual(dry);
    expect(await numbersKept()).toEqual([4]);
  });

  test('dry and real agree, whatever there is', async () => {
    const one = fc.record({
      daysAgo: fc.integer({ min: 0, max: 6 }),
      sizes: fc.array(fc.integer({ min: 1, max: 50 }), { maxLength: 3 }),
      recorded: fc.boolean(),
      status: fc.constantFrom('Completed', 'Failed', 'Pending', 'Processing'),
    });
    await opened();
    await fc.assert(
      fc.asyncProperty(
        fc.array(one, { maxLength: 8 }),
        fc.integer({ min: 1, max: 6 }),
        async (list, days) => {
          let expected = { jobs: 0, bytes: 0 };
          for (const [number, { daysAgo, sizes, recorded, status }] of list.entries()) {
            const size = sizes.reduce((sum, each) => sum + each, 0);
            await keepJob(number, daysAgo, sizes, {
              status,
              ...(!recorded && { bytes: undefined as unknown as number }),
            });
            const goes = daysAgo > days && (status === 'Completed' || status === 'Failed');
            if (goes) expected = { jobs: expected.jobs + 1, bytes: expected.bytes + size };
          }
          const olderThanMs = days * DAY_MS;
          expect(await retention.purge({ olderThanMs, dryRun: true })).toEqual(expected);
          expect(await retention.purge({ olderThanMs })).toEqual(expected);
          expect(await retention.purge({ olderThanMs, dryRun: true })).toEqual({ jobs: 0, bytes: 0 });
          for (const number of await numbersKept()) await store.remove(idOf(number));
          await rm(join(output, '2026-11-22'), { recursive: true, force: true });
        },
      ),
      { numRuns: 25 },
    );
  });

  test('one at a time; others wait their turn', async () => {
    for (let number = 0; number < 20; number += 1) await keepJob(number, 9, [1]);
    await opened();
    let walks = 0;
    let most = 0;
    const slow = storeWith({
      async *walk() {
        walks += 1;
        most = Math.max(most, walks);
        yield* store.walk();
        walks -= 1;
      },
    });
    await retention.close();
    const purge = { olderThanMs: DAY_MS };
    retentionOf({ store: slow });
    await retention.open();
    const results = await Promise.all([
      retention.purge(purge),
      retention.purge(purge),
      retention.purge(purge),
    ]);
    expect(results.map(({ jobs }) => jobs)).toEqual([20, 0, 0]);
    expect(most).toBe(1);
  });

  test('a job that is removed by somebody else meanwhile is not counted', async () => {
    await keepJob(1, 9, [10]);
    await keepJob(2, 9, [10]);
    await opened({
      images: imagesWith({
        async remove(path) {
          if (path.includes(idOf(1))) await store.remove(idOf(1));
          return images.remove(path);
        },
      }),
    });
    expect(await retention.purge({ olderThanMs: DAY_MS })).toEqual({ jobs: 1, bytes: 10 });
    expect(log.errors).toEqual([]);
    expect(retention.keptBytes).toBe(0);
  });

  test('the setting that is changed to "for ever" under way counts at once', async () => {
    for (let number = 0; number < 150; number += 1) await keepJob(number, 9, [1]);
    settings.retentionMs = DAY_MS;
    await opened({
      images: imagesWith({
        remove(path) {
          settings.retentionMs = 0;
          return images.remove(path);
        },
      }),
    });
    // But for those that were under way at the same time.
    expect((await numbersKept()).length).toBeGreaterThan(100);
  });
});

describe('a job that cannot be removed', () => {
  const no = () => Promise.reject(new Error('EACCES: permission denied'));

  test('stops no other, is said once with the number, and is tried again', async () => {
    for (let number = 0; number < 40; number += 1) await keepJob(number, 9, [10]);
    let isWell = false;
    const stubborn = imagesWith({
      remove: (path) => (/Job000[01]3/.test(path) && !isWell ? no() : images.remove(path)),
    });
    settings.retentionMs = DAY_MS;
    await opened({ images: stubborn });
    expect(await numbersKept()).toEqual([3, 13]);
    expect(await filesKept()).toHaveLength(2);
    const says = /^Could not remove 2 job\(s\) .*; they stay until the next try\. Job Job000[01]3: EACCES/;
    expect(log.errors).toEqual([expect.stringMatching(says)]);
    expect(log.infos).toEqual(['Removed 38 job(s) that had outlived their time, with 380 bytes of files']);
    expect(retention.keptBytes).toBe(20);
    await nextSweep();
    expect(log.errors).toHaveLength(2);
    expect(await retention.purge()).toEqual({ jobs: 0, bytes: 0 });
    isWell = true;
    expect(await retention.purge()).toEqual({ jobs: 2, bytes: 20 });
    expect(log.errors).toHaveLength(3);
  });

  test('because it was killed between its images and its record: the next sweep finishes it', async () => {
    await keepJob(1, 9, [100, 20]);
    await keepJob(2, 9, [5]);
    let isKilled = true;
    const dying = storeWith({
      remove: (id) => (isKilled && id === idOf(1) ? Promise.reject(new Error('killed')) : store.remove(id)),
    });
    await opened({ store: dying });
    expect(await retention.purge({ olderThanMs: DAY_MS })).toEqual({ jobs: 1, bytes: 5 });
    // Never the other way round: a record without images can be removed again, images without a record cannot.
    expect([await numbersKept(), await filesKept()]).toEqual([[1], []]);
    isKilled = false;
    await restart({ store: dying });
    expect(await retention.purge({ olderThanMs: DAY_MS })).toEqual({ jobs: 1, bytes: 120 });
    expect([await numbersKept(), retention.keptBytes]).toEqual([[], 0]);
  });

  test('a record whose members make no sense', async () => {
    await store.insert(
      makeJob(1, { status: 'Failed', timestamp: 1, output_paths: null as unknown as string[] }),
    );
    await keepJob(2, 9);
    await opened();
    expect(await retention.purge({ olderThanMs: DAY_MS })).toEqual({ jobs: 1, bytes: 0 });
    expect(await numbersKept()).toEqual([1]);
    expect(log.errors).toEqual([expect.stringContaining('Could not remove 1 job(s)')]);
  });

  test('a store that fails: an automatic sweep is logged, a purge rejects, and the next one is well', async () => {
    await keepJob(1, 9);
    await opened();
    let isWell = false;
    await retention.close();
    await opened({
      store: storeWith({
        walk: () => {
          if (isWell) return store.walk();
          throw new Error('the database is gone');
        },
      }),
    }).catch(() => {});
    await expect(retention.open()).rejects.toThrow('the database is gone');
    isWell = true;
    await retention.open();
    await sweepsDone();
    isWell = false;
    settings.retentionMs = DAY_MS;
    jest.advanceTimersByTime(6 * 60 * 60 * 1000);
    await expect(retention.purge()).rejects.toThrow('the database is gone');
    expect(log.errors).toEqual(['The sweep for old jobs failed: the database is gone']);
    isWell = true;
    expect(await retention.purge()).toEqual({ jobs: 1, bytes: 0 });
  });
});

describe('nothing outside of the output folder is touched', () => {
  test('absolute paths, paths that climb out, and links that lead out', async () => {
    const outside = join(root, 'outside');
    await mkdir(outside);
    const files = ['absolute.png', 'above.png', 'linked.png', 'target.png'].map((name) =>
      join(outside, name),
    );
    for (const file of files) await writeFile(file, png);
    await writeFile(join(folder, 'mine.json'), 'precious');
    await symlink(outside, join(output, 'out'));
    await symlink(join(outside, 'target.png'), join(output, 'link.png'));
    const inside = await keepFile('2026-11-22/inside-0', 50);
    const paths = [
      join(outside, 'absolute.png'),
      '../../outside/above.png',
      '../mine.json',
      '../jobs.json',
      'out/linked.png',
      'link.png',
      '2026-11-22/../../../outside/above.png',
      '..\\..\\outside\\above.png',
      './2026-11-22/inside-0.png',
      '.',
      '..',
      '/',
      '',
      'out',
      '2026-11-22',
      'missing.png',
      'nul\0.png',
    ];
    for (const [number, path] of paths.entries()) {
      await store.insert(makeJob(number, { status: 'Failed', timestamp: 1, output_paths: [path] }));
      await store.insert(
        makeJob(100 + number, { status: 'Failed', timestamp: 1, output_paths: [], sidecar: path }),
      );
    }
    await opened();
    expect(retention.keptBytes).toBe(0);
    const before = await readFile(join(folder, 'jobs.json.lock')).catch(() => undefined);
    const dry = await retention.purge({ olderThanMs: DAY_MS, dryRun: true });
    expect(dry).toEqual({ jobs: 2 * paths.length, bytes: 0 });
    expect(await retention.purge({ olderThanMs: DAY_MS })).toEqual(dry);
    for (const file of files) expect(await readFile(file)).toEqual(png);
    expect(await readFile(join(folder, 'mine.json'), 'utf8')).toBe('precious');
    expect(await readFile(join(folder, 'jobs.json'), 'utf8')).toMatch(/^\[/);
    expect(await readFile(join(folder, 'jobs.json.lock')).catch(() => undefined)).toEqual(before);
    expect((await readdir(output)).sort()).toEqual(['.partial', '2026-11-22', 'link.png', 'out']);
    expect(await readFile(join(output, inside))).toHaveLength(50);
    expect(log.errors).toEqual([]);
  });

  test('jobs of the A1111 extension: their records go, their images stay', async () => {
    await retention?.close();
    await store.close();
    const image = join(root, 'webui', 'outputs', 'txt2img', '00001.png');
    await mkdir(dirname(image), { recursive: true });
    await writeFile(image, png);
    const record = { id: 'Extn0001', prompt: 'x', ip: '', timestamp: 1_700_000_000, status: 'Completed' };
    await writeFile(join(folder, 'jobs.json'), JSON.stringify([{ ...record, output_paths: [image] }]));
    await openStores();
    await opened({ maxBytes: 1 });
    expect(retention.keptBytes).toBe(0);
    expect((await store.list({ limit: 9 })).total).toBe(1);
    expect(await retention.purge({ olderThanMs: DAY_MS })).toEqual({ jobs: 1, bytes: 0 });
    expect(await readFile(image)).toEqual(png);
  });
});

describe('the bytes that are kept', () => {
  test('are learnt at the start: by the record, or by the files where it does not tell', async () => {
    await keepJob(1, 3, [100, 20, 3]);
    // What the record says counts.
    await keepJob(2, 2, [10], { bytes: 1_000 });
    for (const [number, bytes] of [undefined, -5, 1.5, '7', Number.NaN].entries())
      await keepJob(10 + number, 1, [40, 2], { bytes: bytes as number });
    await store.insert(makeJob(3, { status: 'Processing', bytes: 77 }));
    await opened();
    expect(retention.keptBytes).toBe(1_123 + 5 * 42);
    expect(openFilesBelow(output)).toEqual([]);
  });

  test('follow what happens to jobs', async () => {
    await keepJob(1, 3, [100]);
    await opened();
    await endJob(2, [20, 2]);
    expect(retention.keptBytes).toBe(122);
    await endJob(3, [3], { status: 'Failed' });
    expect(retention.keptBytes).toBe(125);
    await endJob(4, []);
    const unrecorded = await endJob(5, [1_000], { bytes: undefined as unknown as number });
    await until(() => retention.keptBytes === 1_125);
    // Told twice, it counts once.
    events.emit('completed', unrecorded);
    await until(() => retention.keptBytes === 1_125);
    const jobs = createJobs({ store, images, events, logger: log });
    expect(await jobs.remove(idOf(2))).toBe(true);
    expect(retention.keptBytes).toBe(1_103);
    for (const number of [1, 3, 4, 5]) await jobs.remove(idOf(number));
    expect(retention.keptBytes).toBe(0);
  });

  test('files that cannot be measured are said, and hold nothing up', async () => {
    await keepJob(1, 3, [100], { bytes: undefined as unknown as number });
    await keepJob(2, 2, [10]);
    const read = () => Promise.reject(new Error('EIO: i/o error'));
    await opened({ images: imagesWith({ read }) });
    expect(retention.keptBytes).toBe(10);
    await endJob(3, [1], { bytes: undefined as unknown as number });
    await until(() => log.warnings.length === 2);
    const says = (number: number) => `The files of job ${idOf(number)} could not be measured: EIO: i/o error`;
    expect(log.warnings).toEqual([says(1), says(3)]);
  });
});

describe('maxBytes', () => {
  test('the jobs that ended first go first, until the rest fits, and no more', async () => {
    // In the order in which they were created, but not in which they ended.
    await keepJob(1, 1, [100]);
    await keepJob(2, 5, [60, 40]);
    await keepJob(3, 4, [100]);
    await keepJob(4, 3, [100]);
    await keepJob(5, 9);
    await opened({ maxBytes: 250 });
    expect(await numbersKept()).toEqual([1, 4, 5]);
    expect(await filesKept()).toHaveLength(2);
    expect(retention.keptBytes).toBe(200);
    expect(log.infos).toEqual(['Removed 2 job(s) to keep within `maxBytes`, with 200 bytes of files']);
    // At the limit is within it.
    await endJob(6, [50]);
    await sweepsDone();
    expect([await numbersKept(), retention.keptBytes]).toEqual([[1, 4, 5, 6], 250]);
  });

  test('soon after a job that exceeds it has ended, well or not', async () => {
    await opened({ maxBytes: 250 });
    for (let number = 1; number <= 6; number += 1) {
      await endJob(number, [100], { status: number % 2 ? 'Completed' : 'Failed' });
      await sweepsDone();
      expect(await numbersKept()).toEqual(number === 1 ? [1] : [number - 1, number]);
    }
    expect(await filesKept()).toHaveLength(2);
  });

  test('the job that ended last stays in any case', async () => {
    await keepJob(1, 2, [100]);
    await keepJob(2, 1, [1_000]);
    await opened({ maxBytes: 10 });
    expect(await numbersKept()).toEqual([2]);
    await endJob(3, [2_000]);
    await sweepsDone();
    expect(await numbersKept()).toEqual([3]);
    expect(retention.keptBytes).toBe(2_000);
  });

  test('running jobs, and jobs without files, take nothing and stay', async () => {
    await store.insert(makeJob(1, { status: 'Processing', timestamp: 1 }));
    await keepJob(2, 9, [], { status: 'Failed', output_paths: [] });
    await keepJob(3, 2, [100]);
    await keepJob(4, 1, [100]);
    await opened({ maxBytes: 100 });
    expect(await numbersKept()).toEqual([1, 2, 4]);
  });

  test('a job that cannot be removed: the next one goes', async () => {
    for (let number = 1; number <= 50; number += 1) await keepJob(number, 90 - number, [10]);
    const stubborn = imagesWith({
      remove: (path) =>
        /Job0000[1-9]/.test(path) ? Promise.reject(new Error('EACCES')) : images.remove(path),
    });
    await opened({ images: stubborn, maxBytes: 200 });
    expect(retention.keptBytes).toBe(200);
    expect(await numbersKept()).toEqual([
      ...[1, 2, 3, 4, 5, 6, 7, 8, 9],
      ...[40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50],
    ]);
    expect(log.errors).toEqual([expect.stringMatching(/^Could not remove 9 job\(s\) to keep within/)]);
  });

  test('many jobs that end at once share a sweep', async () => {
    await keepJob(1, 9, [200]);
    const stubborn = imagesWith({
      remove: (path) => (path.includes(idOf(1)) ? Promise.reject(new Error('EACCES')) : images.remove(path)),
    });
    await opened({ images: stubborn, maxBytes: 150 });
    const jobs = await Promise.all(Array.from({ length: 90 }, (_, n) => keepJob(n + 2, 0, [10])));
    for (const job of jobs) events.emit('completed', job);
    await sweepsDone();
    expect(retention.keptBytes).toBe(210);
    expect(await numbersKept()).toEqual([1, 91]);
    expect(log.errors).toHaveLength(1);
    expect(log.infos).toEqual(['Removed 89 job(s) to keep within `maxBytes`, with 890 bytes of files']);
  });

  test('without a limit nothing goes', async () => {
    await keepJob(1, 9, [100], { bytes: Number.MAX_SAFE_INTEGER });
    await opened();
    await endJob(2, [100]);
    await nextSweep();
    expect(await numbersKept()).toEqual([1, 2]);
  });

  test('any jobs: what stays fits, or is one job', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 0, max: 300 }), { maxLength: 40 }),
        fc.integer({ min: 1, max: 2_000 }),
        async (sizes, maxBytes) => {
          const kept = new Map<string, Job>();
          for (const [number, bytes] of sizes.entries()) {
            const ended = { finished_at: 1_000_000 + ((number * 7) % 40), bytes };
            kept.set(idOf(number), makeJob(number, { status: 'Completed', ...ended }));
          }
          const order = [...kept.values()]
            .filter(({ bytes }) => bytes)
            .sort((a, b) => (a.finished_at ?? 0) - (b.finished_at ?? 0));
          const total = () => [...kept.values()].reduce((sum, { bytes = 0 }) => sum + bytes, 0);
          const inMemory = {
            async *walk() {
              yield [...kept.values()];
            },
          } as unknown as JobStore;
          await opened({
            maxBytes,
            store: inMemory,
            jobs: { remove: async (id) => kept.delete(id) },
          });
          while (total() <= maxBytes && order.length > 0 && kept.has((order[0] as Job).id)) order.shift();
          const gone = order.findIndex(({ id }) => kept.has(id));
          // All that went is older than all that stayed.
          expect(order.slice(Math.max(0, gone)).every(({ id }) => kept.has(id))).toBe(true);
          if (total() > maxBytes) expect([...kept.values()].filter(({ bytes }) => bytes)).toHaveLength(1);
          expect(retention.keptBytes).toBe(total());
          await retention.close();
        },
      ),
      { numRuns: 100 },
    );
  });
});

describe('automatic sweeps', () => {
  test('at the start, and every so often', async () => {
    for (const [number, days] of [10, 6.9, 6.8].entries()) await keepJob(number, days, [1]);
    settings.retentionMs = 7 * DAY_MS;
    await opened({ purgeEveryMs: DAY_MS / 8 });
    expect(await numbersKept()).toEqual([1, 2]);
    jest.advanceTimersByTime(DAY_MS / 8 - 1);
    await sweepsDone();
    expect(await numbersKept()).toEqual([1, 2]);
    jest.advanceTimersByTime(1);
    await sweepsDone();
    expect(await numbersKept()).toEqual([2]);
    settings.retentionMs = 1;
    jest.advanceTimersByTime(DAY_MS / 8);
    await sweepsDone();
    expect(await numbersKept()).toEqual([]);
  });

  test('hold no process', async () => {
    const unref = jest.fn();
    const { setInterval: real } = globalThis;
    jest.spyOn(globalThis, 'setInterval').mockImplementation(((...args: Parameters<typeof real>) => {
      const timer = real(...args);
      return Object.assign(timer, { unref: () => unref() || timer });
    }) as typeof real);
    await opened();
    expect(unref).toHaveBeenCalledTimes(1);
  });

  test('opening again is harmless, and closing ends them', async () => {
    await keepJob(1, 1, [10]);
    await opened();
    await Promise.all([retention.open(), retention.open()]);
    expect([retention.keptBytes, jest.getTimerCount()]).toEqual([10, 1]);
    await endJob(2, [5]);
    expect(retention.keptBytes).toBe(15);
    await Promise.all([retention.close(), retention.close()]);
    expect(jest.getTimerCount()).toBe(0);
    expect(events.eventNames()).toEqual([]);
    await expect(retention.open()).rejects.toMatchObject({ code: 'CLOSED' });
    const walk = jest.spyOn(store, 'walk');
    await expect(retention.purge()).rejects.toMatchObject({ code: 'CLOSED' });
    expect(walk).not.toHaveBeenCalled();
  });

  test('a failed opening leaves nothing behind, and can be repeated', async () => {
    await keepJob(1, 1, [10]);
    let failures = 2;
    const flaky = storeWith({
      async *walk() {
        yield* store.walk();
        if (failures-- > 0) throw new Error('not yet');
      },
    });
    retentionOf({ store: flaky });
    for (let attempt = 0; attempt < 2; attempt += 1) {
      await expect(retention.open()).rejects.toThrow('not yet');
      expect([retention.keptBytes, jest.getTimerCount(), events.eventNames()]).toEqual([0, 0, []]);
    }
    await retention.open();
    await endJob(2, [5]);
    expect([retention.keptBytes, jest.getTimerCount()]).toEqual([15, 1]);
  });

  test('closing before, and while, it opens', async () => {
    await keepJob(1, 9, [10]);
    settings.retentionMs = DAY_MS;
    retentionOf();
    await retention.close();
    await expect(retention.open()).rejects.toMatchObject({ code: 'CLOSED' });
    const opening = retentionOf().open();
    await retention.close();
    await expect(opening).rejects.toMatchObject({ code: 'CLOSED' });
    expect([await numbersKept(), jest.getTimerCount(), events.eventNames()]).toEqual([[1], 0, []]);
    let closing = Promise.resolve();
    const closes = storeWith({
      async *walk() {
        yield* store.walk();
        queueMicrotask(() => {
          closing = retention.close();
        });
      },
    });
    await retentionOf({ store: closes }).open();
    await closing;
    expect([await numbersKept(), jest.getTimerCount(), events.eventNames()]).toEqual([[1], 0, []]);
  });

  test('closing stops one that is under way at the next job, and waits for it', async () => {
    for (let number = 0; number < 100; number += 1) await keepJob(number, 9);
    settings.retentionMs = DAY_MS;
    let waiting = 0;
    let letGo = () => {};
    const gate = new Promise<void>((resolve) => {
      letGo = resolve;
    });
    const jobs = createJobs({ store, images, events, logger: log });
    retentionOf({
      jobs: {
        async remove(id) {
          waiting += 1;
          await gate;
          return jobs.remove(id);
        },
      },
    });
    await retention.open();
    const purging = retention.purge();
    const refused = expect(purging).rejects.toMatchObject({ code: 'CLOSED' });
    await until(() => waiting > 0);
    let isClosed = false;
    const closing = retention.close().then(() => {
      isClosed = true;
    });
    await new Promise((resolve) => setImmediate(resolve));
    expect(isClosed).toBe(false);
    letGo();
    await closing;
    await refused;
    const left = (await numbersKept()).length;
    expect(left).toBe(100 - waiting);
    expect(waiting).toBeLessThan(50);
    expect(waiting).toBeGreaterThan(1);
    await new Promise((resolve) => setImmediate(resolve));
    expect(await numbersKept()).toHaveLength(left);
    expect(log.errors).toEqual([]);
  });

  test('closing stops a purge that somebody waits for, who is told', async () => {
    for (let number = 0; number < 100; number += 1) await keepJob(number, 9);
    await opened();
    const purging = retention.purge({ olderThanMs: DAY_MS });
    const told = expect(purging).rejects.toMatchObject({ code: 'CLOSED' });
    events.once('removed', () => void retention.close());
    await told;
    expect((await numbersKept()).length).toBeGreaterThan(0);
  });
});

describe('a hundred thousand jobs', () => {
  const COUNT = 100_000;

  /** How often a timer of a millisecond had its turn while this was done. */
  async function turnsDuring(work: () => Promise<unknown>): Promise<number> {
    let turns = 0;
    let isDone = false;
    const count = () => {
      turns += 1;
      if (!isDone) setTimeout(count, 1);
    };
    setTimeout(count, 1);
    await work();
    isDone = true;
    return turns;
  }

  test('are counted, looked through and removed while everything else goes on', async () => {
    await store.close();
    const records = Array.from({ length: COUNT }, (_, number) =>
      makeJob(number, { status: 'Completed', timestamp: NOW / 1000 - 9 * 86_400, bytes: 10 }),
    );
    await writeFile(join(folder, 'jobs.json'), JSON.stringify(records));
    await openStores();
    retentionOf({ maxBytes: 10 * (COUNT - 2_000) });
    expect(await turnsDuring(() => retention.open())).toBeGreaterThan(20);
    expect(retention.keptBytes).toBe(10 * COUNT);
    await sweepsDone();
    expect(retention.keptBytes).toBe(10 * (COUNT - 2_000));
    const dry = () => retention.purge({ olderThanMs: DAY_MS, dryRun: true });
    expect(await turnsDuring(dry)).toBeGreaterThan(20);
    const purge = async () => {
      const purged = await retention.purge({ olderThanMs: DAY_MS });
      expect(purged).toEqual({ jobs: COUNT - 2_000, bytes: 10 * (COUNT - 2_000) });
    };
    expect(await turnsDuring(purge)).toBeGreaterThan(200);
    expect((await store.list({ limit: 1 })).total).toBe(0);
    expect(retention.keptBytes).toBe(0);
  }, 60_000);
});

describe('a clock that is wrong', () => {
  const YEARS_MS = 3_652 * DAY_MS;
  const warning = expect.stringMatching(
    /^The clock is \d+ days ahead of the last known activity, .*POST \/job-tracker\/purge/,
  );

  beforeEach(async () => {
    settings.retentionMs = 30 * DAY_MS;
    await keepJob(1, 2, [100]);
    await keepJob(2, 1, [100]);
  });

  test('the time of a sweep is kept', async () => {
    await opened();
    expect(await lastSweep()).toEqual({ unix: NOW / 1000 });
    await nextSweep();
    expect(await lastSweep()).toEqual({ unix: NOW / 1000 + 6 * 3600 });
    settings.retentionMs = 0;
    await nextSweep();
    expect(await lastSweep()).toEqual({ unix: NOW / 1000 + 12 * 3600 });
    expect(log.warnings).toEqual([]);
  });

  test('ten years ahead while running: nothing goes for its age, which is said once', async () => {
    await opened();
    jest.setSystemTime(NOW + YEARS_MS);
    for (let sweep = 0; sweep < 5; sweep += 1) await nextSweep();
    expect(await numbersKept()).toEqual([1, 2]);
    expect(await lastSweep()).toEqual({ unix: NOW / 1000 });
    expect(log.warnings).toEqual([warning]);
    expect(log.warnings[0]).toContain('3652 days');
    // Put right again, it goes on.
    jest.setSystemTime(NOW + 28.5 * DAY_MS);
    await nextSweep();
    expect(await numbersKept()).toEqual([2]);
    expect(log.warnings).toHaveLength(1);
  });

  test('ten years ahead at a restart', async () => {
    await opened();
    jest.setSystemTime(NOW + YEARS_MS);
    // What ends by the wrong clock is no reason to believe it.
    await endJob(3, [1]);
    for (let start = 0; start < 2; start += 1) {
      await restart();
      await nextSweep();
      expect(await numbersKept()).toEqual([1, 2, 3]);
      expect(await lastSweep()).toEqual({ unix: NOW / 1000 });
      expect(log.warnings).toEqual([warning]);
    }
  });

  test('ten years ahead at the first start, and at the next: the newest job tells', async () => {
    jest.setSystemTime(NOW + YEARS_MS);
    await opened();
    expect(log.warnings).toEqual([warning]);
    await endJob(3, [1]);
    await restart();
    expect(await numbersKept()).toEqual([1, 2, 3]);
    expect(await lastSweep()).toEqual({ unix: NOW / 1000 - 86_400 });
  });

  test('ten years ahead where nothing is known: there is nothing to lose', async () => {
    for (const number of [1, 2]) await store.remove(idOf(number));
    jest.setSystemTime(NOW + YEARS_MS);
    await opened();
    expect(await lastSweep()).toEqual({ unix: (NOW + YEARS_MS) / 1000 });
    expect(log.warnings).toEqual([]);
  });

  test('maxBytes goes on', async () => {
    await opened();
    jest.setSystemTime(NOW + YEARS_MS);
    await restart({ maxBytes: 100 });
    expect(await numbersKept()).toEqual([2]);
    await endJob(3, [100]);
    await sweepsDone();
    expect(await numbersKept()).toEqual([3]);
  });

  test('a year ahead is believed, a millisecond more is not', async () => {
    await opened();
    jest.setSystemTime(NOW + 365 * DAY_MS + 1);
    await restart();
    expect(await numbersKept()).toEqual([1, 2]);
    jest.setSystemTime(NOW + 365 * DAY_MS);
    await restart();
    expect(await numbersKept()).toEqual([]);
    expect(await lastSweep()).toEqual({ unix: NOW / 1000 + 365 * 86_400 });
  });

  test('a purge on demand goes by the clock as it is, and confirms it; a dry one does not', async () => {
    await opened();
    jest.setSystemTime(NOW + YEARS_MS);
    await nextSweep();
    expect(await retention.purge({ dryRun: true })).toEqual({ jobs: 2, bytes: 200 });
    await nextSweep();
    expect(await numbersKept()).toEqual([1, 2]);
    expect(await lastSweep()).toEqual({ unix: NOW / 1000 });
    const now = Date.now();
    expect(await retention.purge({ olderThanMs: 20 * YEARS_MS })).toEqual({ jobs: 0, bytes: 0 });
    expect(await lastSweep()).toEqual({ unix: now / 1000 });
    await nextSweep();
    expect(await numbersKept()).toEqual([]);
    expect(log.warnings).toHaveLength(1);
  });

  test('is not believed either while jobs are kept for ever, but that is nothing to warn of', async () => {
    await opened();
    settings.retentionMs = 0;
    jest.setSystemTime(NOW + YEARS_MS);
    await nextSweep();
    expect(log.warnings).toEqual([]);
    settings.retentionMs = 30 * DAY_MS;
    await nextSweep();
    expect(await numbersKept()).toEqual([1, 2]);
    expect(log.warnings).toEqual([warning]);
  });

  test('set back: nothing looks old, and the new time is taken', async () => {
    jest.setSystemTime(NOW + 300 * DAY_MS);
    settings.retentionMs = 0;
    await opened();
    settings.retentionMs = 30 * DAY_MS;
    jest.setSystemTime(NOW);
    await restart();
    expect(await numbersKept()).toEqual([1, 2]);
    expect(await lastSweep()).toEqual({ unix: NOW / 1000 });
    expect(log.warnings).toEqual([]);
  });

  test.each([
    '',
    'x',
    '[]',
    '{}',
    '{"unix":"now"}',
    '{"unix":-1}',
    '{"unix":1e999}',
    `{"unix":${'9'.repeat(2000)}}`,
  ])('a last-sweep.json that is damaged (%p) counts as absent, which is said', async (content) => {
    await writeFile(join(folder, 'last-sweep.json'), content);
    jest.setSystemTime(NOW + YEARS_MS);
    await opened();
    expect(log.warnings).toEqual([
      expect.stringMatching(/^The time of the last sweep is not known: Expected .*last-sweep\.json/),
      warning,
    ]);
    expect(await numbersKept()).toEqual([1, 2]);
    expect(await lastSweep()).toEqual({ unix: NOW / 1000 - 86_400 });
  });

  test('a last-sweep.json that cannot be written is said, and holds nothing up', async () => {
    await opened();
    const handles = await fileHandlePrototype();
    jest.spyOn(handles, 'sync').mockRejectedValue(new Error('EIO: i/o error, fsync'));
    jest.setSystemTime(NOW + 28.5 * DAY_MS);
    await nextSweep();
    expect(await numbersKept()).toEqual([2]);
    expect(log.warnings).toEqual([
      'The time of the last sweep could not be written down: EIO: i/o error, fsync',
    ]);
    expect(await lastSweep()).toEqual({ unix: NOW / 1000 });
    // In memory it is known all the same.
    jest.setSystemTime(NOW + 390 * DAY_MS);
    await nextSweep();
    expect(await numbersKept()).toEqual([]);
  });
});
