import { execFileSync } from 'node:child_process';
import { appendFileSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import fs, { type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeAll, beforeEach, describe, expect, jest, test } from '@jest/globals';
import { LowdbJobStore } from '../../lib/stores/lowdb-job-store.js';
import { fileHandlePrototype } from '../helpers/file-handles.js';
import { type CollectedLog, collectLog, makeJob } from '../helpers/job-records.js';
import { copyStore, namesIn, readStore } from '../helpers/store-folders.js';
import { tempFolders } from '../helpers/temp-folder.js';

const tempFolder = tempFolders();
const notStored = { code: 'NOT_STORED' };
const notStoredBecause = (code: string) => ({ code: 'NOT_STORED', cause: { code } });
let handles: FileHandle;
let log: CollectedLog;
let store: LowdbJobStore;

beforeAll(async () => {
  handles = await fileHandlePrototype();
});

beforeEach(() => {
  log = collectLog();
});

afterEach(() => {
  jest.restoreAllMocks();
  jest.useRealTimers();
});

async function openStore(folder: string): Promise<void> {
  store = new LowdbJobStore({ folder, logger: log });
  await store.open();
}

async function idsIn(folder: string): Promise<string[]> {
  return (await readStore(folder)).jobs.map(({ id }) => id);
}

/** What a new process would find in the folder if this one were killed now. */
async function afterKill(folder: string): Promise<string[]> {
  const image = await tempFolder();
  copyStore(folder, image);
  return idsIn(image);
}

const broken = () => Promise.reject(Object.assign(new Error('EIO: i/o error, fdatasync'), { code: 'EIO' }));
const ids = (...numbers: number[]) => numbers.map((n) => makeJob(n).id);

// Only root may mount a filesystem, and only Linux has this one.
const canMount = process.platform === 'linux' && process.getuid?.() === 0;
(canMount ? describe : describe.skip)('a disk', () => {
  let disk: string;
  let folder: string;

  beforeEach(async () => {
    disk = await tempFolder();
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', disk]);
    folder = join(disk, 'jobs');
    mkdirSync(folder);
  });

  afterEach(async () => {
    await store.close();
    execFileSync('umount', [disk]);
  });

  function fillUp(): void {
    const page = Buffer.alloc(4096);
    try {
      for (;;) appendFileSync(join(disk, 'filler'), page);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
    }
  }

  function freeUp(): void {
    rmSync(join(disk, 'filler'));
  }

  /** A store with three jobs in it on a disk that is full to the last byte. */
  async function openOnFullDisk(): Promise<void> {
    await openStore(folder);
    for (const n of [1, 2, 3]) await store.insert(makeJob(n, { prompt: 'x'.repeat(3000) }));
    fillUp();
    // The journal's last page may have room left.
    await expect(store.insert(makeJob(4, { prompt: 'x'.repeat(5000) }))).rejects.toMatchObject(notStored);
  }

  test('that is full refuses new jobs, and takes them as soon as there is room', async () => {
    await openOnFullDisk();
    await expect(store.insert(makeJob(5, { prompt: 'x'.repeat(5000) }))).rejects.toMatchObject({
      code: 'NOT_STORED',
      message: expect.stringContaining(folder),
      cause: expect.objectContaining({ code: 'ENOSPC' }),
    });
    await expect(store.check()).rejects.toMatchObject(notStoredBecause('ENOSPC'));
    await expect(store.get(makeJob(4).id)).resolves.toBeUndefined();
    await expect(store.list({ limit: 10 })).resolves.toMatchObject({ total: 3, jobs: { length: 3 } });
    expect(log.errors).toHaveLength(1);
    freeUp();
    await expect(store.insert(makeJob(6))).resolves.toBe(true);
    await store.check();
    await expect(afterKill(folder)).resolves.toEqual(ids(1, 2, 3, 6));
    await store.close();
    await expect(idsIn(folder)).resolves.toEqual(ids(1, 2, 3, 6));
  });

  test('that is full keeps updates and removals waiting in memory', async () => {
    await openOnFullDisk();
    const output_paths = ['y'.repeat(5000)];
    await expect(store.update(makeJob(1).id, { output_paths })).rejects.toMatchObject(notStored);
    await expect(store.get(makeJob(1).id)).resolves.toMatchObject({ output_paths });
    await expect(
      Promise.all([store.remove(makeJob(2).id), store.update(makeJob(3).id, { output_paths })]),
    ).rejects.toMatchObject(notStored);
    await expect(store.get(makeJob(2).id)).resolves.toBeUndefined();
    await expect(afterKill(folder)).resolves.toEqual(ids(1, 2, 3));
    freeUp();
    await store.insert(makeJob(7));
    const image = await tempFolder();
    copyStore(folder, image);
    const { jobs } = await readStore(image);
    expect(jobs.map(({ id }) => id)).toEqual(ids(1, 3, 7));
    expect(jobs.map((job) => job.output_paths)).toEqual([output_paths, output_paths, []]);
  });

  test('that has room again is noticed without another change', async () => {
    jest.useFakeTimers({
      doNotFake: ['nextTick', 'queueMicrotask', 'setImmediate', 'setTimeout', 'clearTimeout'],
    });
    await openOnFullDisk();
    await expect(
      store.remove(makeJob(1).id).then(() => store.update(makeJob(2).id, bigChange)),
    ).rejects.toBeDefined();
    freeUp();
    const again = log.next(/written to .* again/);
    jest.advanceTimersByTime(5_000);
    await again;
    await store.check();
    await expect(afterKill(folder)).resolves.toEqual(ids(2, 3));
  });

  test('that is full when the store opens can still be read', async () => {
    await openOnFullDisk();
    const image = await tempFolder();
    copyStore(folder, image);
    freeUp();
    await store.close();
    rmSync(folder, { recursive: true });
    copyStore(image, folder);
    // Half a line at the end, as the kill on the full disk may leave it.
    appendFileSync(join(folder, 'jobs.json.journal'), '01234567 {"put":{"id"');
    writeFileSync(join(folder, 'jobs.json'), 'rubbish');
    mkdirSync(join(disk, 'other'));
    fillUp();
    log = collectLog();
    await openStore(folder);
    await expect(store.list({ limit: 10 })).resolves.toMatchObject({ total: 3 });
    await expect(store.check()).rejects.toMatchObject(notStoredBecause('ENOSPC'));
    // Nothing takes the place of what is damaged before its successor is whole.
    expect(namesIn(folder, 'jobs.json.corrupt')).toEqual([]);
    freeUp();
    await store.insert(makeJob(8));
    await store.close();
    expect(namesIn(folder, 'jobs.json.corrupt')).toHaveLength(1);
    await expect(idsIn(folder)).resolves.toEqual(ids(1, 2, 3, 8));
  });

  test('that is full loses updates only if it stays so, and close says it', async () => {
    await openOnFullDisk();
    await expect(store.update(makeJob(1).id, bigChange)).rejects.toMatchObject(notStored);
    const closing = store.close();
    await expect(closing).rejects.toMatchObject(notStored);
    store = new LowdbJobStore({ folder, logger: log });
    freeUp();
    await expect(idsIn(folder)).resolves.toEqual(ids(1, 2, 3));
  });

  test('that is full is seen by a check before anything else has failed, and the check leaves nothing there', async () => {
    await openStore(folder);
    await store.check();
    fillUp();
    await expect(store.check()).rejects.toMatchObject({
      ...notStoredBecause('ENOSPC'),
      message: expect.stringMatching(`^Records cannot be written to ${folder}: ENOSPC`),
    });
    expect(namesIn(folder, 'jobs.json.check')).toEqual([]);
    expect(log.errors).toEqual([]);
    freeUp();
    await store.check();
    expect(namesIn(folder, 'jobs.json.check')).toEqual([]);
  });

  test('that is read-only is said, and tried again by the next open', async () => {
    await openStore(folder);
    await store.insert(makeJob(1));
    await store.close();
    execFileSync('mount', ['-o', 'remount,ro', disk]);
    store = new LowdbJobStore({ folder, logger: log });
    await expect(store.open()).rejects.toMatchObject({
      code: 'FOLDER_UNUSABLE',
      message: expect.stringMatching(/its filesystem is read-only \(.*EROFS/),
    });
    execFileSync('mount', ['-o', 'remount,rw', disk]);
    await store.open();
    await expect(store.get(makeJob(1).id)).resolves.toEqual(makeJob(1));
  });
});

const bigChange = { sidecar: 'z'.repeat(5000) };

// A sync that fails cannot be had from a real disk here.
describe('a failed sync', () => {
  let folder: string;

  beforeEach(async () => {
    folder = await tempFolder();
    await openStore(folder);
    await store.insert(makeJob(1));
  });

  afterEach(() => store.close());

  test('makes a fresh journal and a snapshot, and nobody notices', async () => {
    jest.spyOn(handles, 'datasync').mockImplementationOnce(broken);
    await expect(store.insert(makeJob(2))).resolves.toBe(true);
    await store.check();
    expect(log.warnings).toEqual([
      expect.stringMatching(/jobs\.json\.journal failed, so it is given up: .*EIO/),
    ]);
    expect(log.errors).toEqual([]);
    await expect(afterKill(folder)).resolves.toEqual(ids(1, 2));
    await store.close();
    await expect(idsIn(folder)).resolves.toEqual(ids(1, 2));
  });

  test('is the last that is asked of that file', async () => {
    const abandoned = new Set<unknown>();
    let isFirst = true;
    const original = handles.datasync;
    jest.spyOn(handles, 'datasync').mockImplementation(async function (this: FileHandle) {
      expect(abandoned).not.toContain(this);
      if (!isFirst) return original.call(this);
      isFirst = false;
      abandoned.add(this);
      return broken();
    });
    for (const n of [2, 3, 4]) await expect(store.insert(makeJob(n))).resolves.toBe(true);
    expect(abandoned.size).toBe(1);
    await expect(afterKill(folder)).resolves.toEqual(ids(1, 2, 3, 4));
  });

  test('of a refused insert does not let it come back after a kill', async () => {
    jest.spyOn(handles, 'datasync').mockImplementation(broken);
    await expect(store.insert(makeJob(2))).rejects.toMatchObject(notStored);
    jest.restoreAllMocks();
    await expect(afterKill(folder)).resolves.toEqual(ids(1));
  });

  test('of a refused insert does not let it come back later, though its line got to the disk', async () => {
    const syncs = jest.spyOn(handles, 'datasync').mockImplementation(broken);
    const cuts = jest.spyOn(handles, 'truncate').mockImplementation(broken);
    await expect(store.insert(makeJob(2))).rejects.toMatchObject({
      code: 'NOT_STORED',
      cause: expect.objectContaining({ code: 'EIO' }),
    });
    await expect(store.check()).rejects.toMatchObject(notStoredBecause('EIO'));
    syncs.mockRestore();
    cuts.mockRestore();
    const snapshots = jest.spyOn(handles, 'sync').mockImplementation(broken);
    await expect(store.insert(makeJob(3))).rejects.toBeDefined();
    snapshots.mockRestore();
    await store.insert(makeJob(4));
    await expect(afterKill(folder)).resolves.toEqual(ids(1, 4));
    await expect(store.insert(makeJob(2))).resolves.toBe(true);
    await store.close();
    await expect(idsIn(folder)).resolves.toEqual(ids(1, 4, 2));
  });

  test('takes an update of a refused insert with it', async () => {
    let fail = (): void => {};
    const begun = new Promise<void>((begin) => {
      const sync = () => {
        begin();
        return new Promise<void>((_, reject) => {
          fail = () => reject(Object.assign(new Error('EIO'), { code: 'EIO' }));
        });
      };
      jest.spyOn(handles, 'datasync').mockImplementationOnce(sync).mockImplementationOnce(broken);
    });
    const inserting = store.insert(makeJob(2));
    await begun;
    const updating = store.update(makeJob(2).id, { status: 'Completed' });
    fail();
    await expect(inserting).rejects.toMatchObject(notStored);
    await expect(updating).resolves.toBeUndefined();
    await expect(afterKill(folder)).resolves.toEqual(ids(1));
  });

  test('of a full disk when the store opens leaves it readable', async () => {
    await store.close();
    const full = () => Promise.reject(Object.assign(new Error('ENOSPC'), { code: 'ENOSPC' }));
    const syncs = jest.spyOn(handles, 'sync').mockImplementation(full);
    await openStore(folder);
    await expect(store.check()).rejects.toMatchObject(notStoredBecause('ENOSPC'));
    await expect(store.get(makeJob(1).id)).resolves.toEqual(makeJob(1));
    await expect(store.insert(makeJob(2))).rejects.toMatchObject(notStored);
    syncs.mockRestore();
    await expect(store.insert(makeJob(3))).resolves.toBe(true);
    await expect(afterKill(folder)).resolves.toEqual(ids(1, 3));
  });

  test('of the folder while the journal is changed for another loses nothing', async () => {
    await reopenWithFakeTimeouts();
    await store.insert(makeJob(2));
    const syncs = jest.spyOn(handles, 'sync').mockImplementation(broken);
    const failed = log.next(/could not be brought up to date/);
    jest.advanceTimersByTime(600);
    await failed;
    await expect(store.check()).rejects.toMatchObject(notStoredBecause('EIO'));
    syncs.mockRestore();
    const again = log.next(/is up to date again/);
    await store.insert(makeJob(3));
    await again;
    await store.check();
    await expect(afterKill(folder)).resolves.toEqual(ids(1, 2, 3));
  });

  test('is no different from a snapshot that cannot take its place: nothing is lost, and it is tried again', async () => {
    await reopenWithFakeTimeouts();
    await store.insert(makeJob(2));
    const rename = fs.rename;
    const renames = jest.spyOn(fs, 'rename').mockImplementation(async (from, to) => {
      if (String(from).endsWith('.tmp')) throw Object.assign(new Error('EBUSY'), { code: 'EBUSY' });
      return rename(from, to);
    });
    const failed = log.next(/could not be brought up to date/);
    jest.advanceTimersByTime(600);
    await failed;
    await expect(store.check()).rejects.toMatchObject(notStoredBecause('EBUSY'));
    await expect(store.insert(makeJob(3))).resolves.toBe(true);
    await expect(afterKill(folder)).resolves.toEqual(ids(1, 2, 3));
    expect(namesIn(folder)).toContain('jobs.json');
    renames.mockRestore();
    const again = log.next(/is up to date again/);
    jest.advanceTimersByTime(10_000);
    await again;
    await store.check();
    await expect(afterKill(folder)).resolves.toEqual(ids(1, 2, 3));
  });

  async function reopenWithFakeTimeouts(): Promise<void> {
    await store.close();
    jest.useFakeTimers({ doNotFake: ['nextTick', 'queueMicrotask', 'setImmediate', 'setInterval'] });
    await openStore(folder);
  }
});
