import { mkdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import request from 'supertest';
import { createDemoA1111, type DemoA1111 } from '../../examples/demo-backend.js';
import { writeSidecar } from '../../lib/images/answer-sidecar.js';
import type { ImageStore } from '../../lib/images/image-store.js';
import type { Job } from '../../lib/index.js';
import { call, post } from '../helpers/client.js';
import { type KeptJobs, openFilesBelow, startWithKeptJobs, until } from '../helpers/kept-jobs.js';
import { sampleImages } from '../helpers/sample-images.js';
import { bigPng } from '../helpers/scripted-backend.js';
import { tempFolders } from '../helpers/temp-folder.js';

const newFolder = tempFolders();
const png = sampleImages.png as Buffer;
const gif = sampleImages.gif as Buffer;
const size = { width: 64, height: 64, steps: 2 };

let dir: string;
let kept: KeptJobs;

beforeEach(async () => {
  dir = await newFolder();
});

afterEach(async () => {
  await kept.gateway.close();
});

/** The bytes of `GET /sdapi/v1/job/{id}`; fails unless it is 200. */
async function bytesOf(id: string, query = ''): Promise<string> {
  const answer = await call(`${kept.gateway.url}/sdapi/v1/job/${id}${query}`).answer;
  expect([answer.status, answer.body.toString()]).toEqual([200, expect.anything()]);
  expect(answer.headers['content-length']).toBe(String(answer.body.length));
  return answer.body.toString();
}

const jobOf = async (id: string, query = '') => JSON.parse(await bytesOf(id, query));

/** Resolves once no file of the output folder is open for reading. */
async function allClosed(): Promise<void> {
  await until(() => kept.files.closed === kept.files.opened);
  expect(openFilesBelow(join(dir, 'output'))).toEqual([]);
}

describe('a job that was generated', () => {
  let backend: DemoA1111;
  let id: string;
  /** What the backend answered. */
  let said: string;

  beforeEach(async () => {
    backend = createDemoA1111({ generationMs: 0 });
    kept = await startWithKeptJobs(dir, { a1111: await backend.listen() });
    const body = `{"prompt":"ein Böötchen \\u0021","seed":18446744073709551615,"cfg_scale":7.0,"batch_size":2,"width":64,"height":64,"steps":2}`;
    const answer = await post(`${kept.gateway.url}/sdapi/v1/txt2img`, body).answer;
    id = answer.headers['x-job-id'] as string;
    said = answer.body.toString();
  });

  afterEach(async () => {
    backend.state.release();
    await backend.close();
  });

  test('has the extension’s five fields first, and ours behind them', async () => {
    const job = await jobOf(id);
    expect(Object.keys(job)).toEqual([
      ...['id', 'prompt', 'status', 'timestamp', 'images'],
      ...['ip', 'output_paths', 'backend', 'path', 'request', 'started_at', 'finished_at', 'bytes'],
      ...['image_urls', 'info', 'parameters'],
    ]);
    expect(job).toMatchObject({ id, prompt: 'ein Böötchen !', status: 'Completed' });
    expect(job.images).toEqual(JSON.parse(said).images);
    expect(job.image_urls).toEqual([`/sdapi/v1/job/${id}/images/0`, `/sdapi/v1/job/${id}/images/1`]);
  });

  test('gives `info` and `parameters` again as the backend’s own text', async () => {
    const parameters = said.slice(said.indexOf('"parameters":') + 13, said.indexOf(',"info":"'));
    const info = said.slice(said.indexOf(',"info":"') + 8, -1);
    expect(parameters).toMatch(
      /^\{"prompt":"ein Böötchen !".*"seed":18446744073709551615,.*"cfg_scale":7\.0,.*\}$/,
    );
    expect(info).toMatch(/^"\{\\"prompt\\": .*18446744073709551615.*\}"$/);
    for (const query of ['', '?images=url', '?images=none']) {
      expect((await bytesOf(id, query)).endsWith(`,"info":${info},"parameters":${parameters}}`)).toBe(true);
    }
  });

  test.each([
    ['base64', () => JSON.parse(said).images],
    ['BASE64', () => JSON.parse(said).images],
    ['', () => JSON.parse(said).images],
    ['url', () => [`/sdapi/v1/job/${id}/images/0`, `/sdapi/v1/job/${id}/images/1`]],
    ['Url', () => [`/sdapi/v1/job/${id}/images/0`, `/sdapi/v1/job/${id}/images/1`]],
    ['none', () => []],
  ])('images=%s', async (as, expected) => {
    const job = await jobOf(id, `?images=${as}`);
    expect(job.images).toEqual(expected());
    expect(Object.keys(job).slice(0, 5)).toEqual(['id', 'prompt', 'status', 'timestamp', 'images']);
    expect(job.output_paths).toHaveLength(2);
  });

  test.each([
    ['png', '"png"'],
    ['0', '"0"'],
    ['__proto__', '"__proto__"'],
    ['long'.repeat(30), `"${'long'.repeat(24)}lon`],
  ])('images=%s is refused', async (as, got) => {
    const answer = await request(kept.gateway.url)
      .get(`/sdapi/v1/job/${id}`)
      .query({ images: as })
      .expect(400);
    expect(answer.body).toEqual({
      error: `Expected \`images\` to be one of base64, url, none, got ${got}`,
    });
  });

  test('images given twice is refused', async () => {
    const answer = await request(kept.gateway.url)
      .get(`/sdapi/v1/job/${id}?images=url&images=none`)
      .expect(400);
    expect(answer.body).toEqual({ error: 'Expected `images` to be given once, got ["url","none"]' });
  });

  test('HEAD has the head of GET, and no body', async () => {
    const url = `${kept.gateway.url}/sdapi/v1/job/${id}`;
    const get = await call(url).answer;
    // The images need not be read to know how long they are.
    const { read } = kept.images;
    kept.images.read = async (path) => {
      const file = await read.call(kept.images, path);
      if (file && path.endsWith('.png')) file.slice = () => Promise.reject(new Error('read for nothing'));
      return file;
    };
    const head = await call(url, { method: 'HEAD' }).answer;
    const { date: _, ...headers } = get.headers;
    expect(head.status).toBe(200);
    expect(head.headers).toMatchObject(headers);
    expect(head.body).toHaveLength(0);
    expect(headers).toMatchObject({
      'content-type': 'application/json; charset=utf-8',
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
    });
    await allClosed();
    expect(kept.gateway.log).toEqual([]);
  });

  test('an image that was deleted by hand is missing, and said to be', async () => {
    const { output_paths } = await jobOf(id, '?images=none');
    await rm(join(dir, 'output', output_paths[0]));
    const job = await jobOf(id);
    expect(job.images).toEqual([JSON.parse(said).images[1]]);
    expect(job.missing_images).toEqual([0]);
    await rm(join(dir, 'output', output_paths[1]));
    expect(await jobOf(id)).toMatchObject({ images: [], missing_images: [0, 1], info: expect.any(String) });
  });

  test('waiting jobs say their place, running ones have no image yet', async () => {
    backend.state.hold();
    const calls = ['one', 'two', 'three'].map((prompt) =>
      post(`${kept.gateway.url}/sdapi/v1/txt2img`, { prompt, ...size }),
    );
    const ids = (await Promise.all(calls.map(({ head }) => head))).map(
      ({ headers }) => headers['x-job-id'] as string,
    );
    const jobs = await Promise.all(ids.map((each) => jobOf(each)));
    const byPosition = jobs.map(({ status, images, queue_position }) => [status, images, queue_position]);
    expect(byPosition.sort()).toEqual([
      ['Pending', [], 1],
      ['Pending', [], 2],
      ['Processing', [], undefined],
    ]);
    backend.state.release();
    await Promise.all(calls.map(({ answer }) => answer));
    for (const each of ids) expect(await jobOf(each)).toMatchObject({ status: 'Completed' });
  });

  test('a failure has its error, and no image', async () => {
    const answer = await post(`${kept.gateway.url}/sdapi/v1/txt2img`, { prompt: '[refuse]' }).answer;
    const job = await jobOf(answer.headers['x-job-id'] as string);
    expect(job).toMatchObject({ status: 'Failed', images: [], error: { code: 'backend', status: 500 } });
    expect(job).not.toHaveProperty('info');
  });
});

describe('a sidecar', () => {
  const answer = Buffer.from('{"images":[""],"parameters":{"cfg_scale":7.0},"info":"{\\"seed\\": 1}"}');
  const info = answer.indexOf('"{');
  const parameters = answer.indexOf('{', 1);
  const header = {
    id: 'Job00001',
    status: 200,
    exact: true,
    images: [{ path: '2026-11-22/Job00001-0.png', at: 12 }],
    members: { parameters: [parameters, info - 8], info: [info, answer.length - 1] } as const,
    text_bytes: answer.length,
  };
  async function* text() {
    yield answer;
  }
  let file: string;
  let job: Job;

  beforeEach(async () => {
    kept = await startWithKeptJobs(dir);
    const image = await kept.keepFile('2026-11-22/Job00001-0', 'png', png);
    const { path: sidecar } = await writeSidecar(kept.images, '2026-11-22/Job00001', header, text());
    file = join(dir, 'output', sidecar);
    job = await kept.keepJob(1, { output_paths: [image], sidecar });
  });

  test('is one JSON file, whose place is not told', async () => {
    expect(JSON.parse(await readFile(file, 'utf8'))).toMatchObject({ ...header, answer: { images: [''] } });
    const bytes = await bytesOf(job.id);
    expect(bytes.endsWith(',"info":"{\\"seed\\": 1}","parameters":{"cfg_scale":7.0}}')).toBe(true);
    expect(bytes).not.toContain('2026-11-22/Job00001.json');
  });

  const line = (differences: object) =>
    `${JSON.stringify({ ...header, ...differences }).slice(0, -1)},\n"answer":`;
  const whole = `${answer}}\n`;
  const garbled: [string, string][] = [
    ['is empty', ''],
    ['is no JSON', 'hello'],
    ['is zeros', '\0'.repeat(500)],
    ['is an array', `[1,\n"answer":${whole}`],
    ['has no header', `{"a":1,\n"answer":${whole}`],
    ['has a header that is no JSON', `${line({}).replace(':', '=')}${whole}`],
    ['has no members', line({ members: undefined }) + whole],
    ['has members that are null', line({ members: null }) + whole],
    ['has no images', line({ images: undefined }) + whole],
    ['has images of another kind', line({ images: [null] }) + whole],
    ['has an image beyond its end', line({ images: [{ path: 'x', at: answer.length + 1 }] }) + whole],
    ['has a place that is a number', line({ members: { info: 5 } }) + whole],
    ['has a place of one number', line({ members: { info: [5] } }) + whole],
    ['has a place of texts', line({ members: { info: [String(info), String(info + 5)] } }) + whole],
    ['has a negative place', line({ members: { info: [-1, info] } }) + whole],
    ['has an empty place', line({ members: { info: [info, info] } }) + whole],
    ['has a place backwards', line({ members: { info: [info + 5, info] } }) + whole],
    ['has a place beyond its end', line({ members: { info: [info, answer.length + 1] } }) + whole],
    ['has a place beyond all', line({ members: { info: [0, 1e15] } }) + whole],
    ['has a fractional place', line({ members: { info: [info, info + 5.5] } }) + whole],
    ['was cut', line({}) + whole.slice(0, -20)],
    ['was edited', line({}) + whole.replace('7.0', '7.00')],
    ['has a longer text than it says', line({}) + whole + whole],
    ['says a wrong length', line({ text_bytes: answer.length - 1 }) + whole],
  ];

  test.each(garbled)('that %s is left aside; the images do not depend on it', async (_what, content) => {
    await writeFile(file, content);
    const given = await jobOf(job.id);
    expect(given.images).toEqual([png.toString('base64')]);
    expect(given).not.toHaveProperty('info');
    expect(given).not.toHaveProperty('parameters');
    await allClosed();
  });

  test('whose text was overwritten in place spoils nothing either', async () => {
    await writeFile(file, `${line({})}${'x'.repeat(answer.length)}}\n`);
    const given = await jobOf(job.id);
    expect(given.images).toEqual([png.toString('base64')]);
    expect(given).not.toHaveProperty('info');
    // One member that is spoilt does not take the other with it.
    await writeFile(file, line({}) + whole.replace('7.0', '7,0'));
    expect(await jobOf(job.id)).toMatchObject({ info: '{"seed": 1}' });
  });

  test('with numbers that only Python can write is given as JSON', async () => {
    const told = '{"info":{"loss":[NaN,-Infinity,1.0],"of":"NaN \\"Infinity\\""},"parameters":{}}';
    const { path: sidecar } = await writeSidecar(
      kept.images,
      '2026-11-22/Job00003',
      {
        ...{ id: 'Job00003', status: 200, exact: false, images: [] },
        members: { info: [8, told.indexOf(',"parameters"')] },
        text_bytes: told.length,
      },
      (async function* () {
        yield Buffer.from(told);
      })(),
    );
    const { id } = await kept.keepJob(3, { sidecar });
    expect(await jobOf(id)).toMatchObject({ info: { loss: [null, null, 1], of: 'NaN "Infinity"' } });
  });

  test('that was deleted', async () => {
    await rm(file);
    expect((await jobOf(job.id)).images).toEqual([png.toString('base64')]);
  });

  test('that became a folder', async () => {
    await rm(file);
    await mkdir(file);
    expect((await jobOf(job.id)).images).toEqual([png.toString('base64')]);
  });

  test.each([
    ['climbs out', '../jobs.json'],
    ['is absolute', '/etc/passwd'],
    ['is the folder above', '..'],
    ['is nothing', ''],
    ['has a NUL in it', 'a\0b'],
    ['is long', 'x'.repeat(5000)],
  ])('a record whose sidecar %s: it leads nowhere', async (_what, sidecar) => {
    const { id } = await kept.keepJob(2, { sidecar, output_paths: job.output_paths });
    const given = await jobOf(id);
    expect(given.images).toEqual([png.toString('base64')]);
    expect(given).not.toHaveProperty('info');
  });

  test('with a header of many images, and a member of more than a megabyte', async () => {
    const images = Array.from({ length: 8_000 }, (_, n) => ({ path: `2026-11-22/Job00002-${n}.png`, at: 0 }));
    const parameters = `{"image":"${'A'.repeat(2_000_000)}","cfg_scale":7.0}`;
    const long = Buffer.from(`{"parameters":${parameters}}`);
    const { path: sidecar } = await writeSidecar(
      kept.images,
      '2026-11-22/Job00002',
      { ...header, images, members: { parameters: [14, long.length - 1] }, text_bytes: long.length },
      (async function* () {
        yield long;
      })(),
    );
    const { id } = await kept.keepJob(2, { sidecar });
    expect((await bytesOf(id)).endsWith(`,"parameters":${parameters}}`)).toBe(true);
  });
});

describe('a record that somebody has edited', () => {
  test('cannot put members into the answer that are not its own', async () => {
    const record = {
      ...{ id: 'Edited01', prompt: 'x', ip: '', timestamp: 1_790_000_000, status: 'Completed' },
      ...{ output_paths: [], images: ['WRONG'], info: 'WRONG', image_urls: ['WRONG'], queue_position: 7 },
      ...{ missing_images: [3], sidecar: 'secret.json', toString: 'WRONG' },
    };
    await writeFile(join(dir, 'jobs.json'), JSON.stringify([record]));
    kept = await startWithKeptJobs(dir);
    const bytes = await bytesOf('Edited01');
    expect(bytes).not.toMatch(/WRONG|secret|queue_position|missing_images/);
    expect(Object.keys(JSON.parse(bytes)).slice(0, 5)).toEqual([
      'id',
      'prompt',
      'status',
      'timestamp',
      'images',
    ]);
  });
});

describe('a large job', () => {
  const leave = {
    FIN: (made: ReturnType<typeof call>) => made.request.destroy(),
    RST: (made: ReturnType<typeof call>) => made.request.socket?.resetAndDestroy(),
  };

  test.each(['FIN', 'RST'] as const)(
    'the client leaves in the middle by %s: every file is closed',
    async (how) => {
      const large = bigPng(24 * 1024 * 1024);
      kept = await startWithKeptJobs(dir);
      const paths = [
        await kept.keepFile('2026-11-22/Job00001-0', 'png', large),
        await kept.keepFile('2026-11-22/Job00001-1', 'gif', gif),
      ];
      const { id } = await kept.keepJob(1, { output_paths: paths });
      const url = `${kept.gateway.url}/sdapi/v1/job/${id}`;
      for (const path of ['', '/images/0']) {
        const left = call(url + path, { unread: true });
        expect((await left.head).status).toBe(200);
        expect(kept.files.opened).toBeGreaterThan(kept.files.closed);
        leave[how](left);
        await allClosed();
      }
      // Nothing else has come to harm.
      const job = await jobOf(id);
      expect(job.images).toEqual([large.toString('base64'), gif.toString('base64')]);
      expect(kept.gateway.log).toEqual([]);
    },
  );

  test('the client has left before the answer begins', async () => {
    let arrive = () => {};
    const arrived = new Promise<void>((resolve) => {
      arrive = resolve;
    });
    let letGo = () => {};
    const gone = new Promise<void>((resolve) => {
      letGo = resolve;
    });
    kept = await startWithKeptJobs(dir, {
      front: (app) => {
        app.use('/slow', async (_req, res, next) => {
          res.once('close', letGo);
          arrive();
          await gone;
          next();
        });
      },
      mount: '/slow',
    });
    const path = await kept.keepFile('2026-11-22/Job00001-0', 'png', png);
    const { id } = await kept.keepJob(1, { output_paths: [path] });
    const left = call(`${kept.gateway.url}/slow/sdapi/v1/job/${id}`);
    await arrived;
    left.request.destroy();
    await until(() => kept.files.opened > 0);
    await allClosed();
    expect(kept.gateway.log).toEqual([]);
  });

  test('an image that shrinks while it is given: the client sees a broken answer, never a short one', async () => {
    const large = bigPng(24 * 1024 * 1024);
    kept = await startWithKeptJobs(dir);
    const path = await kept.keepFile('2026-11-22/Job00001-0', 'png', large);
    const { id } = await kept.keepJob(1, { output_paths: [path] });
    for (const [what, lost] of [
      ['', 'GET /sdapi/v1/job/Job00001 broke off'],
      ['/images/0', 'GET /sdapi/v1/job/Job00001/images/0 broke off'],
    ]) {
      await writeFile(join(dir, 'output', path), large);
      const made = call(`${kept.gateway.url}/sdapi/v1/job/${id}${what}`, { unread: true });
      const incoming = await made.incoming;
      await truncate(join(dir, 'output', path), 1000);
      incoming.resume();
      await expect(made.answer).rejects.toThrow(/aborted|ECONNRESET|closed/);
      await allClosed();
      expect(kept.gateway.log.splice(0)).toEqual([expect.stringContaining(lost as string)]);
    }
  });
});

test('an image store that fails is a 500 that tells nothing of it, and a line in the log', async () => {
  const images: ImageStore = {
    open: async () => {},
    create: () => Promise.reject(new Error('EIO')),
    read: () => Promise.reject(new Error('EIO: /secret/place')),
    remove: () => Promise.reject(new Error('EIO')),
  };
  kept = await startWithKeptJobs(dir, { images });
  const { id } = await kept.keepJob(1, { output_paths: ['a.png'] });
  for (const path of [`/sdapi/v1/job/${id}`, `/sdapi/v1/job/${id}/images/0`]) {
    const answer = await request(kept.gateway.url).get(path).expect(500);
    expect(answer.body).toEqual({ error: 'The job tracker could not do this; its log says why' });
    expect(kept.gateway.log.splice(0)).toEqual([`GET ${path} failed Error: EIO: /secret/place`]);
  }
});
