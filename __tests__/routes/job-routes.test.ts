import { mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises';
import http from 'node:http';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { Express } from 'express';
import request from 'supertest';
import { createDemoA1111, type DemoA1111 } from '../../examples/demo-backend.js';
import type { Job } from '../../lib/index.js';
import { post } from '../helpers/client.js';
import { type KeptJobs, startWithKeptJobs } from '../helpers/kept-jobs.js';
import { sampleImages } from '../helpers/sample-images.js';
import { tempFolders } from '../helpers/temp-folder.js';

const newFolder = tempFolders();
const png = sampleImages.png as Buffer;
const EXPOSED = 'X-Job-ID, Location, Link, Retry-After, X-Total-Count';

let dir: string;
let kept: KeptJobs;
let backend: DemoA1111 | undefined;

beforeEach(async () => {
  dir = await newFolder();
});

afterEach(async () => {
  backend?.state.release();
  await kept.gateway.close();
  await backend?.close();
  backend = undefined;
});

const agent = () => request(kept.gateway.url);
const idsOf = (jobs: readonly Job[]) => jobs.map(({ id }) => id);

async function list(query: string): Promise<string[]> {
  const answer = await agent().get(`/sdapi/v1/jobs${query}`).expect(200);
  return idsOf(answer.body);
}

/** A request whose path is sent as it is here; clients with manners tidy it up first. */
function rawGet(path: string): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const made = http.get(
      { host: '127.0.0.1', port: kept.gateway.port, path, agent: false },
      async (answer) => {
        let body = '';
        for await (const chunk of answer.setEncoding('utf8')) body += chunk;
        resolve({ status: answer.statusCode ?? 0, body });
      },
    );
    made.once('error', reject);
  });
}

describe('ids of every shape', () => {
  beforeEach(async () => {
    kept = await startWithKeptJobs(dir);
    await kept.keepJob(1);
  });

  const unknown = [
    'Ab12Cd34',
    'Job00002',
    'job00001',
    'Job00001x',
    'Job00001%20',
    'Job00001%00',
    'Job00001%0a',
    '%4aob0000%31x',
    '__proto__',
    'constructor',
    'hasOwnProperty',
    'toString',
    'null',
    'undefined',
    '0',
    '-1',
    '*',
    '%2a',
    '..%2f..%2f..%2fetc%2fpasswd',
    '..%5c..%5cjobs.json',
    'jobs.json',
    '%2e%2e',
    '%252e%252e%252f',
    '%F0%9F%96%BC',
    'J%C3%B6b00001',
    '%EF%BC%AAob00001',
    ':id',
    '$where',
    '%7B%22$gt%22:%22%22%7D',
    'A'.repeat(10_000),
    '%2e%2e%2f'.repeat(1_100),
    // No text at all:
    '%zz',
    '%',
    '%c3%28',
    '%ff%fe',
  ];

  test.each(unknown.map((id) => [id.slice(0, 40), id]))('%s is not found', async (_name, id) => {
    for (const path of [`/sdapi/v1/job/${id}`, `/sdapi/v1/job/${id}/images/0`]) {
      const answer = await rawGet(path);
      expect(answer.status).toBe(404);
      expect(JSON.parse(answer.body)).toEqual({ error: 'Job not found' });
    }
    const answer = await agent().delete(`/sdapi/v1/job/${id.startsWith('%2e') ? 'x' : id}`);
    expect([answer.status, answer.body]).toEqual([404, { error: 'Job not found' }]);
    expect(kept.gateway.log).toEqual([]);
  });

  test.each([
    '',
    'a/'.repeat(20),
    '../../jobs.json',
    '/',
    '//Job00001',
    'Job00001/images',
    'Job00001/x',
    '?id=Job00001',
  ])('%s leads to no route of ours', async (rest) => {
    expect((await rawGet(`/sdapi/v1/job/${rest}`)).status).toBe(404);
  });

  test('ten thousand bytes of ../ lead to none either', async () => {
    expect((await rawGet(`/sdapi/v1/job/${'../'.repeat(3_334)}`)).status).toBe(404);
  });

  test('what cannot be an id never gets as far as a store', async () => {
    const { jobs } = kept.gateway.tracker;
    const { get } = jobs;
    const asked: string[] = [];
    Object.assign(jobs, {
      get: (id: string) => {
        asked.push(id);
        return get(id);
      },
    });
    for (const id of unknown) await rawGet(`/sdapi/v1/job/${id}`);
    expect(asked.filter((id) => !/^[A-Za-z0-9]{8,10}$/.test(id))).toEqual([]);
    expect(asked).toContain('Ab12Cd34');
  });

  test('an id of the extension’s, 10 characters long, is one', async () => {
    await kept.keepJob(2, { id: 'Ab12Cd34Ef' });
    expect((await rawGet('/sdapi/v1/job/Ab12Cd34Ef')).status).toBe(200);
    expect((await rawGet('/sdapi/v1/job/%41b12Cd34Ef')).status).toBe(200);
  });
});

describe('the list', () => {
  beforeEach(async () => {
    kept = await startWithKeptJobs(dir);
    await kept.keepJob(1, { status: 'Completed', ip: '192.0.2.1' });
    await kept.keepJob(2, { status: 'Failed', ip: '192.0.2.2', error: { code: 'empty', message: 'none' } });
    await kept.keepJob(3, { status: 'Pending', ip: '192.0.2.1', backend: 'comfyui', path: '/prompt' });
    await kept.keepJob(4, {
      status: 'Processing',
      ip: '::1',
      prompt_id: '00000000-0000-4000-8000-000000000004',
    });
  });

  const time = 1_790_000_000;

  const filters: [query: string, numbers: number[]][] = [
    ['', [4, 3, 2, 1]],
    ['?ip=192.0.2.1', [3, 1]],
    ['?ip=%3A%3A1', [4]],
    ['?ip=nobody', []],
    ['?status=Completed', [1]],
    ['?status=completed', [1]],
    ['?status=FAILED', [2]],
    ['?status=pEnDiNg', [3]],
    ['?status=processing', [4]],
    ['?backend=comfyui', [3]],
    ['?backend=A1111', [4, 2, 1]],
    [`?after=${time}`, [4, 3, 2, 1]],
    [`?after=${time + 2}`, [4, 3]],
    [`?after=${time + 4}`, []],
    ['?after=0', [4, 3, 2, 1]],
    [`?until=${time + 2}`, [2, 1]],
    [`?after=${time + 1}&until=${time + 3}`, [3, 2]],
    ['?q=LIGHTHOUSE,+variation+3', [3]],
    ['?q=house%2C', [4, 3, 2, 1]],
    ['?q=.', []],
    ['?prompt_id=00000000-0000-4000-8000-000000000004', [4]],
    ['?prompt_id=2', []],
    ['?q=&prompt_id=&until=', [4, 3, 2, 1]],
    ['?limit=2', [4, 3]],
    ['?limit=1000', [4, 3, 2, 1]],
    ['?limit=', [4, 3, 2, 1]],
    ['?before=Job00003', [2, 1]],
    ['?before=Job00001', []],
    ['?before=Unknown1', []],
    [`?ip=192.0.2.1&after=${time + 1}&status=pending&backend=comfyui`, [3]],
    ['?ip=192.0.2.1&before=Job00003&limit=1', [1]],
    ['?something=else&_=1', [4, 3, 2, 1]],
    ['?ip=&status=&backend=&after=&before=', [4, 3, 2, 1]],
  ];

  test.each(filters)('%s', async (query, numbers) => {
    expect(await list(query)).toEqual(numbers.map((number) => `Job0000${number}`));
  });

  test('an item has the extension’s six fields first', async () => {
    const { body } = await agent().get('/sdapi/v1/jobs?status=failed');
    expect(Object.entries(body[0])).toEqual([
      ['id', 'Job00002'],
      ['prompt', 'a lighthouse, variation 2'],
      ['ip', '192.0.2.2'],
      ['timestamp', time + 2],
      ['status', 'Failed'],
      ['output_paths', []],
      ['backend', 'a1111'],
      ['path', '/sdapi/v1/txt2img'],
      ['error', { code: 'empty', message: 'none' }],
      ['image_urls', []],
    ]);
  });

  test('X-Total-Count counts what matches, whatever is shown', async () => {
    for (const [query, total] of [
      ['', '4'],
      ['?limit=1', '4'],
      ['?ip=192.0.2.1&limit=1', '2'],
      ['?before=Job00002', '4'],
      ['?status=failed&before=Job00001', '1'],
      ['?ip=nobody', '0'],
    ]) {
      const answer = await agent().get(`/sdapi/v1/jobs${query}`).expect(200);
      expect([query, answer.headers['x-total-count']]).toEqual([query, total]);
      expect(answer.headers['cache-control']).toBe('no-store');
    }
  });

  test('HEAD has the head', async () => {
    const answer = await agent().head('/sdapi/v1/jobs?limit=1').expect(200);
    expect(answer.headers['x-total-count']).toBe('4');
    expect(answer.headers.link).toBe('</sdapi/v1/jobs?limit=1&before=Job00004>; rel="next"');
  });

  const limit = '`limit` to be a whole number from 1 to 1000';
  const refused: [query: string, expected: string, got: string][] = [
    ['limit=0', limit, '"0"'],
    ['limit=-1', limit, '"-1"'],
    ['limit=1.5', limit, '"1.5"'],
    ['limit=abc', limit, '"abc"'],
    ['limit=1001', limit, '"1001"'],
    ['limit=1e2', limit, '"1e2"'],
    ['limit=0x10', limit, '"0x10"'],
    ['limit=%2B5', limit, '"+5"'],
    ['limit=+5', limit, '" 5"'],
    ['limit=5%0a', limit, '"5\\n"'],
    ['limit=%D9%A3', limit, '"٣"'],
    ['limit=99999999999999999999', limit, '"99999999999999999999"'],
    ['limit=Infinity', limit, '"Infinity"'],
    ['limit=1&limit=2', '`limit` to be given once', '["1","2"]'],
    ['after=abc', '`after` to be a whole number from 0', '"abc"'],
    ['after=-1', '`after` to be a whole number from 0', '"-1"'],
    ['until=abc', '`until` to be a whole number from 0', '"abc"'],
    ['q=a&q=b', '`q` to be given once', '["a","b"]'],
    ['prompt_id=a&prompt_id=b', '`prompt_id` to be given once', '["a","b"]'],
    ['after=1.5', '`after` to be a whole number from 0', '"1.5"'],
    ['after=1&after=1', '`after` to be given once', '["1","1"]'],
    ['status=Done', '`status` to be one of Pending, Processing, Completed, Failed', '"Done"'],
    ['status=toString', '`status` to be one of Pending, Processing, Completed, Failed', '"toString"'],
    ['status=failed&status=failed', '`status` to be given once', '["failed","failed"]'],
    ['backend=forge', '`backend` to be one of a1111, comfyui', '"forge"'],
    ['before=x', '`before` to be the id of a job', '"x"'],
    ['before=../../etc', '`before` to be the id of a job', '"../../etc"'],
    ['ip=1&ip=2', '`ip` to be given once', '["1","2"]'],
  ];

  test.each(refused)('%s is refused', async (query, expected, got) => {
    const answer = await agent().get(`/sdapi/v1/jobs?${query}`).expect(400);
    expect(answer.body).toEqual({ error: `Expected ${expected}, got ${got}` });
  });

  test('a host with another parser for queries', async () => {
    await kept.gateway.close();
    const front = (app: Express) => app.set('query parser', 'extended');
    kept = await startWithKeptJobs(dir, { front });
    expect(await list('?limit=1')).toEqual(['Job00004']);
    for (const query of ['limit[]=1', 'limit[a]=1', 'status[__proto__]=x', 'ip[]=a']) {
      const answer = await agent().get(`/sdapi/v1/jobs?${query}`).expect(400);
      expect(answer.body.error).toMatch(/^Expected `\w+` to be given once, got [[{]/);
    }
  });
});

describe('page by page', () => {
  beforeEach(async () => {
    kept = await startWithKeptJobs(dir);
    for (let number = 1; number <= 23; number += 1) {
      await kept.keepJob(number, { ip: number % 2 ? '192.0.2.1' : '192.0.2.2', timestamp: 1_790_000_000 });
    }
  });

  async function walk(path: string): Promise<{ ids: string[]; pages: number }> {
    const ids: string[] = [];
    let pages = 0;
    for (let next: string | undefined = path; next; ) {
      const answer: request.Response = await agent().get(next).expect(200);
      ids.push(...idsOf(answer.body));
      pages += 1;
      const { link } = answer.headers;
      if (link !== undefined) expect(link).toMatch(/^<[^>]+>; rel="next"$/);
      next = /<([^>]+)>/.exec(link ?? '')?.[1];
    }
    return { ids, pages };
  }

  const all = Array.from({ length: 23 }, (_, n) => `Job${String(23 - n).padStart(5, '0')}`);

  test.each([
    [1, 23],
    [7, 4],
    [22, 2],
    [23, 1],
    [24, 1],
  ])('%d at a time', async (limit, pages) => {
    expect(await walk(`/sdapi/v1/jobs?limit=${limit}`)).toEqual({ ids: all, pages });
  });

  test('the filters go along', async () => {
    const { ids, pages } = await walk(
      '/sdapi/v1/jobs?limit=5&ip=192.0.2.2&status=completed&after=5&x=a%26b%3E',
    );
    expect(ids).toEqual(all.filter((id) => Number(id.slice(3)) % 2 === 0));
    expect(pages).toBe(3);
  });

  test('fifty by default', async () => {
    for (let number = 24; number <= 51; number += 1) await kept.keepJob(number);
    const answer = await agent().get('/sdapi/v1/jobs');
    expect(answer.body).toHaveLength(50);
    expect(answer.headers.link).toBe('</sdapi/v1/jobs?before=Job00002>; rel="next"');
  });
});

describe('below the path of a mount', () => {
  test('all URLs start with it', async () => {
    backend = createDemoA1111({ generationMs: 0 });
    kept = await startWithKeptJobs(dir, { mount: '/sd', a1111: await backend.listen() });
    const body = { prompt: 'x', width: 64, height: 64, steps: 1 };
    const answers = [];
    for (let n = 0; n < 2; n += 1)
      answers.push(await post(`${kept.gateway.url}/sd/sdapi/v1/txt2img`, body).answer);
    const id = answers[1]?.headers['x-job-id'] as string;
    const { body: job } = await agent().get(`/sd/sdapi/v1/job/${id}?images=url`).expect(200);
    expect(job.images).toEqual([`/sd/sdapi/v1/job/${id}/images/0`]);
    expect(job.image_urls).toEqual(job.images);
    expect(job.path).toBe('/sdapi/v1/txt2img');
    const image = await agent().get(job.images[0]).expect(200);
    expect(image.body).toEqual(backend.state.generations[1]?.images[0]);
    const page = await agent().get('/sd/sdapi/v1/jobs?limit=1').expect(200);
    expect(page.body[0].image_urls).toEqual(job.images);
    expect(page.headers.link).toBe(`</sd/sdapi/v1/jobs?limit=1&before=${id}>; rel="next"`);
    await agent().get('/sdapi/v1/jobs').expect(404);
    await agent().delete(`/sd/sdapi/v1/job/${id}`).expect(204);
  });
});

describe('DELETE', () => {
  test('forgets the job with its files; the second time it is not there', async () => {
    backend = createDemoA1111({ generationMs: 0 });
    kept = await startWithKeptJobs(dir, { a1111: await backend.listen() });
    const removed: string[] = [];
    kept.gateway.tracker.events.on('removed', ({ id }) => removed.push(id));
    const generate = async () => {
      const body = { prompt: 'x', batch_size: 2, width: 64, height: 64, steps: 1 };
      const answer = await post(`${kept.gateway.url}/sdapi/v1/txt2img`, body).answer;
      return answer.headers['x-job-id'] as string;
    };
    const other = await generate();
    const id = await generate();
    const filesOf = async (one: string) => {
      const names = await readdir(join(dir, 'output'), { recursive: true });
      return names.filter((name) => name.includes(one));
    };
    expect(await filesOf(id)).toHaveLength(3);
    const answer = await agent().delete(`/sdapi/v1/job/${id}`).expect(204);
    expect(answer.text).toBe('');
    expect(await filesOf(id)).toEqual([]);
    expect(await filesOf(other)).toHaveLength(3);
    expect(removed).toEqual([id]);
    await agent().get(`/sdapi/v1/job/${id}`).expect(404, { error: 'Job not found' });
    await agent().get(`/sdapi/v1/job/${id}/images/0`).expect(404, { error: 'Job not found' });
    await agent().delete(`/sdapi/v1/job/${id}`).expect(404, { error: 'Job not found' });
    expect(await list('')).toEqual([other]);
    // Also for whoever comes after us.
    await kept.gateway.close();
    kept = await startWithKeptJobs(dir);
    expect(await list('')).toEqual([other]);
  });

  test('twice at once: one of them has done it', async () => {
    kept = await startWithKeptJobs(dir);
    const path = await kept.keepFile('2026-11-22/Job00001-0', 'png', png);
    await kept.keepJob(1, { output_paths: [path] });
    const answers = await Promise.all(
      Array.from({ length: 5 }, () => agent().delete('/sdapi/v1/job/Job00001')),
    );
    expect(answers.map(({ status }) => status).sort()).toEqual([204, 404, 404, 404, 404]);
  });

  test('files that are gone already are no obstacle', async () => {
    kept = await startWithKeptJobs(dir);
    await kept.keepJob(1, { output_paths: ['2026-11-22/gone.png'], sidecar: '2026-11-22/gone.json' });
    await agent().delete('/sdapi/v1/job/Job00001').expect(204);
  });

  test('a file that cannot be removed: the job stays, to be removed again', async () => {
    kept = await startWithKeptJobs(dir);
    const path = await kept.keepFile('2026-11-22/Job00001-0', 'png', png);
    await kept.keepJob(1, { output_paths: [path] });
    const { remove } = kept.images;
    kept.images.remove = () => Promise.reject(new Error('EBUSY'));
    await agent().delete('/sdapi/v1/job/Job00001').expect(500);
    expect(kept.gateway.log).toEqual(['DELETE /sdapi/v1/job/Job00001 failed Error: EBUSY']);
    kept.images.remove = remove;
    await agent().get('/sdapi/v1/job/Job00001').expect(200);
    await agent().delete('/sdapi/v1/job/Job00001').expect(204);
  });

  test('a job that waits or runs is 409, and goes on', async () => {
    backend = createDemoA1111({ generationMs: 0 });
    backend.state.hold();
    kept = await startWithKeptJobs(dir, { a1111: await backend.listen() });
    const calls = ['one', 'two'].map((prompt) =>
      post(`${kept.gateway.url}/sdapi/v1/txt2img`, { prompt, width: 64, height: 64, steps: 2 }),
    );
    const ids = await Promise.all(calls.map(async ({ head }) => (await head).headers['x-job-id'] as string));
    const errors: string[] = [];
    for (const id of ids) {
      const answer = await agent().delete(`/sdapi/v1/job/${id}`).expect(409);
      errors.push(answer.body.error);
    }
    expect(errors.sort()).toEqual([
      'Expected a job that has ended, got one that is Pending',
      'Expected a job that has ended, got one that is Processing',
    ]);
    backend.state.release();
    for (const { answer } of calls) expect((await answer).status).toBe(200);
    for (const id of ids) await agent().delete(`/sdapi/v1/job/${id}`).expect(204);
  });

  test('whatever a record says, no file outside of the output folder goes', async () => {
    kept = await startWithKeptJobs(dir);
    const outside = join(dir, 'outside.png');
    await writeFile(outside, png);
    await writeFile(join(dir, 'outside.json'), '{}');
    await mkdir(join(dir, 'elsewhere'));
    await writeFile(join(dir, 'elsewhere', 'a.png'), png);
    await symlink(join(dir, 'elsewhere'), join(dir, 'output', 'link'));
    const output_paths = [
      outside,
      '../outside.png',
      'x/../../outside.png',
      'link/a.png',
      '../jobs.json',
      '',
      '.',
      '..',
    ];
    await kept.keepJob(1, { output_paths, sidecar: '../outside.json' });
    await agent().delete('/sdapi/v1/job/Job00001').expect(204);
    for (const file of ['outside.png', 'elsewhere/a.png'])
      expect(await readFile(join(dir, file))).toEqual(png);
    expect(await readFile(join(dir, 'outside.json'), 'utf8')).toBe('{}');
    expect((await readdir(dir)).sort()).toEqual(expect.arrayContaining(['jobs.json', 'output']));
  });
});

describe('a change from another site', () => {
  let own: string;

  beforeEach(async () => {
    kept = await startWithKeptJobs(dir);
    own = kept.gateway.url;
    await kept.keepJob(1);
  });

  const refused: [string, Record<string, string>][] = [
    ['the Origin of another host', { Origin: 'http://evil.example' }],
    ['the Origin of another port', { Origin: 'http://127.0.0.1:1' }],
    ['the Origin of another name of this host', { Origin: 'http://localhost' }],
    ['Origin: null', { Origin: 'null' }],
    ['an Origin that is none', { Origin: 'rubbish' }],
    ['an empty Origin', { Origin: '' }],
    ['Sec-Fetch-Site: cross-site', { 'Sec-Fetch-Site': 'cross-site' }],
    ['Sec-Fetch-Site: same-site', { 'Sec-Fetch-Site': 'same-site' }],
    ['a Sec-Fetch-Site that nobody knows yet', { 'Sec-Fetch-Site': 'else' }],
    ['both', { 'Sec-Fetch-Site': 'cross-site', Origin: 'http://evil.example' }],
    ['Origin: null from a sandbox of this site', { 'Sec-Fetch-Site': 'cross-site', Origin: 'null' }],
  ];

  test.each(refused)('%s is refused', async (_what, headers) => {
    const answer = await agent().delete('/sdapi/v1/job/Job00001').set(headers).expect(403);
    expect(answer.body).toEqual({
      error: 'Expected a change to come from this site, got one from another site',
    });
    expect(await list('')).toEqual(['Job00001']);
  });

  test('the own origin with Sec-Fetch-Site: cross-site is refused', async () => {
    const headers = { Origin: own, 'Sec-Fetch-Site': 'cross-site' };
    await agent().delete('/sdapi/v1/job/Job00001').set(headers).expect(403);
  });

  const allowed: [string, () => Record<string, string>][] = [
    ['neither header', () => ({})],
    ['the own origin', () => ({ Origin: own })],
    ['the own origin, over TLS in front', () => ({ Origin: own.replace('http:', 'https:') })],
    ['Sec-Fetch-Site: same-origin', () => ({ 'Sec-Fetch-Site': 'same-origin' })],
    ['Sec-Fetch-Site: none', () => ({ 'Sec-Fetch-Site': 'none' })],
    ['both', () => ({ 'Sec-Fetch-Site': 'same-origin', Origin: own })],
    [
      'Sec-Fetch-Site: same-origin behind a proxy that changes Host',
      () => ({ 'Sec-Fetch-Site': 'same-origin', Origin: 'https://pictures.example' }),
    ],
  ];

  test.each(allowed)('%s is allowed', async (_what, headers) => {
    await agent().delete('/sdapi/v1/job/Job00001').set(headers()).expect(204);
  });

  test('reading is allowed to all', async () => {
    for (const [, headers] of refused) await agent().get('/sdapi/v1/job/Job00001').set(headers).expect(200);
  });

  test('an origin that the host itself lets in is allowed, others are not', async () => {
    await kept.gateway.close();
    kept = await startWithKeptJobs(dir, {
      front: (app) => {
        app.use((_req, res, next) => {
          res.setHeader('Access-Control-Allow-Origin', 'https://ui.example');
          next();
        });
      },
    });
    const path = '/sdapi/v1/job/Job00001';
    await agent().delete(path).set({ Origin: 'https://evil.example' }).expect(403);
    await agent().delete(path).set({ 'Sec-Fetch-Site': 'cross-site' }).expect(403);
    const headers = { Origin: 'https://ui.example', 'Sec-Fetch-Site': 'cross-site' };
    await agent().delete(path).set(headers).expect(204);
  });

  test('an origin is not let in because all may read', async () => {
    await kept.gateway.close();
    kept = await startWithKeptJobs(dir, {
      front: (app) => {
        app.use((_req, res, next) => {
          res.setHeader('Access-Control-Allow-Origin', '*');
          next();
        });
      },
    });
    await agent().delete('/sdapi/v1/job/Job00001').set({ Origin: 'https://evil.example' }).expect(403);
  });
});

describe('for browsers', () => {
  test('our headers are exposed where there is an Origin, beside the host’s own', async () => {
    kept = await startWithKeptJobs(dir);
    const path = await kept.keepFile('2026-11-22/Job00001-0', 'png', png);
    await kept.keepJob(1, { output_paths: [path] });
    const paths = ['/jobs', '/jobs?limit=x', '/job/Job00001', '/job/Unknown1', '/job/Job00001/images/0'];
    for (const route of paths.map((rest) => `/sdapi/v1${rest}`)) {
      const answer = await agent().get(route).set({ Origin: 'https://ui.example' });
      expect(answer.headers['access-control-expose-headers']).toBe(EXPOSED);
      const plain = await agent().get(route);
      expect(plain.headers).not.toHaveProperty('access-control-expose-headers');
      expect(plain.headers['x-content-type-options']).toBe('nosniff');
    }
    await kept.gateway.close();
    kept = await startWithKeptJobs(dir, {
      front: (app) => {
        app.use((_req, res, next) => {
          res.setHeader('Access-Control-Expose-Headers', 'X-Own');
          next();
        });
      },
    });
    const answer = await agent().get('/sdapi/v1/jobs').set({ Origin: 'https://ui.example' });
    expect(answer.headers['access-control-expose-headers']).toBe(`X-Own, ${EXPOSED}`);
  });
});

describe('what the A1111 extension has left', () => {
  test('is listed, its image served, and not deleted', async () => {
    const a1111 = await newFolder();
    const image = join(a1111, '00000-1234.png');
    const secret = join(a1111, 'secret.txt');
    await writeFile(image, png);
    await writeFile(secret, 'secret');
    const records = [
      {
        id: 'Ext00001',
        prompt: 'newest',
        ip: '192.0.2.5',
        timestamp: 1_760_000_002,
        status: 'Completed',
        output_path: image,
      },
      {
        id: 'Ext0000002',
        prompt: 'two',
        ip: '192.0.2.5',
        timestamp: 1_760_000_001,
        status: 'Completed',
        output_paths: [image, secret],
      },
      {
        id: 'Ext00003',
        prompt: 'none',
        ip: '',
        timestamp: 1_760_000_000,
        status: 'Failed',
        output_path: null,
      },
    ];
    await writeFile(join(dir, 'jobs.json'), JSON.stringify(records, null, 2));
    kept = await startWithKeptJobs(dir);
    const { body } = await agent().get('/sdapi/v1/jobs').expect(200);
    expect(idsOf(body).sort()).toEqual(['Ext0000002', 'Ext00001', 'Ext00003']);
    const listed = body.find(({ id }: Job) => id === 'Ext00001');
    expect(Object.keys(listed).slice(0, 6)).toEqual([
      'id',
      'prompt',
      'ip',
      'timestamp',
      'status',
      'output_paths',
    ]);
    expect(listed).toMatchObject({ prompt: 'newest', timestamp: 1_760_000_002, output_paths: [image] });

    const { body: job } = await agent().get('/sdapi/v1/job/Ext00001').expect(200);
    expect(Object.keys(job).slice(0, 5)).toEqual(['id', 'prompt', 'status', 'timestamp', 'images']);
    expect(job.images).toEqual([png.toString('base64')]);
    const served = await agent().get('/sdapi/v1/job/Ext00001/images/0').expect(200);
    expect(served.body).toEqual(png);
    expect(served.headers['content-type']).toBe('image/png');

    // Only what is an image is ever shown, whatever path the record has.
    const { body: second } = await agent().get('/sdapi/v1/job/Ext0000002').expect(200);
    expect(second).toMatchObject({ images: [png.toString('base64')], missing_images: [1] });
    await agent().get('/sdapi/v1/job/Ext0000002/images/1').expect(404);
    expect((await agent().get('/sdapi/v1/job/Ext00003').expect(200)).body.images).toEqual([]);

    for (const { id } of records) await agent().delete(`/sdapi/v1/job/${id}`).expect(204);
    expect(await list('')).toEqual([]);
    expect(await readFile(image)).toEqual(png);
    expect(await readFile(secret, 'utf8')).toBe('secret');
  });
});

test('the host’s own code: get, list and remove', async () => {
  kept = await startWithKeptJobs(dir);
  for (let number = 1; number <= 51; number += 1) await kept.keepJob(number);
  await kept.keepJob(52, { status: 'Processing' });
  const { jobs } = kept.gateway.tracker;
  expect(await jobs.get('Job00001')).toMatchObject({ id: 'Job00001' });
  expect(await jobs.get('__proto__')).toBeUndefined();
  const page = await jobs.list();
  expect([page.jobs.length, page.total]).toEqual([50, 52]);
  expect((await jobs.list({ limit: undefined } as never)).jobs).toHaveLength(50);
  expect(idsOf((await jobs.list({ status: 'Processing', limit: 3 })).jobs)).toEqual(['Job00052']);
  expect(await jobs.remove('Job00052')).toBe(false);
  expect(await jobs.remove('Job00001')).toBe(true);
  expect(await jobs.remove('Job00001')).toBe(false);
});
