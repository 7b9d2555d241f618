import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import request from 'supertest';
import { type Answer, call } from '../helpers/client.js';
import { type KeptJobs, openFilesBelow, startWithKeptJobs, until } from '../helpers/kept-jobs.js';
import { avifHead, sampleImages } from '../helpers/sample-images.js';
import { bigPng } from '../helpers/scripted-backend.js';
import { tempFolders } from '../helpers/temp-folder.js';

const newFolder = tempFolders();
/** Of several of the pieces in which a file is read. */
const large = bigPng(700_001);

let dir: string;
let kept: KeptJobs;

beforeEach(async () => {
  dir = await newFolder();
  kept = await startWithKeptJobs(dir);
});

afterEach(async () => {
  await until(() => kept.files.closed === kept.files.opened);
  expect(openFilesBelow(join(dir, 'output'))).toEqual([]);
  expect(kept.gateway.log).toEqual([]);
  await kept.gateway.close();
});

/** Keeps a job with these files; resolves to the URL of its images. */
async function keep(...files: [extension: string, bytes: Buffer][]): Promise<string> {
  const paths: string[] = [];
  for (const [n, [extension, bytes]] of files.entries()) {
    paths.push(await kept.keepFile(`2026-11-22/Job00001-${n}`, extension, bytes));
  }
  await kept.keepJob(1, { output_paths: paths });
  return `${kept.gateway.url}/sdapi/v1/job/Job00001/images`;
}

const get = (url: string, headers = {}): Promise<Answer> => call(url, { headers }).answer;

describe('the file itself', () => {
  const sample = (name: string) => sampleImages[name] as Buffer;
  const exotic = (hex: string) => Buffer.from(hex.padEnd(160, '0'), 'hex');

  const formats: [what: string, bytes: Buffer, type: string, disposition: string][] = [
    ['PNG', sample('png'), 'image/png', 'inline; filename="Job00001-0.png"'],
    ['a large PNG', large, 'image/png', 'inline; filename="Job00001-0.png"'],
    ['JPEG', sample('baseline jpeg'), 'image/jpeg', 'inline; filename="Job00001-0.jpg"'],
    ['WebP', sample('lossy webp'), 'image/webp', 'inline; filename="Job00001-0.webp"'],
    ['GIF', sample('gif'), 'image/gif', 'inline; filename="Job00001-0.gif"'],
    ['AVIF', avifHead, 'image/avif', 'inline; filename="Job00001-0.avif"'],
    ['MP4', exotic('000000186674797069736f6d'), 'video/mp4', 'inline; filename="Job00001-0.mp4"'],
    [
      'SVG',
      Buffer.from('<svg onload="alert(1)"/>'),
      'application/octet-stream',
      'attachment; filename="Job00001-0.bin"',
    ],
    [
      'HTML',
      Buffer.from('<!doctype html>'),
      'application/octet-stream',
      'attachment; filename="Job00001-0.bin"',
    ],
    ['a BMP', exotic('424d'), 'application/octet-stream', 'attachment; filename="Job00001-0.bin"'],
    ['nothing', Buffer.alloc(0), 'application/octet-stream', 'attachment; filename="Job00001-0.bin"'],
  ];

  test.each(formats)('%s, whatever its name says', async (_what, bytes, type, disposition) => {
    const url = `${await keep(['png', bytes])}/0`;
    const answer = await get(url);
    expect(answer.status).toBe(200);
    expect(answer.body.equals(bytes)).toBe(true);
    const headers = {
      'content-type': type,
      'content-disposition': disposition,
      'content-length': String(bytes.length),
      'cache-control': 'private, max-age=31536000, immutable',
      'x-content-type-options': 'nosniff',
      'accept-ranges': 'bytes',
      etag: '"Job00001-0"',
    };
    expect(answer.headers).toMatchObject(headers);
    expect(answer.headers).not.toHaveProperty('content-range');
    const head = await call(url, { method: 'HEAD' }).answer;
    expect(head.status).toBe(200);
    expect(head.headers).toMatchObject(headers);
    expect(head.body).toHaveLength(0);
  });

  test('each one under its number, from 0', async () => {
    const url = await keep(['png', sample('png')], ['gif', sample('gif')]);
    expect((await get(`${url}/0`)).body).toEqual(sample('png'));
    const second = await get(`${url}/1`);
    expect(second.body).toEqual(sample('gif'));
    expect(second.headers.etag).toBe('"Job00001-1"');
  });

  test.each(['-1', '-0', '2', '999999', '1000000', '99999999999999999999', '1e0', '0.5', '1.0', '0x0', '+0'])(
    'number %s is 404',
    async (n) => {
      const url = await keep(['png', sample('png')], ['gif', sample('gif')]);
      const answer = await request(url).get(`/${n}`).expect(404);
      expect(answer.body).toEqual({ error: 'Image not found: the job has 2, counted from 0' });
      expect(answer.headers['content-type']).toMatch(/^application\/json/);
      expect(answer.headers['cache-control'] ?? '').not.toContain('immutable');
    },
  );

  test.each(['NaN', '__proto__', 'length', '%00', 'constructor', '%D9%A0', '0%2f', ' 0', '0;'])(
    'number "%s" is 404',
    async (n) => {
      const url = await keep(['png', sample('png')]);
      expect((await get(`${url}/${n.replace(' ', '%20')}`)).status).toBe(404);
    },
  );

  test('one that was deleted by hand is 404', async () => {
    const url = await keep(['png', sample('png')]);
    await rm(join(dir, 'output', '2026-11-22/Job00001-0.png'));
    await request(url).get('/0').expect(404);
  });
});

describe('conditions', () => {
  test.each(['"Job00001-0"', 'W/"Job00001-0"', '"other", "Job00001-0"', '*'])(
    'If-None-Match: %s is 304, without a body',
    async (tag) => {
      const url = `${await keep(['png', large])}/0`;
      for (const method of ['GET', 'HEAD']) {
        const answer = await call(url, { method, headers: { 'If-None-Match': tag } }).answer;
        expect(answer.status).toBe(304);
        expect(answer.body).toHaveLength(0);
        expect(answer.headers.etag).toBe('"Job00001-0"');
        expect(answer.headers['cache-control']).toContain('immutable');
      }
    },
  );

  test.each(['"Job00001-1"', 'Job00001-0', '""'])('If-None-Match: %s is 200', async (tag) => {
    const answer = await get(`${await keep(['png', large])}/0`, { 'If-None-Match': tag });
    expect(answer.status).toBe(200);
    expect(answer.body.equals(large)).toBe(true);
  });

  test('If-None-Match counts before Range', async () => {
    const url = `${await keep(['png', large])}/0`;
    for (const range of ['bytes=0-9', `bytes=${large.length}-`]) {
      expect((await get(url, { 'If-None-Match': '"Job00001-0"', Range: range })).status).toBe(304);
    }
  });
});

describe('ranges', () => {
  const size = large.length;

  const parts: [range: string, start: number, end: number][] = [
    ['bytes=0-0', 0, 0],
    ['bytes=0-99', 0, 99],
    ['Bytes=0-99', 0, 99],
    ['bytes=262143-262144', 262_143, 262_144],
    [`bytes=${size - 1}-${size - 1}`, size - 1, size - 1],
    ['bytes=-5', size - 5, size - 1],
    [`bytes=-${size}`, 0, size - 1],
    [`bytes=-${size + 1}`, 0, size - 1],
    ['bytes=-99999999999999999999999', 0, size - 1],
    ['bytes=700000-', 700_000, size - 1],
    ['bytes=0-', 0, size - 1],
    ['bytes=10-99999999999999999999', 10, size - 1],
  ];

  test.each(parts)('%s', async (range, start, end) => {
    const answer = await get(`${await keep(['png', large])}/0`, { Range: range });
    expect(answer.status).toBe(206);
    expect(answer.headers['content-range']).toBe(`bytes ${start}-${end}/${size}`);
    expect(answer.headers['content-length']).toBe(String(end - start + 1));
    expect(answer.headers['content-type']).toBe('image/png');
    expect(answer.body.equals(large.subarray(start, end + 1))).toBe(true);
  });

  test.each([`bytes=${size}-`, `bytes=${size}-${size + 5}`, 'bytes=99999999999999999999-', 'bytes=-0'])(
    '%s is 416',
    async (range) => {
      const answer = await get(`${await keep(['png', large])}/0`, { Range: range });
      expect(answer.status).toBe(416);
      expect(answer.headers['content-range']).toBe(`bytes */${size}`);
      expect(answer.headers['content-type']).toMatch(/^application\/json/);
      expect(answer.headers['cache-control']).toBe('no-store');
      expect(answer.headers).not.toHaveProperty('content-disposition');
      expect(JSON.parse(answer.body.toString())).toEqual({
        error: `Expected a range within ${size} bytes, got "${range}"`,
      });
    },
  );

  test.each([
    'bytes=0-0,5-6',
    'bytes=0-99,-5',
    'bytes=5-4',
    'bytes=',
    'bytes=-',
    'bytes=a-b',
    'bytes=0x0-0x5',
    'bytes=1.5-2',
    'bytes 0-5',
    'items=0-5',
    `items=${size}-`,
    'rubbish',
  ])('%s is answered with the whole', async (range) => {
    const answer = await get(`${await keep(['png', large])}/0`, { Range: range });
    expect(answer.status).toBe(200);
    expect(answer.headers).not.toHaveProperty('content-range');
    expect(answer.body.equals(large)).toBe(true);
  });

  test('an empty file has no ranges', async () => {
    const url = `${await keep(['png', Buffer.alloc(0)])}/0`;
    for (const range of ['bytes=0-0', 'bytes=0-', 'bytes=-1']) {
      expect((await get(url, { Range: range })).status).toBe(416);
    }
  });

  test.each([
    ['"Job00001-0"', 206],
    ['"Job00001-1"', 200],
    ['W/"Job00001-0"', 200],
    ['Sun, 22 Nov 2026 00:00:00 GMT', 200],
  ])('If-Range: %s is %d', async (ifRange, status) => {
    const url = `${await keep(['png', large])}/0`;
    const answer = await get(url, { Range: 'bytes=0-9', 'If-Range': ifRange });
    expect(answer.status).toBe(status);
    expect(answer.body.equals(status === 206 ? large.subarray(0, 10) : large)).toBe(true);
    const beyond = await get(url, { Range: `bytes=${size}-`, 'If-Range': ifRange });
    expect(beyond.status).toBe(status === 206 ? 416 : 200);
  });

  test('HEAD knows no ranges', async () => {
    const answer = await call(`${await keep(['png', large])}/0`, {
      method: 'HEAD',
      headers: { Range: 'bytes=0-9' },
    }).answer;
    expect(answer.status).toBe(200);
    expect(answer.headers['content-length']).toBe(String(size));
  });
});
