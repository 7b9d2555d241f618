import { readdirSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { deflateSync } from 'node:zlib';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import sharp from 'sharp';
import { call } from '../helpers/client.js';
import { type KeptJobs, openFilesBelow, startWithKeptJobs, until } from '../helpers/kept-jobs.js';
import { makePng, sampleImages } from '../helpers/sample-images.js';
import { bigPng } from '../helpers/scripted-backend.js';
import { tempFolders } from '../helpers/temp-folder.js';

const newFolder = tempFolders();

let dir: string;
let kept: KeptJobs;

beforeEach(async () => {
  dir = await newFolder();
  kept = await startWithKeptJobs(dir);
});

afterEach(async () => {
  await until(() => kept.files.closed === kept.files.opened);
  await until(() => !openFilesBelow(dir).some((path) => /output|thumbnails/.test(path)));
  expect(kept.gateway.log).toEqual([]);
  await kept.gateway.close();
});

/** Keeps a job with these images; resolves to the URL of the first one. */
async function keep(...files: Buffer[]): Promise<string> {
  const paths: string[] = [];
  for (const [n, bytes] of files.entries()) {
    paths.push(await kept.keepFile(`2026-11-22/Job00001-${n}`, 'png', bytes));
  }
  await kept.keepJob(1, { output_paths: paths });
  return `${kept.gateway.url}/sdapi/v1/job/Job00001/images/0`;
}

const landscape = () => makePng(1024, 512, Buffer.from('some noise'));
const filesIn = async (folder: string) =>
  (await readdir(join(dir, folder), { recursive: true }).catch(() => [])).filter((name) =>
    name.endsWith('.webp'),
  );

test('a small WebP, that browsers keep for ever, with nothing of the prompt in it', async () => {
  const url = await keep(landscape());
  const { status, headers, body } = await call(`${url}/thumbnail`).answer;
  expect(status).toBe(200);
  expect(headers).toMatchObject({
    'content-type': 'image/webp',
    'content-disposition': 'inline; filename="Job00001-0-thumbnail.webp"',
    'content-length': String(body.length),
    etag: '"Job00001-0-thumbnail"',
    'cache-control': 'private, max-age=31536000, immutable',
    'x-content-type-options': 'nosniff',
  });
  expect(await sharp(body).metadata()).toMatchObject({ format: 'webp', width: 320, height: 160 });
  expect(landscape().includes('a cat')).toBe(true);
  expect(body.includes('a cat')).toBe(false);
  expect(await filesIn('thumbnails')).toEqual(['Jo/Job00001-0.webp']);
  const again = await call(`${url}/thumbnail`, { headers: { 'If-None-Match': headers.etag } }).answer;
  expect(again.status).toBe(304);
  const head = await call(`${url}/thumbnail`, { method: 'HEAD' }).answer;
  expect([head.status, head.headers['content-length'], head.body.length]).toEqual([
    200,
    String(body.length),
    0,
  ]);
});

test.each(['png', 'baseline jpeg', 'lossless webp', 'animated gif'])('also of a small %s', async (name) => {
  const url = await keep(sampleImages[name] as Buffer);
  const { headers, body } = await call(`${url}/thumbnail`).answer;
  expect(headers['content-type']).toBe('image/webp');
  const { width, pages } = await sharp(body).metadata();
  expect([width, pages ?? 1]).toEqual([(await sharp(sampleImages[name]).metadata()).width, 1]);
});

test.each([
  ['one that is cut off', landscape().subarray(0, 1_500)],
  ['one that is no PNG behind its head', bigPng(5_000)],
  ['an SVG', Buffer.from('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>')],
  ['noise', deflateSync(Buffer.from('noise'))],
])('%s is given as it is', async (_what, bytes) => {
  const url = await keep(bytes);
  const [small, image] = await Promise.all([`${url}/thumbnail`, url].map((one) => call(one).answer));
  const { date: _date, ...headers } = small?.headers ?? {};
  const { date: _other, ...expected } = image?.headers ?? {};
  expect([small?.status, headers, small?.body.equals(bytes)]).toEqual([200, expected, true]);
  expect(await filesIn('thumbnails')).toEqual([]);
});

test('a file of few bytes with more pixels than anybody can look at is given as it is', async () => {
  const side = 8_193;
  const pixels = { width: side, height: side, channels: 3 as const, background: 'black' };
  const bytes = await sharp({ create: pixels }).png({ palette: true, compressionLevel: 1 }).toBuffer();
  expect(bytes.length).toBeLessThan(1_000_000);
  const url = await keep(bytes);
  const { headers } = await call(`${url}/thumbnail`).answer;
  expect([headers['content-type'], headers['content-length']]).toEqual(['image/png', String(bytes.length)]);
});

test('an image that is not there has no thumbnail either', async () => {
  const url = await keep(landscape());
  for (const n of ['1', '-1', 'x', '0x0']) {
    const answer = await call(`${url.replace(/0$/, n)}/thumbnail`).answer;
    expect([answer.status, JSON.parse(answer.body.toString())]).toEqual([
      404,
      { error: 'Image not found: the job has 1, counted from 0' },
    ]);
  }
});

test('a job that is removed takes its thumbnails with it', async () => {
  const url = await keep(landscape(), landscape());
  await Promise.all(
    [`${url}/thumbnail`, `${url.replace(/0$/, '1')}/thumbnail`].map((one) => call(one).answer),
  );
  expect((await filesIn('thumbnails')).sort()).toEqual(['Jo/Job00001-0.webp', 'Jo/Job00001-1.webp']);
  // Whoever is killed when the record has gone leaves nothing that nobody would ever find again.
  const left: string[] = [];
  kept.gateway.tracker.events.once('removed', () => {
    left.push(...readdirSync(join(dir, 'thumbnails'), { recursive: true, encoding: 'utf8' }));
  });
  expect((await call(url.replace('/images/0', ''), { method: 'DELETE' }).answer).status).toBe(204);
  expect(left.filter((name) => name.endsWith('.webp'))).toEqual([]);
  expect(await filesIn('thumbnails')).toEqual([]);
});
