import { type PathLike, readFileSync, statSync } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import fs from 'node:fs/promises';
import { basename, join } from 'node:path';
import { afterEach, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { LowdbJobStore } from '../../lib/stores/lowdb-job-store.js';
import { fileHandlePrototype } from '../helpers/file-handles.js';
import { collectLog, makeJob } from '../helpers/job-records.js';
import { copyStore, namesIn, readStore, snapshotOf } from '../helpers/store-folders.js';
import { tempFolders } from '../helpers/temp-folder.js';

const tempFolder = tempFolders();
let handles: FileHandle;

beforeAll(async () => {
  handles = await fileHandlePrototype();
});

afterEach(() => {
  jest.restoreAllMocks();
});

async function openStore(folder: string) {
  const store = new LowdbJobStore({ folder, logger: collectLog() });
  await store.open();
  return store;
}

describe('a change', () => {
  test('is one line with a checksum in the journal, synced before it is acknowledged', async () => {
    const folder = await tempFolder();
    const store = await openStore(folder);
    const syncs = holdBack('datasync');
    let acknowledged = false;
    const inserting = store.insert(makeJob(1)).then(() => {
      acknowledged = true;
    });
    await syncs.begun;
    expect(readFileSync(join(folder, 'jobs.json.journal'), 'utf8')).toMatch(
      /^[0-9a-f]{8} \{"put":\{"id":"Job00001",.*\}\}\n$/,
    );
    // Other work of the same kind gets through in the meantime.
    await fs.readFile(join(folder, 'jobs.json'));
    expect(acknowledged).toBe(false);
    syncs.letThrough();
    await inserting;
    expect(acknowledged).toBe(true);
    await store.remove(makeJob(1).id);
    expect(readFileSync(join(folder, 'jobs.json.journal'), 'utf8')).toMatch(
      /\n[0-9a-f]{8} \{"del":"Job00001"\}\n$/,
    );
    await store.close();
  });

  test('shares its sync with all that came while the sync before was under way', async () => {
    const store = await openStore(await tempFolder());
    const syncs = holdBack('datasync');
    const first = store.insert(makeJob(0));
    await syncs.begun;
    const others = Array.from({ length: 200 }, (_, n) => store.insert(makeJob(n + 1)));
    syncs.letThrough();
    await Promise.all([first, ...others]);
    expect(syncs.spy).toHaveBeenCalledTimes(2);
    await store.close();
  });

  test('does not wait for a timer', async () => {
    const store = await openStore(await tempFolder());
    jest.useFakeTimers({ doNotFake: ['nextTick', 'queueMicrotask', 'setImmediate'] });
    try {
      for (let n = 0; n < 20; n += 1) await store.insert(makeJob(n));
    } finally {
      jest.useRealTimers();
    }
    await store.close();
  });
});

describe('jobs.json', () => {
  test('has one job a line and is plain JSON', async () => {
    const folder = await tempFolder();
    const store = await openStore(folder);
    for (const n of [1, 2, 3]) await store.insert(makeJob(n));
    await store.close();
    const text = readFileSync(join(folder, 'jobs.json'), 'utf8');
    expect(JSON.parse(text)).toEqual([makeJob(1), makeJob(2), makeJob(3)]);
    expect(text.trim().split('\n')).toEqual([
      '[',
      `${JSON.stringify(makeJob(1))},`,
      `${JSON.stringify(makeJob(2))},`,
      JSON.stringify(makeJob(3)),
      ']',
    ]);
  });

  test('shows a small store as it is within a second of rest, and keeps the one before as jobs.json.bak', async () => {
    const folder = await tempFolder();
    const store = await openStore(folder);
    await store.insert(makeJob(1));
    await store.insert(makeJob(2));
    const rested = performance.now();
    await snapshotOf(folder, (jobs) => jobs.length === 2);
    expect(performance.now() - rested).toBeLessThan(1500);
    await store.remove(makeJob(1).id);
    await snapshotOf(folder, (jobs) => jobs.length === 1);
    expect(JSON.parse(readFileSync(join(folder, 'jobs.json.bak'), 'utf8'))).toHaveLength(2);
    await store.close();
  });

  test('is left alone where nothing has changed', async () => {
    const folder = await tempFolder();
    const store = await openStore(folder);
    await store.insert(makeJob(1));
    await store.close();
    const before = namesIn(folder).map((name) => [name, statSync(join(folder, name)).mtimeMs]);
    await (await openStore(folder)).close();
    expect(namesIn(folder).map((name) => [name, statSync(join(folder, name)).mtimeMs])).toEqual(before);
  });

  test('is brought up to date once the journal of a large store has grown, while changes go on', async () => {
    const folder = await tempFolder();
    const store = await openStore(folder);
    const journal = join(folder, 'jobs.json.journal');
    const count = 1100;
    const prompt = 'x'.repeat(7000);
    await Promise.all(Array.from({ length: count }, (_, n) => store.insert(makeJob(n, { prompt }))));
    expect(statSync(journal).size).toBeLessThan(8 * 1024 * 1024);
    expect(JSON.parse(readFileSync(join(folder, 'jobs.json'), 'utf8'))).toEqual([]);
    const grown = snapshotOf(folder, (jobs) => jobs.length > 0);
    await Promise.all(Array.from({ length: 200 }, (_, n) => store.insert(makeJob(count + n, { prompt }))));
    const during = store.insert(makeJob(5000));
    expect((await grown).length).toBeGreaterThanOrEqual(count);
    await during;
    const image = await tempFolder();
    copyStore(folder, image);
    expect((await readStore(image)).jobs).toHaveLength(count + 201);
    await store.close();
  });

  test('is written in slices that let other work through', async () => {
    const folder = await tempFolder();
    const store = await openStore(folder);
    const count = 6000;
    await Promise.all(
      Array.from({ length: count }, (_, n) => store.insert(makeJob(n, { prompt: 'x'.repeat(500) }))),
    );
    const writes = jest.spyOn(handles, 'write');
    await store.close();
    const sizes = writes.mock.calls.map((call) => (call[0] as unknown as Buffer).length);
    expect(sizes.length).toBeGreaterThan(25);
    expect(Math.max(...sizes)).toBeLessThan(160 * 1024);
  });
});

/*
 * The workload below is stopped in thought before and after each call that changes the folder. What a process finds that
 * starts at such a point must hold everything that had been acknowledged by then.
 */
describe('a process that dies between any two steps', () => {
  test('leaves everything that it had acknowledged, also if jobs.json is damaged besides', async () => {
    const folder = await tempFolder();
    const images = await recordImages(folder, async (acknowledge) => {
      for (let life = 0; life < 3; life += 1) {
        const store = await openStore(folder);
        const numbers = [10 * life, 10 * life + 1, 10 * life + 2, 10 * life + 3];
        await Promise.all(
          numbers.map(async (n) => acknowledge(makeJob(n).id, (await store.insert(makeJob(n))) ? 1 : 0)),
        );
        for (const { id } of [makeJob(0), makeJob(10 * life + 1)]) {
          const version = 10 + life;
          if ((await store.update(id, { started_at: version })) !== undefined) acknowledge(id, version);
        }
        const { id } = makeJob(10 * life + 2);
        await store.remove(id);
        acknowledge(id, Number.POSITIVE_INFINITY);
        await store.close();
      }
    });
    expect(images.length).toBeGreaterThan(30);
    for (const { folder: image, acknowledged, step } of images) {
      expect({ step, lost: await lostIn(image, acknowledged) }).toEqual({ step, lost: [] });
    }
  }, 60_000);
});

interface Image {
  readonly folder: string;
  readonly step: string;
  /** The least version of each job that must be there; Infinity: none may be. */
  readonly acknowledged: ReadonlyMap<string, number>;
}

async function recordImages(
  folder: string,
  work: (acknowledge: (id: string, version: number) => void) => Promise<void>,
): Promise<Image[]> {
  const acknowledged = new Map<string, number>();
  const images: Image[] = [];
  const seen = new Set<string>();
  const root = await tempFolder();
  const take = (step: string): void => {
    const state = namesIn(folder).map((name) => `${name} ${readFileSync(join(folder, name), 'latin1')}`);
    const key = JSON.stringify([state, [...acknowledged]]);
    if (seen.has(key)) return;
    seen.add(key);
    const to = join(root, String(images.length));
    copyStore(folder, to);
    images.push({ folder: to, step, acknowledged: new Map(acknowledged) });
  };
  const around = (target: object, name: string): void => {
    const methods = target as Record<string, (...args: unknown[]) => Promise<unknown>>;
    const original = methods[name] as (...args: unknown[]) => Promise<unknown>;
    jest.spyOn(methods, name).mockImplementation(async function (this: unknown, ...args) {
      const step = `${name} ${args.filter((arg) => typeof arg === 'string').map((arg) => basename(arg))}`;
      take(`before ${step}`);
      const result = await original.apply(this, args);
      take(`after ${step}`);
      return result;
    });
  };
  for (const name of ['rename', 'rm', 'open', 'link'] as const) around(fs, name);
  for (const name of ['write', 'truncate', 'datasync', 'sync'] as const) around(handles, name);
  await work((id, version) => {
    acknowledged.set(id, version);
  });
  jest.restoreAllMocks();
  return images;
}

async function lostIn(image: string, acknowledged: ReadonlyMap<string, number>): Promise<string[]> {
  const damaged = `${image}-damaged`;
  copyStore(image, damaged);
  const lost: string[] = [];
  const names = namesIn(damaged);
  if (names.includes('jobs.json')) await damage(join(damaged, 'jobs.json'));
  for (const folder of [image, damaged]) {
    const { jobs } = await readStore(folder);
    for (const [id, version] of acknowledged) {
      const job = jobs.find((candidate) => candidate.id === id);
      const found = job === undefined ? 0 : (job.started_at ?? 1);
      if (version === Number.POSITIVE_INFINITY ? found > 0 : found < version && !isRemovedLater(id)) {
        lost.push(`${basename(folder)}: ${id} ${found} instead of ${version}`);
      }
    }
  }
  return lost;
}

/** A job whose removal may have reached the disk, but was not acknowledged yet. */
function isRemovedLater(id: string): boolean {
  return /2$/.test(id);
}

async function damage(path: PathLike): Promise<void> {
  const bytes = readFileSync(path);
  await fs.writeFile(path, bytes.subarray(0, Math.floor(bytes.length / 3)));
}

/** Holds calls back, from the first one, until they are let through. */
function holdBack(name: 'datasync') {
  const original = handles[name];
  let begin = (): void => {};
  let letThrough = (): void => {};
  const begun = new Promise<void>((resolve) => {
    begin = resolve;
  });
  const gate = new Promise<void>((resolve) => {
    letThrough = resolve;
  });
  const spy = jest.spyOn(handles, name).mockImplementation(async function (this: FileHandle) {
    begin();
    await gate;
    await original.call(this);
  });
  return { spy, begun, letThrough: () => letThrough() };
}
