import { mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { FileImageStore } from '../../lib/images/file-image-store.js';
import type { ThumbnailMaker } from '../../lib/images/thumbnail-maker.js';
import { Thumbnails } from '../../lib/images/thumbnails.js';
import type { Job } from '../../lib/job.js';
import { type CollectedLog, collectLog, makeJob } from '../helpers/job-records.js';
import { until } from '../helpers/kept-jobs.js';
import { sampleImages } from '../helpers/sample-images.js';
import { gate } from '../helpers/scripted-backend.js';
import { tempFolders } from '../helpers/temp-folder.js';

const newFolder = tempFolders();
const png = sampleImages.png as Buffer;

let dir: string;
let images: FileImageStore;
let thumbnails: Thumbnails;
let log: CollectedLog;
let made: Buffer[];
let make: ThumbnailMaker;

beforeEach(async () => {
  dir = await newFolder();
  log = collectLog();
  images = new FileImageStore({ folder: join(dir, 'output'), logger: log });
  await images.open();
  made = [];
  make = async () => Buffer.from('small');
  start(async () => (image) => {
    made.push(image);
    return make(image);
  });
});

afterEach(() => thumbnails.close());

function start(loadMaker: () => Promise<ThumbnailMaker | undefined>): void {
  thumbnails = new Thumbnails({ folder: join(dir, 'thumbnails'), images, logger: log, loadMaker });
}

async function keep(number: number, ...files: Buffer[]): Promise<Job> {
  const paths: string[] = [];
  for (const [n, bytes] of files.entries()) {
    const writer = await images.create(`2026-11-22/${makeJob(number).id}-${n}`);
    await writer.write(bytes);
    paths.push(await writer.finish('png'));
  }
  return makeJob(number, { status: 'Completed', output_paths: paths });
}

async function open(job: Job, n = 0): Promise<string | undefined> {
  const file = await thumbnails.open(job, n);
  if (!file) return undefined;
  const text = (await buffer(file.read())).toString();
  await file.close();
  return text;
}

const folders = () => readdir(dir);
const filesKept = async () =>
  (await readdir(join(dir, 'thumbnails'), { recursive: true }))
    .filter((name) => name.endsWith('.webp'))
    .sort();

test('one is made when it is asked for, once, also after a restart', async () => {
  const job = await keep(1, png, png);
  expect(await folders()).toEqual(['output']);
  expect(await open(job)).toBe('small');
  expect(await open(job)).toBe('small');
  expect(made).toHaveLength(1);
  expect(made[0]?.equals(png)).toBe(true);
  await thumbnails.close();
  start(async () => async () => {
    throw new Error('not again');
  });
  expect(await open(job)).toBe('small');
  expect(await filesKept()).toEqual(['Jo/Job00001-0.webp']);
});

test('many who ask at once get the same; one is made at a time', async () => {
  const job = await keep(1, png, png, png);
  const held = gate();
  let atOnce = 0;
  let most = 0;
  make = async () => {
    atOnce += 1;
    most = Math.max(most, atOnce);
    await held.opened;
    atOnce -= 1;
    return Buffer.from('small');
  };
  const all = Promise.all([0, 0, 0, 1, 2, 1, 0].map((n) => open(job, n)));
  await until(() => made.length > 0);
  held.open();
  expect(await all).toEqual(Array(7).fill('small'));
  expect([made.length, most]).toEqual([3, 1]);
});

test('it goes with its job', async () => {
  const job = await keep(1, png, png);
  const other = await keep(2, png);
  await Promise.all([open(job, 0), open(job, 1), open(other)]);
  await Promise.all([thumbnails.forget(job), thumbnails.forget(makeJob(3))]);
  expect(await filesKept()).toEqual(['Jo/Job00002-0.webp']);
});

test('one that is being made while its job is removed goes as well', async () => {
  const job = await keep(1, png);
  const held = gate();
  make = async () => {
    await held.opened;
    return Buffer.from('small');
  };
  const opening = open(job);
  await until(() => made.length > 0);
  const forgotten = thumbnails.forget(job);
  held.open();
  await Promise.all([opening, forgotten]);
  expect(await filesKept()).toEqual([]);
});

test('without any, nothing is made for those that are removed', async () => {
  await thumbnails.forget(await keep(1, png));
  expect(await folders()).toEqual(['output']);
});

describe('there is none', () => {
  test('without sharp, and nobody is told', async () => {
    start(async () => undefined);
    expect(await open(await keep(1, png))).toBeUndefined();
    expect(await folders()).toEqual(['output']);
    expect(log.warnings).toEqual([]);
  });

  test('with a sharp that does not work, which is said once', async () => {
    start(async () => {
      throw new Error('wrong libvips');
    });
    const job = await keep(1, png);
    expect(await open(job)).toBeUndefined();
    expect(await open(job)).toBeUndefined();
    expect(log.warnings).toEqual([
      'Thumbnails cannot be made, because sharp cannot be loaded: wrong libvips',
    ]);
  });

  test('of an image that cannot be read, which is tried once', async () => {
    make = async () => {
      throw new Error('broken');
    };
    const job = await keep(1, png);
    expect(await open(job)).toBeUndefined();
    expect(await open(job)).toBeUndefined();
    expect(made).toHaveLength(1);
    expect(log.warnings).toEqual([]);
    // The others are none the worse for it.
    make = async () => Buffer.from('small');
    expect(await open(await keep(2, png))).toBe('small');
  });

  test.each([
    ['an SVG', Buffer.from('<svg xmlns="http://www.w3.org/2000/svg"/>')],
    ['a video', Buffer.from('000000186674797069736f6d'.padEnd(160, '0'), 'hex')],
    ['nothing at all', Buffer.alloc(0)],
  ])('of %s, which is not even looked at', async (_what, bytes) => {
    expect(await open(await keep(1, bytes))).toBeUndefined();
    expect(made).toEqual([]);
  });

  test('of an image that is missing, or that the job does not have', async () => {
    const job = await keep(1, png);
    await rm(join(dir, 'output', job.output_paths[0] as string));
    expect(await open(job)).toBeUndefined();
    expect(await open(job, 1)).toBeUndefined();
  });

  test('where it cannot be kept, which is said once', async () => {
    await writeFile(join(dir, 'thumbnails'), 'in the way');
    const job = await keep(1, png, png);
    expect(await open(job, 0)).toBeUndefined();
    expect(await open(job, 1)).toBeUndefined();
    expect(log.warnings).toEqual([
      expect.stringMatching(/^The thumbnail Jo\/Job00001-0\.webp cannot be kept: /),
    ]);
    await rm(join(dir, 'thumbnails'));
    await mkdir(join(dir, 'thumbnails'));
    expect(await open(job, 0)).toBe('small');
  });

  test('after the end', async () => {
    const job = await keep(1, png);
    await thumbnails.close();
    await thumbnails.close();
    expect(await open(job)).toBeUndefined();
    expect(made).toEqual([]);
  });

  test('for who comes when 200 are waiting', async () => {
    const held = gate();
    make = async () => {
      await held.opened;
      return Buffer.from('small');
    };
    const job = await keep(1, ...Array.from({ length: 201 }, () => png));
    const waiting = Promise.all(Array.from({ length: 200 }, (_, n) => open(job, n)));
    await until(() => made.length > 0);
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(await open(job, 200)).toBeUndefined();
    held.open();
    expect(new Set(await waiting)).toEqual(new Set(['small']));
  });
});
