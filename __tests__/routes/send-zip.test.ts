import { createHash } from 'node:crypto';
import { rm, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import compression from 'compression';
import { unzipSync } from 'fflate';
import { call } from '../helpers/client.js';
import type { GatewayOptions } from '../helpers/gateway.js';
import { type KeptJobs, openFilesBelow, startWithKeptJobs, until } from '../helpers/kept-jobs.js';
import { sampleImages } from '../helpers/sample-images.js';
import { bigPng } from '../helpers/scripted-backend.js';
import { tempFolders } from '../helpers/temp-folder.js';

const newFolder = tempFolders();
const png = sampleImages.png as Buffer;
const jpeg = sampleImages['baseline jpeg'] as Buffer;
const webp = sampleImages['lossy webp'] as Buffer;

let dir: string;
let kept: KeptJobs;
let url: string;

async function start(options: GatewayOptions = {}): Promise<void> {
  dir = await newFolder();
  kept = await startWithKeptJobs(dir, options);
  url = `${kept.gateway.url}/sdapi/v1/job/Job00001/zip`;
}

beforeEach(() => start());

afterEach(async () => {
  await until(() => kept.files.closed === kept.files.opened);
  expect(openFilesBelow(join(dir, 'output'))).toEqual([]);
  await kept.gateway.close();
});

/** Keeps a job with these files; resolves to where they are. */
async function keep(...files: Buffer[]): Promise<string[]> {
  const paths: string[] = [];
  for (const [n, bytes] of files.entries()) {
    paths.push(await kept.keepFile(`2026-11-22/Job00001-${n}`, 'png', bytes));
  }
  await kept.keepJob(1, { output_paths: paths, finished_at: 1_790_000_010 });
  return paths.map((path) => join(dir, 'output', path));
}

const hash = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

function filesIn(zip: Buffer): [name: string, hash: string][] {
  return Object.entries(unzipSync(zip)).map(([name, bytes]) => [name, hash(bytes)]);
}

test('all images, as they are, under names that say what they are', async () => {
  const large = bigPng(3_000_000);
  await keep(png, jpeg, large, webp);
  const { status, headers, body } = await call(url).answer;
  expect(status).toBe(200);
  expect(headers).toMatchObject({
    'content-type': 'application/zip',
    'content-disposition': 'attachment; filename="Job00001.zip"',
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
    'content-length': String(body.length),
  });
  expect(filesIn(body)).toEqual([
    ['Job00001-0.png', hash(png)],
    ['Job00001-1.jpg', hash(jpeg)],
    ['Job00001-2.png', hash(large)],
    ['Job00001-3.webp', hash(webp)],
  ]);
  const head = await call(url, { method: 'HEAD' }).answer;
  expect([head.status, head.headers['content-length'], head.body.length]).toEqual([
    200,
    String(body.length),
    0,
  ]);
  // The same job gives the same file.
  expect((await call(url).answer).body.equals(body)).toBe(true);
});

test('one that is missing is named, and the others are there', async () => {
  const [, second] = await keep(png, jpeg, webp);
  await rm(second as string);
  const { body, headers } = await call(url).answer;
  expect(headers['content-length']).toBe(String(body.length));
  expect(filesIn(body)).toEqual([
    ['Job00001-0.png', hash(png)],
    ['Job00001-2.webp', hash(webp)],
    ['missing.txt', hash(Buffer.from('These images of the job are no longer kept:\nJob00001-1\n'))],
  ]);
});

test('no images, no file', async () => {
  const [only] = await keep(png);
  await rm(only as string);
  await kept.keepJob(2, { status: 'Failed' });
  for (const [id, error] of [
    ['Job00001', "Image not found: none of the job's 1 is kept any more"],
    ['Job00002', 'Image not found: the job has none'],
  ] as const) {
    const answer = await call(url.replace('Job00001', id)).answer;
    expect([answer.status, JSON.parse(answer.body.toString())]).toEqual([404, { error }]);
  }
});

test('a client that leaves in the middle leaves no file open', async () => {
  await keep(bigPng(8_000_000), bigPng(8_000_000));
  const client = call(url, { unread: true });
  await client.head;
  expect(openFilesBelow(join(dir, 'output')).length).toBe(process.platform === 'linux' ? 2 : 0);
  client.request.destroy();
  await until(() => kept.files.opened === 2 && kept.files.closed === 2);
});

test('it is read no faster than the client takes it', async () => {
  await keep(...Array.from({ length: 12 }, () => bigPng(8_000_000)));
  const before = process.memoryUsage().arrayBuffers;
  const client = call(url, { unread: true });
  const incoming = await client.incoming;
  await new Promise((resolve) => setTimeout(resolve, 300));
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(24_000_000);
  let sizeBytes = 0;
  for await (const chunk of incoming) sizeBytes += chunk.length;
  expect(sizeBytes).toBe(Number(incoming.headers['content-length']));
});

test('a file that has become shorter breaks the answer off, and the log says so', async () => {
  const [first] = await keep(bigPng(8_000_000), png);
  const client = call(url, { unread: true });
  const incoming = await client.incoming;
  await truncate(first as string, 5_000_000);
  const read = async () => {
    for await (const _chunk of incoming) {
      // Until it breaks off.
    }
  };
  await expect(read()).rejects.toThrow('aborted');
  // The client may hear of it first.
  while (kept.gateway.log.length === 0) await setImmediate();
  expect(kept.gateway.log.join()).toMatch(/GET .*zip broke off: Expected 8\d+ bytes in a kept file/);
});

test('compression() in front changes nothing', async () => {
  await kept.gateway.close();
  await start({ front: (app) => void app.use(compression({ threshold: 0 })) });
  await keep(png, jpeg);
  const { body, headers } = await call(url, { headers: { 'Accept-Encoding': 'gzip' } }).answer;
  expect(headers['content-encoding']).toBeUndefined();
  expect(filesIn(body).map(([name]) => name)).toEqual(['Job00001-0.png', 'Job00001-1.jpg']);
});
