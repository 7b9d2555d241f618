import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { type FileHandle, mkdir, readFile, rm, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import { LowdbJobStore } from '../../lib/stores/lowdb-job-store.js';
import { fileHandlePrototype } from '../helpers/file-handles.js';
import { collectLog, makeJob } from '../helpers/job-records.js';
import { gate } from '../helpers/scripted-backend.js';
import { namesIn, readStore } from '../helpers/store-folders.js';
import { tempFolders } from '../helpers/temp-folder.js';
import { jobStoreContract } from './job-store-contract.js';

const tempFolder = tempFolders();

jobStoreContract('LowdbJobStore', async () => {
  const folder = await tempFolder();
  return () => new LowdbJobStore({ folder, logger: collectLog() });
});

describe('the folder', () => {
  test('is created with what is missing above it, and holds an empty jobs.json at once', async () => {
    const folder = join(await tempFolder(), 'some', 'where');
    const store = new LowdbJobStore({ folder });
    await store.open();
    expect(JSON.parse(await readFile(join(folder, 'jobs.json'), 'utf8'))).toEqual([]);
    await store.close();
  });

  test('belongs to one store at a time', async () => {
    const folder = await tempFolder();
    const first = new LowdbJobStore({ folder });
    const second = new LowdbJobStore({ folder });
    await first.open();
    await expect(second.open()).rejects.toMatchObject({
      code: 'FOLDER_LOCKED',
      message: expect.stringContaining(folder),
    });
    await first.insert(makeJob(1));
    await first.close();
    await second.open();
    await expect(second.get(makeJob(1).id)).resolves.toEqual(makeJob(1));
    await second.close();
  });

  test('may be a file, which is said, and the same store opens once it no longer is', async () => {
    const root = await tempFolder();
    const folder = join(root, 'jobs');
    const store = new LowdbJobStore({ folder: join(folder, 'deep') });
    await writeFile(folder, '');
    await expect(store.open()).rejects.toMatchObject({
      code: 'FOLDER_UNUSABLE',
      message: expect.stringMatching(/jobs\/deep .*a part of its path is a file \(.*ENOTDIR/),
    });
    const other = new LowdbJobStore({ folder });
    await expect(other.open()).rejects.toMatchObject({
      code: 'FOLDER_UNUSABLE',
      message: expect.stringContaining('there is a file of that name'),
    });
    await other.close();
    await rm(folder);
    await store.open();
    await expect(store.insert(makeJob(1))).resolves.toBe(true);
    await store.close();
  });

  test('is free again after an open that failed', async () => {
    const folder = await tempFolder();
    // Nothing of ours, and nothing that could be moved aside as damaged.
    await mkdir(join(folder, 'jobs.json'));
    const store = new LowdbJobStore({ folder });
    await expect(store.open()).rejects.toMatchObject({
      code: 'FOLDER_UNUSABLE',
      message: expect.stringContaining('EISDIR'),
    });
    expect(namesIn(folder)).toEqual(['jobs.json']);
    await rmdir(join(folder, 'jobs.json'));
    await store.open();
    await store.close();
  });
});

describe('a check', () => {
  let folder: string;
  let store: LowdbJobStore;
  let syncs: jest.Spied<FileHandle['datasync']>;

  beforeEach(async () => {
    folder = await tempFolder();
    store = new LowdbJobStore({ folder, logger: collectLog() });
    await store.open();
    syncs = jest.spyOn(await fileHandlePrototype(), 'datasync');
  });

  afterEach(async () => {
    jest.restoreAllMocks();
    await store.close();
  });

  test('writes and syncs a file, which is gone afterwards, and changes nothing', async () => {
    await store.insert(makeJob(1));
    const before = namesIn(folder);
    syncs.mockClear();
    await store.check();
    expect(syncs).toHaveBeenCalledTimes(1);
    expect(namesIn(folder)).toEqual(before);
    await expect(store.get(makeJob(1).id)).resolves.toEqual(makeJob(1));
  });

  test('is one for all who ask at once', async () => {
    await Promise.all([store.check(), store.check(), store.check()]);
    expect(syncs).toHaveBeenCalledTimes(1);
    await store.check();
    expect(syncs).toHaveBeenCalledTimes(2);
  });

  test('says what is wrong: a sync that fails, a folder that is gone', async () => {
    syncs.mockRejectedValueOnce(Object.assign(new Error('EIO: i/o error, fdatasync'), { code: 'EIO' }));
    await expect(store.check()).rejects.toMatchObject({
      code: 'NOT_STORED',
      message: `Records cannot be written to ${folder}: EIO: i/o error, fdatasync`,
      cause: { code: 'EIO' },
    });
    expect(namesIn(folder, 'jobs.json.check')).toEqual([]);
    await store.check();
    await rm(folder, { recursive: true });
    await expect(store.check()).rejects.toMatchObject({ code: 'NOT_STORED', cause: { code: 'ENOENT' } });
    await mkdir(folder);
  });

  test('writes over what a killed process has left of one', async () => {
    await writeFile(join(folder, 'jobs.json.check'), 'left');
    await store.check();
    expect(namesIn(folder, 'jobs.json.check')).toEqual([]);
  });

  test('is waited for by close', async () => {
    const order: string[] = [];
    const { opened, open } = gate();
    syncs.mockImplementationOnce(() => opened);
    const checking = store.check().then(() => order.push('checked'));
    const closing = store.close().then(() => order.push('closed'));
    // As long as closing a store takes.
    const other = new LowdbJobStore({ folder: await tempFolder() });
    await other.open();
    await other.close();
    open();
    await Promise.all([checking, closing]);
    expect(order).toEqual(['checked', 'closed']);
  });

  test('needs an open store', async () => {
    const unopened = new LowdbJobStore({ folder });
    await expect(unopened.check()).rejects.toMatchObject({ code: 'CLOSED' });
    await store.close();
    await expect(store.check()).rejects.toMatchObject({ code: 'CLOSED' });
    expect(syncs).not.toHaveBeenCalled();
  });
});

describe('after a kill -9', () => {
  test('every job that was acknowledged is there', async () => {
    const folder = await tempFolder();
    const acknowledged: string[] = [];
    for (let round = 0; round < 5; round += 1) {
      const ids = await insertUntilKilled(folder, 1000 * round, 40 + 35 * round);
      expect(ids.length).toBeGreaterThan(0);
      acknowledged.push(...ids);
      const { jobs, log } = await readStore(folder);
      const statuses = new Map(jobs.map((job) => [job.id, job.status]));
      expect(acknowledged.filter((id) => statuses.get(id) !== 'Processing')).toEqual([]);
      expect(log.warnings).toEqual([]);
    }
  }, 30_000);
});

/** Runs a process that inserts jobs, kills it once it has acknowledged so many, and gives what it had acknowledged. */
async function insertUntilKilled(folder: string, first: number, count: number): Promise<string[]> {
  const script = fileURLToPath(new URL('../helpers/insert-child.ts', import.meta.url));
  const child: ChildProcess = spawn(process.execPath, ['--import', 'tsx', script, folder, String(first)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const exited = once(child, 'exit');
  const ids: string[] = [];
  if (child.stdout === null) throw new Error('Expected the child to have a stdout');
  for await (const line of createInterface(child.stdout)) {
    if (/^Job\d{5}$/.test(line)) ids.push(line);
    if (ids.length === count) child.kill('SIGKILL');
  }
  await exited;
  return ids;
}
