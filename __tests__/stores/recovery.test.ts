import { readdirSync, readFileSync, unlinkSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { beforeAll, beforeEach, describe, expect, jest, test } from '@jest/globals';
import fc from 'fast-check';
import type { Job } from '../../lib/job.js';
import { LowdbJobStore } from '../../lib/stores/lowdb-job-store.js';
import { collectLog, makeJob } from '../helpers/job-records.js';
import { copyStore, namesIn, readStore } from '../helpers/store-folders.js';
import { tempFolders } from '../helpers/temp-folder.js';

const tempFolder = tempFolders();

/** The jobs that the backup, the snapshot and the journal of the folder below lead to. */
const expected = [1, 2, 4, 5, 6, 7, 8, 9].map((n) =>
  makeJob(n, { prompt: `prompt {"${n} \u2603 {`, status: n === 1 || n === 5 ? 'Completed' : 'Pending' }),
);
/** The files of a store that was killed: a backup, a snapshot, a journal of six lines and the one before it. */
let files: Map<string, Buffer>;
let folder: string;

beforeAll(async () => {
  const source = await mkdtemp(join(tmpdir(), 'sd-job-tracker-'));
  const insert = async (store: LowdbJobStore, ...numbers: number[]) => {
    for (const n of numbers) await store.insert(makeJob(n, { prompt: `prompt {"${n} \u2603 {` }));
  };
  for (const numbers of [
    [1, 2, 3],
    [4, 5],
  ]) {
    const store = new LowdbJobStore({ folder: source });
    await store.open();
    await insert(store, ...numbers);
    await store.close();
  }
  // Otherwise the snapshot might be brought up to date in the meantime.
  jest.useFakeTimers({ doNotFake: ['nextTick', 'queueMicrotask', 'setImmediate'] });
  const store = new LowdbJobStore({ folder: source });
  await store.open();
  await insert(store, 6, 7);
  await Promise.all([
    store.update(makeJob(1).id, { status: 'Completed' }),
    store.update(makeJob(5).id, { status: 'Completed' }),
    store.remove(makeJob(3).id),
    insert(store, 8, 9),
  ]);
  files = new Map(namesIn(source).map((name) => [name, readFileSync(join(source, name))]));
  await store.close();
  jest.useRealTimers();
  await rm(source, { recursive: true });
});

beforeEach(async () => {
  folder = await tempFolder();
});

function restore(changed: Record<string, Buffer | string | undefined> = {}): void {
  for (const name of readdirSync(folder)) unlinkSync(join(folder, name));
  for (const [name, bytes] of files) writeFileSync(join(folder, name), bytes);
  for (const [name, bytes] of Object.entries(changed)) {
    if (bytes === undefined) unlinkSync(join(folder, name));
    else writeFileSync(join(folder, name), bytes);
  }
}

function fileOf(name: string): Buffer {
  const bytes = files.get(name);
  if (bytes === undefined) throw new Error(`Expected ${name} among ${[...files.keys()]}`);
  return bytes;
}

/** True if a file with these bytes and a name that begins so is there. */
function hasEvidence(start: string, bytes: Buffer): boolean {
  return namesIn(folder, start).some((name) => readFileSync(join(folder, name)).equals(bytes));
}

/** Bytes of a file with one of them another, or with its end cut off. */
const damaged = (name: string) =>
  fc
    .record({ place: fc.nat(), byte: fc.nat(255), cut: fc.boolean() })
    .map(({ place, byte, cut }) => {
      const bytes = Buffer.from(fileOf(name));
      const at = place % bytes.length;
      if (cut) return { bytes: bytes.subarray(0, at), at, cut };
      bytes[at] = byte;
      return { bytes, at, cut };
    })
    .filter(({ bytes }) => !bytes.equals(fileOf(name)));

const runs = { numRuns: 80 };

describe('a folder as a kill leaves it', () => {
  test('adds up to what was acknowledged', async () => {
    restore();
    expect([...files.keys()].sort()).toEqual([
      'jobs.json',
      'jobs.json.bak',
      'jobs.json.journal',
      'jobs.json.journal.2.bak',
    ]);
    const { jobs, log } = await readStore(folder);
    expect(jobs).toEqual(expected);
    expect([...log.infos, ...log.warnings, ...log.errors]).toEqual([]);
  });
});

describe('the journal', () => {
  const name = 'jobs.json.journal';

  test('loses no more than a damaged line, or what was cut off, and is kept', async () => {
    const property = fc.asyncProperty(damaged(name), async ({ bytes, at, cut }) => {
      restore({ [name]: bytes });
      const { jobs, log } = await readStore(folder);
      const whole = fileOf(name);
      const lines = whole.toString('latin1').trimEnd().split('\n');
      const line = whole.subarray(0, at).filter((byte) => byte === 10).length;
      // The newline belongs to its line. Without it the line is still known to be whole.
      const lost = cut
        ? lines.slice(at === whole.length - 1 ? lines.length : line)
        : lines.slice(line, line + 1);
      const touched = new Set(lost.map((text) => /(?:"id"|"del"):"(\w+)"/.exec(text)?.[1]));
      const untouched = (job: Job) => !touched.has(job.id);
      expect(jobs.filter(untouched)).toEqual(expected.filter(untouched));
      // What a lost line was about is as it was before, never anything else.
      const known = [...expected, ...expected.map((job) => ({ ...job, status: 'Pending' })), lostRemoval];
      for (const job of jobs) expect(known).toContainEqual(job);
      const isTail = cut || line === lines.length - 1;
      if (!isTail) {
        expect(log.warnings).toHaveLength(1);
        expect(hasEvidence(`${name}.corrupt-`, bytes)).toBe(true);
      } else if (cut) {
        expect(log.warnings).toEqual([]);
      }
      expect((await readStore(folder)).jobs).toEqual(jobs);
    });
    await fc.assert(property, runs);
  }, 40_000);

  test('is cut where a kill left half a line, which is no more than an info', async () => {
    restore({ [name]: Buffer.concat([fileOf(name), Buffer.from('0123abcd {"put":{"id":"Job0')]) });
    const { jobs, log } = await readStore(folder);
    expect(jobs).toEqual(expected);
    expect(log.infos).toEqual([expect.stringContaining('half a line')]);
    expect(log.warnings).toEqual([]);
    expect(namesIn(folder).filter((file) => file.includes('corrupt'))).toEqual([]);
  });

  test('goes on behind half a line', async () => {
    restore({ [name]: Buffer.concat([fileOf(name), Buffer.from('0123abcd {"put"')]) });
    const store = new LowdbJobStore({ folder, logger: collectLog() });
    await store.open();
    await store.insert(makeJob(10));
    const image = await tempFolder();
    copyStore(folder, image);
    await store.close();
    const { jobs, log } = await readStore(image);
    expect(jobs).toEqual([...expected, makeJob(10)]);
    expect(log.warnings).toEqual([]);
  });

  test('goes on behind a line whose newline is missing', async () => {
    restore({ [name]: fileOf(name).subarray(0, -1) });
    const store = new LowdbJobStore({ folder, logger: collectLog() });
    await store.open();
    await store.insert(makeJob(10));
    const image = await tempFolder();
    copyStore(folder, image);
    await store.close();
    expect((await readStore(image)).jobs).toEqual([...expected, makeJob(10)]);
  });

  test('loses nothing by a newline that is gone', async () => {
    const bytes = Buffer.from(fileOf(name));
    bytes[bytes.indexOf(10)] = 32;
    restore({ [name]: bytes });
    const { jobs, log } = await readStore(folder);
    expect(jobs).toEqual(expected);
    expect(log.warnings).toHaveLength(1);
    expect(hasEvidence(`${name}.corrupt-`, bytes)).toBe(true);
  });

  test('is kept where its end was overwritten by something else', async () => {
    const bytes = Buffer.concat([fileOf(name), Buffer.alloc(4096)]);
    restore({ [name]: bytes });
    const { jobs, log } = await readStore(folder);
    expect(jobs).toEqual(expected);
    expect(log.warnings).toHaveLength(1);
    expect(hasEvidence(`${name}.corrupt-`, bytes)).toBe(true);
  });

  test('of a snapshot that was not finished is used, and damage in it reported', async () => {
    const bytes = Buffer.from(fileOf(name));
    bytes[bytes.indexOf('Job00006')] = 0x58;
    restore({ [`${name}.3`]: bytes, [name]: '' });
    const { jobs, log } = await readStore(folder);
    expect(jobs).toEqual(expected.filter(({ id }) => id !== makeJob(6).id));
    expect(log.warnings).toEqual([
      expect.stringMatching(/1 damaged line in .*jobs\.json\.journal\.3;.* is kept as/),
    ]);
    expect(hasEvidence(`${name}.corrupt-`, bytes)).toBe(true);
  });
});

/** What is there if the line that removed it is the damaged one. */
const lostRemoval = makeJob(3, { prompt: 'prompt {"3 \u2603 {' });

describe('the snapshot', () => {
  const name = 'jobs.json';

  test('may be damaged in any way: backup and journals hold everything, and it is kept', async () => {
    const property = fc.asyncProperty(damaged(name), async ({ bytes }) => {
      restore({ [name]: bytes });
      const { jobs, log } = await readStore(folder);
      expect(jobs).toEqual(expected);
      if (!sameRecords(bytes, fileOf(name))) {
        expect(log.warnings).toEqual([expect.stringMatching(/is damaged.*jobs\.json\.corrupt-/s)]);
        expect(hasEvidence(`${name}.corrupt-`, bytes)).toBe(true);
      }
      const again = await readStore(folder);
      expect(again.jobs).toEqual(expected);
      expect(again.log.warnings).toEqual([]);
    });
    await fc.assert(property, runs);
  }, 40_000);

  test('may be missing, or empty', async () => {
    for (const content of [undefined, '']) {
      restore({ [name]: content });
      const { jobs, log } = await readStore(folder);
      expect(jobs).toEqual(expected);
      expect(log.warnings).toHaveLength(1);
    }
  });

  test('may be damaged again right after it has been', async () => {
    restore({ [name]: 'rubbish' });
    const store = new LowdbJobStore({ folder, logger: collectLog() });
    await store.open();
    await store.insert(makeJob(10));
    const image = await tempFolder();
    copyStore(folder, image);
    await store.close();
    writeFileSync(join(image, name), 'more rubbish');
    expect((await readStore(image)).jobs).toEqual([...expected, makeJob(10)]);
    expect(namesIn(image, 'jobs.json.corrupt-')).toHaveLength(2);
  });

  test('that a person has edited and saved without its last line is taken as it is', async () => {
    const edited = JSON.stringify([makeJob(1, { prompt: 'edited' }), makeJob(2)], null, 2);
    restore({ [name]: `\ufeff${edited}`, 'jobs.json.journal': '' });
    const { jobs, log } = await readStore(folder);
    expect(jobs).toEqual([makeJob(1, { prompt: 'edited' }), makeJob(2)]);
    expect(log.warnings).toEqual([]);
  });

  test('may have a byte order mark', async () => {
    restore({ [name]: Buffer.concat([Buffer.from([0xef, 0xbb, 0xbf]), fileOf(name)]) });
    const { jobs, log } = await readStore(folder);
    expect(jobs).toEqual(expected);
    expect(log.warnings).toEqual([]);
  });

  test('and the backup may both be damaged: what can be read of either is used, and both are kept', async () => {
    const snapshot = fileOf(name).subarray(0, -60);
    const backup = Buffer.from(fileOf('jobs.json.bak'));
    backup[backup.indexOf('"id":"Job00002')] = 0x58;
    restore({ [name]: snapshot, 'jobs.json.bak': backup });
    const { jobs, log } = await readStore(folder);
    expect(new Set(jobs)).toEqual(new Set(expected));
    expect(log.warnings).toHaveLength(2);
    expect(hasEvidence('jobs.json.corrupt-', snapshot)).toBe(true);
    expect(hasEvidence('jobs.json.bak.corrupt-', backup)).toBe(true);
  });

  test('is not helped by a journal after which one is missing', async () => {
    // What number 1 says of the job may have been overtaken by number 2.
    const stale = line({ put: makeJob(2, { prompt: 'stale' }) });
    const journal = fileOf('jobs.json.journal');
    restore({
      [name]: 'rubbish',
      'jobs.json.journal.1.bak': stale,
      'jobs.json.journal.2.bak': undefined,
      'jobs.json.journal.3': journal,
      'jobs.json.journal': '',
    });
    const { jobs } = await readStore(folder);
    expect(jobs.find(({ id }) => id === makeJob(2).id)).toEqual(expected[1]);
  });
});

describe('backup and kept journal', () => {
  test.each(['jobs.json.bak', 'jobs.json.journal.2.bak'])(
    '%s is not needed while jobs.json is whole',
    async (name) => {
      restore({ [name]: 'rubbish' });
      const { jobs, log } = await readStore(folder);
      expect(jobs).toEqual(expected);
      expect(log.warnings).toEqual([]);
    },
  );
});

test('keys named __proto__ do no harm', async () => {
  const text =
    '{"put":{"id":"Job00020","status":"Pending","request":{"__proto__":{"polluted":true},"steps":1},"\\u005f_proto__":{"polluted":true}}}';
  restore({ 'jobs.json.journal': `${crc32(text).toString(16).padStart(8, '0')} ${text}\n` });
  const store = new LowdbJobStore({ folder, logger: collectLog() });
  await store.open();
  const job = (await store.get('Job00020')) as Job;
  expect(Object.getOwnPropertyNames(job)).toEqual(['id', 'status', 'request']);
  expect(Object.getOwnPropertyNames(job.request)).toEqual(['steps']);
  expect(Object.assign({}, job.request)).not.toHaveProperty('polluted');
  const request = JSON.parse('{"__proto__":{"polluted":true},"steps":2}');
  await store.insert(makeJob(21, { request }));
  expect(Object.getOwnPropertyNames((await store.get(makeJob(21).id))?.request)).toEqual(['steps']);
  await store.close();
  expect({}).not.toHaveProperty('polluted');
});

function line(entry: object): string {
  const json = JSON.stringify(entry);
  return `${crc32(json).toString(16).padStart(8, '0')} ${json}\n`;
}

/** True if the damage is in the white space only. */
function sameRecords(one: Buffer, other: Buffer): boolean {
  try {
    return JSON.stringify(JSON.parse(one.toString())) === JSON.stringify(JSON.parse(other.toString()));
  } catch (error) {
    if (error instanceof SyntaxError) return false;
    throw error;
  }
}
