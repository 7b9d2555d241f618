import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { Job, JobChange } from '../../lib/job.js';
import type { JobQuery, JobStore } from '../../lib/stores/job-store.js';
import { makeJob } from '../helpers/job-records.js';

/** A place that is empty at first. Every call makes another store on it, not opened yet; one is open at a time. */
export type Place = () => JobStore;

/** What holds for every `JobStore`. */
export function jobStoreContract(name: string, makePlace: () => Promise<Place>): void {
  describe(`${name} as a JobStore`, () => {
    let place: Place;
    let store: JobStore;

    beforeEach(async () => {
      place = await makePlace();
      store = place();
      await store.open();
    });

    afterEach(() => store.close());

    async function reopen(): Promise<void> {
      await store.close();
      store = place();
      await store.open();
    }

    async function insertMany(
      count: number,
      differences: (number: number) => Partial<Job> = () => ({}),
    ): Promise<void> {
      for (let n = 1; n <= count; n += 1) await store.insert(makeJob(n, differences(n)));
    }

    async function idsOf(query: Partial<JobQuery> = {}): Promise<string[]> {
      return (await store.list({ limit: 1000, ...query })).jobs.map(({ id }) => id);
    }

    const full = makeJob(1, {
      prompt: 'snow \u2603, "quotes", a \\ and\na line \u{1f5bc} \ud800',
      request: { steps: 20, cfg_scale: 7.5, seed: '18446744073709551615', enable_hr: false },
      started_at: 1_790_000_000.123,
      finished_at: 1_790_000_002.5,
      error: { code: 'backend', message: 'CUDA out of memory', status: 500 },
      sidecar: '2026-11-22/Job00001.json',
      output_paths: ['2026-11-22/Job00001-0.png', '2026-11-22/Job00001-1.png'],
    });

    describe('insert', () => {
      test('keeps every field', async () => {
        await expect(store.insert(full)).resolves.toBe(true);
        await expect(store.get(full.id)).resolves.toEqual(full);
        await reopen();
        await expect(store.get(full.id)).resolves.toEqual(full);
      });

      test('changes nothing where the id is taken', async () => {
        await store.insert(makeJob(1));
        await expect(store.insert(makeJob(1, { prompt: 'another' }))).resolves.toBe(false);
        await expect(store.get(makeJob(1).id)).resolves.toEqual(makeJob(1));
        await expect(idsOf()).resolves.toEqual([makeJob(1).id]);
      });

      test('lets exactly one of many at once have an id', async () => {
        const rivals = Array.from({ length: 20 }, (_, n) => makeJob(1, { prompt: `rival ${n}` }));
        const outcomes = await Promise.all(rivals.map((rival) => store.insert(rival)));
        expect(outcomes.filter((inserted) => inserted)).toHaveLength(1);
        await expect(store.get(makeJob(1).id)).resolves.toEqual(rivals[outcomes.indexOf(true)]);
        await expect(idsOf()).resolves.toHaveLength(1);
      });

      test('takes an id again once its job has been removed, as the newest', async () => {
        await insertMany(3);
        await store.remove(makeJob(1).id);
        await expect(store.insert(makeJob(1, { prompt: 'again' }))).resolves.toBe(true);
        const expected = [1, 3, 2].map((n) => makeJob(n).id);
        await expect(idsOf()).resolves.toEqual(expected);
        await expect(idsOf({ ip: '192.0.2.1' })).resolves.toEqual(expected);
        await reopen();
        await expect(idsOf()).resolves.toEqual(expected);
      });

      test('keeps the job as it was given, whatever its maker does with it afterwards', async () => {
        const paths = ['a.png'];
        const job = { ...makeJob(1), output_paths: paths };
        await store.insert(job);
        job.prompt = 'changed';
        paths.push('b.png');
        await expect(store.get(job.id)).resolves.toEqual(makeJob(1, { output_paths: ['a.png'] }));
      });
    });

    describe('update', () => {
      test('answers with the changed job and keeps it', async () => {
        await store.insert(makeJob(1));
        const change: JobChange = {
          status: 'Completed',
          output_paths: ['x.png'],
          finished_at: 5.5,
          sidecar: 'x.json',
        };
        await expect(store.update(makeJob(1).id, change)).resolves.toEqual(makeJob(1, change));
        await expect(store.get(makeJob(1).id)).resolves.toEqual(makeJob(1, change));
        await reopen();
        await expect(store.get(makeJob(1).id)).resolves.toEqual(makeJob(1, change));
      });

      test('keeps the job in its place', async () => {
        await insertMany(3);
        await store.update(makeJob(1).id, { status: 'Completed' });
        const expected = [3, 2, 1].map((n) => makeJob(n).id);
        await expect(idsOf()).resolves.toEqual(expected);
        await reopen();
        await expect(idsOf()).resolves.toEqual(expected);
      });

      test('applies changes that come at once one after the other', async () => {
        await store.insert(makeJob(1));
        await Promise.all([
          store.update(makeJob(1).id, { status: 'Processing', started_at: 1 }),
          store.update(makeJob(1).id, { finished_at: 2 }),
          store.update(makeJob(1).id, { status: 'Completed' }),
        ]);
        await reopen();
        const expected = makeJob(1, { status: 'Completed', started_at: 1, finished_at: 2 });
        await expect(store.get(makeJob(1).id)).resolves.toEqual(expected);
      });

      test('never changes an id', async () => {
        await store.insert(makeJob(1));
        await store.update(makeJob(1).id, { id: 'Another1' } as JobChange);
        await expect(idsOf()).resolves.toEqual([makeJob(1).id]);
        await expect(store.get(makeJob(1).id)).resolves.toEqual(makeJob(1));
      });

      test.each(['Unknown1', '', '__proto__', 'constructor'])(
        'is undefined for the unknown id %j',
        async (id) => {
          await expect(store.update(id, { status: 'Failed' })).resolves.toBeUndefined();
          await expect(store.get(id)).resolves.toBeUndefined();
          await expect(idsOf()).resolves.toEqual([]);
        },
      );
    });

    describe('remove', () => {
      test('forgets a job for good', async () => {
        await insertMany(3);
        await expect(store.remove(makeJob(2).id)).resolves.toBe(true);
        await expect(store.get(makeJob(2).id)).resolves.toBeUndefined();
        await reopen();
        await expect(idsOf()).resolves.toEqual([makeJob(3).id, makeJob(1).id]);
      });

      test('is false for an unknown id, and the second time', async () => {
        await store.insert(makeJob(1));
        await expect(store.remove('Unknown1')).resolves.toBe(false);
        const twice = await Promise.all([store.remove(makeJob(1).id), store.remove(makeJob(1).id)]);
        expect(twice).toEqual([true, false]);
      });
    });

    describe('list', () => {
      const statuses = ['Pending', 'Processing', 'Completed', 'Failed'] as const;

      test('is empty at first', async () => {
        await expect(store.list({ limit: 50 })).resolves.toEqual({ jobs: [], total: 0 });
        await expect(store.list({ limit: 50, ip: '192.0.2.1' })).resolves.toEqual({ jobs: [], total: 0 });
      });

      test('gives the newest first in creation order, whatever the clock said', async () => {
        for (const n of [5, 1, 3]) await store.insert(makeJob(n));
        await expect(idsOf()).resolves.toEqual([3, 1, 5].map((n) => makeJob(n).id));
        await expect(idsOf({ backend: 'a1111' })).resolves.toEqual([3, 1, 5].map((n) => makeJob(n).id));
      });

      test.each<Partial<JobQuery>>([{}, { ip: '192.0.2.1' }])(
        'cuts at the limit and counts all with %j',
        async (query) => {
          await insertMany(7);
          const page = await store.list({ limit: 3, ...query });
          expect(page.jobs).toEqual([makeJob(7), makeJob(6), makeJob(5)]);
          expect(page.total).toBe(7);
          await expect(store.list({ limit: 0, ...query })).resolves.toEqual({ jobs: [], total: 7 });
          await expect(store.list({ limit: Number.POSITIVE_INFINITY, ...query })).resolves.toHaveProperty(
            'jobs.length',
            7,
          );
        },
      );

      test('filters by every field, alone and together', async () => {
        const differences = (n: number): Partial<Job> => ({
          ip: n % 2 === 0 ? '192.0.2.2' : '192.0.2.1',
          status: statuses[n % 4] ?? 'Pending',
          backend: n % 3 === 0 ? 'comfyui' : 'a1111',
          ...(n % 5 === 0 && { prompt: `A LIGHTHOUSE (100% “ÄRGER”), no ${n}` }),
        });
        await insertMany(24, differences);
        const all = Array.from({ length: 24 }, (_, n) => makeJob(n + 1, differences(n + 1))).reverse();
        const { timestamp } = makeJob(9);
        const queries: [Partial<JobQuery>, (job: Job) => boolean][] = [
          [{ ip: '192.0.2.2' }, (job) => job.ip === '192.0.2.2'],
          [{ status: 'Failed' }, (job) => job.status === 'Failed'],
          [{ backend: 'comfyui' }, (job) => job.backend === 'comfyui'],
          [{ after: timestamp }, (job) => job.timestamp > timestamp],
          [{ until: timestamp }, (job) => job.timestamp <= timestamp],
          [{ after: timestamp, until: timestamp + 1 }, (job) => job.timestamp === timestamp + 1],
          [{ text: 'LightHouse' }, () => true],
          [{ text: '(100% “ärger”)' }, (job) => job.prompt.includes('ÄRGER')],
          [{ text: 'variation 1' }, (job) => job.prompt.includes('variation 1')],
          [{ text: '.*' }, () => false],
          [
            { text: 'ärger', ip: '192.0.2.2' },
            (job) => job.prompt.includes('ÄRGER') && job.ip === '192.0.2.2',
          ],
          [{ ip: '192.0.2.9' }, () => false],
          [
            { ip: '192.0.2.1', status: 'Failed', backend: 'comfyui', after: timestamp },
            (job) =>
              job.ip === '192.0.2.1' &&
              job.status === 'Failed' &&
              job.backend === 'comfyui' &&
              job.timestamp > timestamp,
          ],
        ];
        for (const [query, matches] of queries) {
          const expected = all.filter(matches);
          await expect(store.list({ limit: 1000, ...query })).resolves.toEqual({
            jobs: expected,
            total: expected.length,
          });
          const page = await store.list({ limit: 2, ...query });
          expect(page).toEqual({ jobs: expected.slice(0, 2), total: expected.length });
        }
      });

      test.each<Partial<JobQuery>>([{}, { ip: '192.0.2.1' }])(
        'gives every job once, page by page, with %j, also while jobs come and go',
        async (query) => {
          await insertMany(25);
          const seen: string[] = [];
          let before: string | undefined;
          for (;;) {
            const page = await idsOf({ limit: 4, ...query, ...(before === undefined ? {} : { before }) });
            if (page.length === 0) break;
            seen.push(...page);
            before = page.at(-1);
            // A job that has been seen goes, one that has not goes once, and new ones come that belong on no later page.
            await store.remove(page[0] as string);
            if (seen.length === 8) await store.remove(makeJob(10).id);
            await store.insert(makeJob(100 + seen.length));
          }
          const expected = Array.from({ length: 25 }, (_, n) => 25 - n).filter((n) => n !== 10);
          expect(seen).toEqual(expected.map((n) => makeJob(n).id));
        },
      );

      test.each<Partial<JobQuery>>([{}, { status: 'Pending' }])(
        'counts past `before` with %j',
        async (query) => {
          await insertMany(5);
          await expect(store.list({ limit: 10, before: makeJob(3).id, ...query })).resolves.toEqual({
            jobs: [makeJob(2), makeJob(1)],
            total: 5,
          });
          await expect(store.list({ limit: 10, before: makeJob(1).id, ...query })).resolves.toEqual({
            jobs: [],
            total: 5,
          });
        },
      );

      test('takes a job as `before` that does not match the filters itself', async () => {
        await insertMany(5, (n) => ({ status: n === 3 ? 'Failed' : 'Pending' }));
        await expect(idsOf({ before: makeJob(3).id, status: 'Pending' })).resolves.toEqual([
          makeJob(2).id,
          makeJob(1).id,
        ]);
      });

      test.each<Partial<JobQuery>>([{}, { status: 'Pending' }])(
        'gives no jobs before an unknown or a removed one, with %j',
        async (query) => {
          await insertMany(3);
          await store.remove(makeJob(2).id);
          for (const before of ['Unknown1', makeJob(2).id]) {
            await expect(store.list({ limit: 10, before, ...query })).resolves.toEqual({
              jobs: [],
              total: 2,
            });
          }
        },
      );

      test('stays right while most jobs are removed', async () => {
        const count = 1500;
        await Promise.all(Array.from({ length: count }, (_, n) => store.insert(makeJob(n))));
        await Promise.all(Array.from({ length: count - 10 }, (_, n) => store.remove(makeJob(n).id)));
        const expected = Array.from({ length: 10 }, (_, n) => makeJob(count - 1 - n).id);
        await expect(idsOf()).resolves.toEqual(expected);
        await expect(idsOf({ before: expected[3] as string })).resolves.toEqual(expected.slice(4));
      });
    });

    describe('jobs of a user', () => {
      const userOf = (number: number) => [undefined, 'alice', 'bob'][number % 3];
      beforeEach(() =>
        insertMany(9, (number) => {
          const user = userOf(number);
          return user === undefined ? {} : { user };
        }),
      );

      test.each([
        ['alice', ['Job00007', 'Job00004', 'Job00001']],
        ['bob', ['Job00008', 'Job00005', 'Job00002']],
        ['nobody', []],
        ['', []],
        ['undefined', []],
      ])('%j', async (user, ids) => {
        const page = await store.list({ user, limit: 1000 });
        expect(page.jobs.map(({ id }) => id)).toEqual(ids);
        expect(page.total).toBe(ids.length);
      });

      test('page by page, also while they come and go, and with other filters', async () => {
        await expect(idsOf({ user: 'alice', limit: 2 })).resolves.toEqual(['Job00007', 'Job00004']);
        await store.remove('Job00007');
        await store.insert(makeJob(10, { user: 'alice', status: 'Failed' }));
        await expect(store.list({ user: 'alice', limit: 1, before: 'Job00010' })).resolves.toMatchObject({
          jobs: [{ id: 'Job00004' }],
          total: 3,
        });
        await expect(idsOf({ user: 'alice', status: 'Failed' })).resolves.toEqual(['Job00010']);
        await expect(idsOf({ user: 'alice', text: 'VARIATION 4' })).resolves.toEqual(['Job00004']);
        for (const id of ['Job00010', 'Job00004', 'Job00001']) await store.remove(id);
        await expect(store.list({ user: 'alice', limit: 5 })).resolves.toEqual({ jobs: [], total: 0 });
        await store.insert(makeJob(1, { user: 'alice' }));
        await reopen();
        await expect(store.list({ user: 'alice', limit: 5 })).resolves.toMatchObject({
          jobs: [{ id: 'Job00001' }],
          total: 1,
        });
      });

      test('another’s job tells nothing as `before`', async () => {
        await expect(idsOf({ user: 'alice', before: 'Job00004' })).resolves.toEqual(['Job00001']);
        for (const before of ['Job00005', 'Job00006', 'Unknown1']) {
          const page = await store.list({ user: 'alice', before, limit: 1000 });
          expect(page).toEqual({ jobs: [], total: 3 });
        }
      });
    });

    describe('jobs by the backend’s own id', () => {
      const found = async (query: Partial<JobQuery>) => {
        const page = await store.list({ limit: 1000, ...query });
        expect(page.total).toBe(page.jobs.length);
        return page.jobs.map(({ id }) => id);
      };

      test('are found from the moment on when it is known, until they are removed', async () => {
        await insertMany(3, (n) => (n === 3 ? { prompt_id: 'three' } : {}));
        await expect(found({ prompt_id: 'three' })).resolves.toEqual([makeJob(3).id]);
        await expect(found({ prompt_id: 'two' })).resolves.toEqual([]);
        await store.update(makeJob(2).id, { prompt_id: 'two' });
        await store.update(makeJob(2).id, { status: 'Processing' });
        await expect(found({ prompt_id: 'two' })).resolves.toEqual([makeJob(2).id]);
        await reopen();
        await expect(found({ prompt_id: 'two' })).resolves.toEqual([makeJob(2).id]);
        await store.update(makeJob(2).id, { prompt_id: 'another' });
        await expect(found({ prompt_id: 'two' })).resolves.toEqual([]);
        await expect(found({ prompt_id: 'another' })).resolves.toEqual([makeJob(2).id]);
        await store.remove(makeJob(2).id);
        await expect(found({ prompt_id: 'another' })).resolves.toEqual([]);
      });

      test('may be several, newest first; the other filters hold as well', async () => {
        await insertMany(4, (n) => ({ user: n % 2 === 0 ? 'alice' : 'bob' }));
        for (const n of [3, 2, 4]) await store.update(makeJob(n).id, { prompt_id: 'same' });
        await expect(found({ prompt_id: 'same' })).resolves.toEqual([4, 3, 2].map((n) => makeJob(n).id));
        await expect(found({ prompt_id: 'same', user: 'alice' })).resolves.toEqual(
          [4, 2].map((n) => makeJob(n).id),
        );
        const page = await store.list({ prompt_id: 'same', before: makeJob(4).id, limit: 1 });
        expect(page).toMatchObject({ jobs: [{ id: makeJob(3).id }], total: 3 });
        await store.remove(makeJob(2).id);
        await store.remove(makeJob(4).id);
        await expect(found({ prompt_id: 'same', user: 'alice' })).resolves.toEqual([]);
        await expect(found({ prompt_id: 'same', status: 'Failed' })).resolves.toEqual([]);
      });

      test.each(['__proto__', 'constructor', ''])('%j is an id like any other', async (id) => {
        await expect(found({ prompt_id: id })).resolves.toEqual([]);
        await store.insert(makeJob(1, { prompt_id: id }));
        await expect(found({ prompt_id: id })).resolves.toEqual([makeJob(1).id]);
      });
    });

    describe('walk', () => {
      async function walked(): Promise<string[]> {
        const ids: string[] = [];
        for await (const page of store.walk()) ids.push(...page.map(({ id }) => id));
        return ids;
      }

      test('passes every job once, oldest first', async () => {
        await insertMany(1201, (number) => ({ status: number % 2 ? 'Completed' : 'Pending' }));
        await expect(walked()).resolves.toEqual((await idsOf({ limit: 2000 })).toReversed());
      });

      test('passes no job of an empty store', async () => {
        await expect(walked()).resolves.toEqual([]);
      });

      test('goes on while all that it has passed is removed', async () => {
        await insertMany(1100);
        const ids: string[] = [];
        for await (const page of store.walk()) {
          for (const { id } of page) {
            ids.push(id);
            await store.remove(id);
          }
        }
        expect(ids).toHaveLength(1100);
        await expect(walked()).resolves.toEqual([]);
      });
    });

    test('names the unfinished jobs, oldest first', async () => {
      await insertMany(8, (n) => ({ status: statusOf(n) }));
      await store.update(makeJob(1).id, { status: 'Failed' });
      const expected = [2, 5, 6].map((n) => makeJob(n, { status: statusOf(n) }));
      await expect(store.unfinished()).resolves.toEqual(expected);
      await reopen();
      await expect(store.unfinished()).resolves.toEqual(expected);
    });

    test('hands out nothing through which a job could be changed', async () => {
      await store.insert(full);
      const updated = await store.update(full.id, { output_paths: ['a.png'] });
      const handedOut = [
        await store.get(full.id),
        updated,
        ...(await store.list({ limit: 1 })).jobs,
        ...(await store.list({ limit: 1, ip: full.ip })).jobs,
      ];
      for (const job of handedOut) {
        if (job === undefined) throw new Error('Expected the job to be there');
        tamper(() => Object.assign(job, { status: 'Pending', prompt: 'tampered' }));
        tamper(() => (job.output_paths as string[]).push('tampered'));
        tamper(() => Object.assign(job.request as object, { steps: 1 }));
        tamper(() => Object.assign(job.error as object, { message: 'tampered' }));
      }
      await expect(store.get(full.id)).resolves.toEqual({ ...full, output_paths: ['a.png'] });
    });

    describe('close', () => {
      test('waits for changes that are under way', async () => {
        const inserts = Array.from({ length: 30 }, (_, n) => store.insert(makeJob(n)));
        await store.close();
        await expect(Promise.all(inserts)).resolves.toEqual(inserts.map(() => true));
        await reopen();
        await expect(idsOf()).resolves.toHaveLength(30);
      });

      test('may be called twice, and at once', async () => {
        await Promise.all([store.close(), store.close()]);
        await expect(store.close()).resolves.toBeUndefined();
      });

      test('ends the store', async () => {
        await store.close();
        const closed = expect.objectContaining({ code: 'CLOSED' });
        await expect(store.insert(makeJob(1))).rejects.toEqual(closed);
        await expect(store.get(makeJob(1).id)).rejects.toEqual(closed);
        await expect(store.list({ limit: 1 })).rejects.toEqual(closed);
      });

      test('may be called while the store opens, and before', async () => {
        await store.close();
        const early = place();
        const opening = early.open();
        await early.close();
        await opening;
        await place().close();
      });
    });
  });
}

function statusOf(number: number): Job['status'] {
  return (['Completed', 'Pending', 'Processing', 'Failed'] as const)[number % 4] ?? 'Pending';
}

/** Does what a frozen object answers with a TypeError, and any other lets happen. */
function tamper(act: () => unknown): void {
  try {
    act();
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
  }
}
