import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { FileImageStore } from '../../lib/images/file-image-store.js';
import { createJobEvents, type JobEvents } from '../../lib/jobs/job-events.js';
import { createJobs, type Jobs } from '../../lib/jobs/jobs.js';
import type { JobStore } from '../../lib/stores/job-store.js';
import { LowdbJobStore } from '../../lib/stores/lowdb-job-store.js';
import { type CollectedLog, collectLog, makeJob } from '../helpers/job-records.js';
import { tempFolders } from '../helpers/temp-folder.js';

const newFolder = tempFolders();

let log: CollectedLog;
let store: JobStore;
let events: JobEvents;
let jobs: Jobs;

beforeEach(async () => {
  const folder = await newFolder();
  log = collectLog();
  store = new LowdbJobStore({ folder, logger: log });
  const images = new FileImageStore({ folder: `${folder}/output`, logger: log });
  await store.open();
  await images.open();
  events = createJobEvents();
  jobs = createJobs({ store, images, events, logger: log });
});

afterEach(() => store.close());

test('a job that is removed is told of, and a listener that throws does not keep it', async () => {
  const heard: string[] = [];
  events.on('removed', ({ id }) => heard.push(id));
  events.on('removed', () => {
    throw new Error('the host’s fault');
  });
  await store.insert(makeJob(1, { status: 'Failed' }));
  await expect(jobs.remove('Job00001')).resolves.toBe(true);
  expect(heard).toEqual(['Job00001']);
  await expect(jobs.get('Job00001')).resolves.toBeUndefined();
  expect(log.errors.join('\n')).toContain('A listener for "removed" threw');
});

test('one that runs stays', async () => {
  await store.insert(makeJob(1, { status: 'Processing' }));
  await expect(jobs.remove('Job00001')).resolves.toBe(false);
  await expect(jobs.remove('Unknown1')).resolves.toBe(false);
  await expect(jobs.get('Job00001')).resolves.toBeDefined();
});
