import { beforeEach, describe, expect, test } from '@jest/globals';
import type { JobChange, JobError } from '../../lib/index.js';
import { RunningJob } from '../../lib/jobs/running-job.js';
import { makeJob } from '../helpers/job-records.js';

const cancelled: JobError = { code: 'cancelled', message: 'The job was cancelled' };

let changes: JobChange[];
let job: RunningJob;

beforeEach(() => {
  changes = [];
  job = new RunningJob(makeJob(1), async (change) => changes.push(change) > 0);
});

describe('a job whose backend has been told to stop', () => {
  const outcomes: [JobError, JobError][] = [
    [
      { code: 'backend', message: 'it said no', status: 500 },
      { code: 'cancelled', message: 'The job was cancelled: it said no', status: 500 },
    ],
    [
      { code: 'unreachable', message: 'gone' },
      { code: 'cancelled', message: 'The job was cancelled: gone' },
    ],
    [
      { code: 'not_stored', message: 'the disk is full' },
      { code: 'cancelled', message: 'The job was cancelled: the disk is full' },
    ],
    [
      { code: 'empty', message: 'no image', status: 200 },
      { code: 'cancelled', message: 'The job was cancelled', status: 200 },
    ],
    ...(['timeout', 'interrupted', 'cancelled'] as const).map((code): [JobError, JobError] => [
      { code, message: 'as it is' },
      { code, message: 'as it is' },
    ]),
  ];

  test.each(outcomes)('fails: %j', async (error, expected) => {
    job.start();
    job.expectCancelled(cancelled);
    await job.fail(error, { output_paths: ['a.png'] });
    expect(changes.at(-1)).toMatchObject({ status: 'Failed', error: expected, output_paths: ['a.png'] });
  });

  test('does not complete, and keeps what there is', async () => {
    job.start();
    job.expectCancelled(cancelled);
    await job.complete({ output_paths: ['a.png'], sidecar: 'a.json', bytes: 7 });
    expect(changes.at(-1)).toMatchObject({
      status: 'Failed',
      error: cancelled,
      output_paths: ['a.png'],
      sidecar: 'a.json',
      bytes: 7,
    });
  });

  test('completes where that was taken back; what somebody else wants stays', async () => {
    job.start();
    const takeBack = job.expectCancelled(cancelled);
    const other = { ...cancelled, message: 'once more' };
    const takeOtherBack = job.expectCancelled(other);
    takeBack();
    takeOtherBack();
    await job.complete({ output_paths: [] });
    expect(changes.at(-1)).toMatchObject({ status: 'Completed' });
  });
});

describe('a disturbance', () => {
  test('is noted between the start and the end, in this order', async () => {
    void job.start('task');
    job.disturb('skip');
    job.disturb('interrupt');
    job.disturb('skip');
    await job.complete({ output_paths: [] });
    job.disturb('interrupt');
    await job.over;
    expect(changes.map((change) => change.disturbed_by ?? change.status)).toEqual([
      'Processing',
      'skip',
      'interrupt',
      'Completed',
    ]);
  });
});

test('a job goes from waiting over running to answered, and says what the backend calls it', () => {
  expect([job.stage, job.taskId]).toEqual(['waiting', undefined]);
  job.start('task');
  expect([job.stage, job.taskId]).toEqual(['running', 'task']);
  job.answered();
  expect(job.stage).toBe('answered');
});

test('a job that is broken off ends at once where nobody runs it, and cannot start', async () => {
  job.breakOff(cancelled);
  expect(job.ended).toBe(true);
  job.start();
  job.breakOff({ ...cancelled, message: 'once more' });
  await job.over;
  expect(changes).toEqual([{ status: 'Failed', error: cancelled, finished_at: expect.any(Number) }]);
});
