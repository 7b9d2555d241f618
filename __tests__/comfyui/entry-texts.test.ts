import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { EntryTexts } from '../../lib/comfyui/entry-texts.js';
import { FileImageStore } from '../../lib/images/file-image-store.js';
import { keepComfyJobs, makeComfyJob } from '../helpers/comfyui-jobs.js';
import { collectLog } from '../helpers/job-records.js';
import { tempFolders } from '../helpers/temp-folder.js';

const newFolder = tempFolders();

test('it keeps what was asked for last in the memory that it has, and reads a text once for all who ask at a time', async () => {
  const dir = await newFolder();
  const entry = JSON.stringify({ text: 'x'.repeat(89) });
  expect(entry).toHaveLength(100);
  const large = JSON.stringify({ text: 'x'.repeat(1_000) });
  const jobs = Array.from({ length: 12 }, (_, n) => makeComfyJob(n));
  await keepComfyJobs(
    dir,
    jobs.map((job, n) => ({ job, entry: n === 11 ? large : entry })),
  );
  const log = collectLog();
  const images = new FileImageStore({ folder: join(dir, 'output'), logger: log });
  await images.open();
  const read: string[] = [];
  const texts = new EntryTexts({
    logger: log,
    maxBytes: 1_000,
    images: Object.assign(Object.create(images), {
      read: (path: string) => {
        read.push(path);
        return images.read(path);
      },
    }),
  });
  const ask = async (...numbers: number[]) => {
    const asked = await Promise.all(numbers.map((n) => texts.get(jobs[n]?.sidecar as string)));
    expect(asked.map(String)).toEqual(numbers.map((n) => (n === 11 ? large : entry)));
    return read.splice(0).map((path) => jobs.findIndex(({ sidecar }) => sidecar === path));
  };
  expect(await ask(0, 0, 0)).toEqual([0]);
  for (const n of [1, 2, 3, 4, 5, 6, 7, 8, 9]) expect(await ask(n)).toEqual([n]);
  expect(await ask(0, 1, 9)).toEqual([]);
  // 2 was asked for longest ago.
  expect(await ask(10)).toEqual([10]);
  expect(await ask(3, 4, 0, 1, 10)).toEqual([]);
  expect(await ask(2)).toEqual([2]);
  // One that is as large as all others together is not worth it.
  expect(await ask(11)).toEqual([11]);
  expect(await ask(11)).toEqual([11]);
  expect(await ask(2, 10)).toEqual([]);
});
