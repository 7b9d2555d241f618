import { beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import type { Job } from '../../lib/job.js';
import { JobIndex } from '../../lib/stores/job-index.js';
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

  test('a filter looks at one’s own only', () => {
    const { status } = makeJob(0);
    expect(index.list({ user: 'alice', status, limit: 5 }).total).toBeGreaterThan(0);
    expect(looks).toBe(COUNT / 10);
  });
});
