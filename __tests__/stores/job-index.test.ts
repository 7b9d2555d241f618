import { beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import type { Job } from '../../lib/job.js';
import { JobIndex } from '../../lib/stores/job-index.js';
import { makeJob } from '../helpers/job-records.js';

const COUNT = 100_000;

/** Counts what is looked at. */
class CountingMap extends Map<string, Job> {
  gets = 0;
  walks = 0;

  override get(id: string): Job | undefined {
    this.gets += 1;
    return super.get(id);
  }

  override values(): MapIterator<Job> {
    this.walks += 1;
    return super.values();
  }
}

describe('among a hundred thousand jobs', () => {
  let jobs: CountingMap;
  let index: JobIndex;

  beforeAll(() => {
    jobs = new CountingMap();
    for (let n = 0; n < COUNT; n += 1) {
      const job = makeJob(n, { user: n % 10 === 0 ? 'alice' : 'bob', prompt_id: `prompt ${n}` });
      jobs.set(job.id, job);
    }
    index = new JobIndex(jobs);
  });

  beforeEach(() => {
    jobs.gets = 0;
    jobs.walks = 0;
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
    expect(jobs.walks).toBe(0);
    expect(jobs.gets).toBeLessThanOrEqual(51);
  });

  test('one by the backend’s own id is not searched for', () => {
    expect(index.list({ prompt_id: 'prompt 777', limit: 50 })).toEqual({
      jobs: [jobs.get('Job00777')],
      total: 1,
    });
    expect(index.list({ prompt_id: 'prompt 777', user: 'alice', limit: 50 }).total).toBe(0);
    expect(index.list({ prompt_id: 'prompt x', limit: 50 }).total).toBe(0);
    expect(jobs.walks).toBe(0);
    expect(jobs.gets).toBeLessThanOrEqual(3);
  });

  test('a filter looks at one’s own only', () => {
    expect(index.list({ user: 'alice', text: 'variation 990', limit: 5 }).total).toBe(12);
    expect(jobs.walks).toBe(0);
    expect(jobs.gets).toBe(COUNT / 10);
  });
});
