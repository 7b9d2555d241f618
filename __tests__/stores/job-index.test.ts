import { beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import type { BackendName, Job, JobStatus } from '../../lib/job.js';
import { JobIndex } from '../../lib/stores/job-index.js';
import type { JobPage, JobQuery } from '../../lib/stores/job-store.js';
import { makeJob } from '../helpers/job-records.js';

const COUNT = 100_000;

describe('among a hundred thousand jobs', () => {
  let index: JobIndex;
  /** How many jobs have been looked at: by their status, which no page needs. */
  let looks = 0;

  const countedJob = (n: number): Job => {
    const job = makeJob(n, { user: n % 10 === 0 ? 'alice' : 'bob', prompt_id: `prompt ${n}` });
    const { status } = job;
    return Object.defineProperty(job, 'status', {
      get() {
        looks += 1;
        return status;
      },
    });
  };

  beforeAll(() => {
    index = new JobIndex(Array.from({ length: COUNT }, (_, n) => countedJob(n)));
  });

  beforeEach(() => {
    looks = 0;
  });

  const half = makeJob(COUNT / 2).id;

  test.each([
    ['a page of all', {}, 99_999, COUNT],
    ['a page in the middle', { before: half }, 49_999, COUNT],
    ['a page of one’s own', { user: 'alice' }, 99_990, COUNT / 10],
    ['a page of one’s own in the middle', { user: 'alice', before: half }, 49_990, COUNT / 10],
  ])('%s touches no others', (_name, query, first, total) => {
    const page = index.list({ ...query, limit: 50 });
    expect([page.jobs.length, page.jobs[0]?.id, page.total]).toEqual([50, makeJob(first).id, total]);
    expect(looks).toBe(0);
  });

  test('one by the backend’s own id is not searched for', () => {
    const query = { prompt_id: 'prompt 777', status: 'Completed', limit: 50 } as const;
    const { jobs, total } = index.list({ ...query, status: makeJob(777).status });
    expect([jobs.map(({ id }) => id), total]).toEqual([[makeJob(777).id], 1]);
    expect(index.list({ ...query, user: 'alice' }).total).toBe(0);
    expect(index.list({ ...query, prompt_id: 'prompt x' }).total).toBe(0);
    expect(looks).toBeLessThanOrEqual(2);
  });

  test('a filter looks at no more than the page needs', () => {
    const { status } = makeJob(0);
    expect(index.list({ user: 'alice', status, limit: 5 }).total).toBeGreaterThan(0);
    expect(looks).toBeLessThan(50);
  });

  test('two filters look at one’s own only', () => {
    const { status, backend } = makeJob(0);
    expect(index.list({ user: 'alice', status, backend, limit: 5 }).total).toBeGreaterThan(0);
    expect(looks).toBe(COUNT / 10);
  });

  test('what is later than a time is not looked for among what is earlier', () => {
    const { timestamp: after, status } = makeJob(COUNT - 101);
    expect(index.list({ status, after, limit: 5 }).total).toBeGreaterThan(0);
    expect(looks).toBe(100);
  });
});

describe('whatever has happened to the jobs, and to the clock', () => {
  const one = <T>(...values: T[]) => fc.constantFrom(...values);
  const traits = {
    ip: one('10.0.0.1', '10.0.0.2', ''),
    status: one<JobStatus>('Pending', 'Processing', 'Completed', 'Failed'),
    backend: one<BackendName>('a1111', 'comfyui'),
    user: one('ann', 'bob'),
  };
  const number = fc.nat(40);
  const step = fc.record({
    kind: one('add', 'add', 'change', 'remove'),
    number,
    timestamp: fc.oneof(
      { weight: 9, arbitrary: fc.constant(undefined) },
      { weight: 1, arbitrary: fc.nat(60) },
    ),
    status: traits.status,
    ip: traits.ip,
    backend: traits.backend,
    user: fc.option(traits.user, { nil: undefined }),
  });
  const query = fc.record(
    { ...traits, after: fc.nat(60), until: fc.nat(60), before: number.map((n) => makeJob(n).id) },
    { requiredKeys: [] },
  );

  test('a list is what one finds who looks at every job', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), fc.array(query), fc.nat(8), (steps, queries, limit) => {
        const index = new JobIndex([]);
        let jobs: Job[] = [];
        for (const [at, { kind, number: n, status, ip, backend, user, timestamp = at }] of steps.entries()) {
          const found = jobs.find(({ id }) => id === makeJob(n).id);
          if (kind === 'add' && !found) {
            const job = makeJob(n, { status, ip, backend, timestamp, ...(user !== undefined && { user }) });
            jobs.push(job);
            index.added(job);
          } else if (kind === 'change' && found) {
            const changed = { ...found, status };
            jobs = jobs.map((job) => (job === found ? changed : job));
            index.changed(found, changed);
          } else if (kind === 'remove' && found) {
            jobs = jobs.filter((job) => job !== found);
            index.removed(found);
          }
        }
        for (const asked of queries)
          expect(index.list({ ...asked, limit })).toEqual(listed(jobs, asked, limit));
      }),
      { numRuns: 500 },
    );
  });

  function listed(jobs: readonly Job[], asked: Omit<JobQuery, 'limit'>, limit: number): JobPage {
    const { ip, status, backend, user, after = -1, until = 1000, before } = asked;
    const isWanted = (job: Job) =>
      [ip ?? job.ip, status ?? job.status, backend ?? job.backend, user ?? job.user].join() ===
        [job.ip, job.status, job.backend, job.user].join() &&
      job.timestamp > after &&
      job.timestamp <= until;
    const place = jobs.findIndex(({ id }) => id === before);
    const isHidden = user !== undefined && jobs[place]?.user !== user;
    const end = before === undefined ? jobs.length : isHidden ? 0 : Math.max(0, place);
    const page = jobs.slice(0, end).filter(isWanted).reverse().slice(0, limit);
    return { jobs: page, total: jobs.filter(isWanted).length };
  }
});
