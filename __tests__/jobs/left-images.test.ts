import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from '@jest/globals';
import { FileImageStore } from '../../lib/images/file-image-store.js';
import type { ImageStore } from '../../lib/images/image-store.js';
import { imageStem, leftImages } from '../../lib/jobs/left-images.js';
import { type CollectedLog, collectLog, makeJob } from '../helpers/job-records.js';
import { tempFolders } from '../helpers/temp-folder.js';

const newFolder = tempFolders();
const jobs = [1, 2, 3].map((number) => makeJob(number));
const [first, second, third] = jobs.map(imageStem) as [string, string, string];

let folder: string;
let log: CollectedLog;
let images: FileImageStore;

beforeEach(async () => {
  folder = await newFolder();
  log = collectLog();
  images = new FileImageStore({ folder, logger: log });
  await images.open();
});

async function keep(stem: string, extension: string, bytes: string): Promise<void> {
  const writer = await images.create(stem);
  await writer.write(Buffer.from(bytes));
  await writer.finish(extension);
}

describe('what a killed process has left', () => {
  test('is found for each of its jobs, in the order of the answer, with its size', async () => {
    for (const n of [10, 2, 0]) await keep(`${first}-${n}`, 'png', 'png');
    await keep(first, 'json', '{}');
    await keep(`${second}-0`, 'jpg', 'jpeg');
    await keep(imageStem(makeJob(4)), 'png', 'of somebody else');
    await keep(`${imageStem(makeJob(4))}-0`, 'png', 'of somebody else');
    expect(await leftImages(images, jobs, log)).toEqual(
      new Map([
        [
          jobs[0]?.id,
          {
            output_paths: [`${first}-0.png`, `${first}-2.png`, `${first}-10.png`],
            sidecar: `${first}.json`,
            bytes: 11,
          },
        ],
        [jobs[1]?.id, { output_paths: [`${second}-0.jpg`], bytes: 4 }],
      ]),
    );
    expect(log.warnings).toEqual([]);
  });

  test('is looked for in the folder of each day', async () => {
    const later = makeJob(5, { timestamp: 1_790_000_000 + 86_400 });
    await keep(`${third}-0`, 'png', 'a');
    await keep(`${imageStem(later)}-0`, 'png', 'b');
    const left = await leftImages(images, [...jobs, later], log);
    expect([...left.keys()].sort()).toEqual([jobs[2]?.id, later.id].sort());
  });

  test('stays where it is where the store cannot tell, or fails, which is said', async () => {
    await keep(`${first}-0`, 'png', 'a');
    const silent: ImageStore = {
      open: () => images.open(),
      create: (stem) => images.create(stem),
      read: (path) => images.read(path),
      remove: (path) => images.remove(path),
    };
    expect(await leftImages(silent, jobs, log)).toEqual(new Map());
    expect(log.warnings).toEqual([]);
    const failing: ImageStore = { ...silent, list: () => Promise.reject(new Error('EIO')) };
    expect(await leftImages(failing, jobs, log)).toEqual(new Map());
    expect(log.warnings).toEqual([expect.stringContaining('may lie about without a job: EIO')]);
  });
});

describe('FileImageStore, listing', () => {
  test('names the files of a folder, and nothing else', async () => {
    await keep(`${first}-0`, 'png', 'a');
    const [day = ''] = first.split('/');
    await mkdir(join(folder, day, 'folder'));
    await writeFile(join(folder, day, '.hidden'), '');
    await symlink(join(folder, day, '.hidden'), join(folder, day, 'link.png'));
    expect(await images.list(day)).toEqual([`${first}-0.png`]);
  });

  test('finds nothing where there is nothing, and nothing outside', async () => {
    const outside = await newFolder();
    await writeFile(join(outside, 'secret.png'), '');
    await symlink(outside, join(folder, 'out'));
    await writeFile(join(folder, 'file'), '');
    for (const name of ['2026-01-01', 'out', 'file', '..', '.partial', '', '/', outside])
      expect(await images.list(name)).toEqual([]);
  });
});
