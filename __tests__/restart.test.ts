import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { createDemoA1111, type DemoA1111 } from '../examples/demo-backend.js';
import type { Job } from '../lib/index.js';
import { call, getJson, post } from './helpers/client.js';
import { tempFolders } from './helpers/temp-folder.js';

const newFolder = tempFolders();
const standalone = resolve(import.meta.dirname, '../examples/standalone.ts');

describe('a gateway that is killed with kill -9', () => {
  let backend: DemoA1111;
  let dir: string;
  let env: NodeJS.ProcessEnv;
  const children: ChildProcess[] = [];

  /** Starts the standalone gateway; resolves to its address. */
  async function start(): Promise<string> {
    const child = spawn(process.execPath, ['--import', 'tsx', standalone], {
      env,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    children.push(child);
    for await (const line of createInterface({ input: child.stdout as NodeJS.ReadableStream })) {
      const url = /http:\/\/127\.0\.0\.1:\d+/.exec(line)?.[0];
      if (url) return url;
    }
    throw new Error('The gateway ended before it listened');
  }

  async function kill(): Promise<void> {
    const child = children.at(-1) as ChildProcess;
    const gone = once(child, 'exit');
    child.kill('SIGKILL');
    await gone;
  }

  beforeEach(async () => {
    dir = await newFolder();
    backend = createDemoA1111({ generationMs: 0 });
    env = { PATH: process.env.PATH, PORT: '0', A1111_URL: await backend.listen(), TRACKER_DIR: dir };
  });

  afterEach(async () => {
    backend.state.release();
    for (const child of children.splice(0)) child.kill('SIGKILL');
    await backend.close();
  });

  test('finds every job whose id was seen; what ran is Failed, what was done is as it was', async () => {
    const before = await start();
    const small = { width: 64, height: 64, steps: 2 };
    const done = await post(`${before}/sdapi/v1/txt2img`, { prompt: 'done', ...small }).answer;
    backend.state.hold();
    const running = await post(`${before}/sdapi/v1/txt2img`, { prompt: 'running', ...small }).head;
    const waiting = await post(`${before}/sdapi/v1/txt2img`, { prompt: 'waiting', ...small }).head;
    await kill();
    backend.state.release();
    for (const folder of ['spool', 'requests']) {
      await mkdir(join(dir, folder), { recursive: true });
      await writeFile(join(dir, folder, 'left.spool'), 'left');
    }

    const after = await start();
    const jobs = await getJson<Job[]>(`${after}/sdapi/v1/jobs`);
    expect(jobs.map(({ prompt, status }) => [prompt, status])).toEqual([
      ['waiting', 'Failed'],
      ['running', 'Failed'],
      ['done', 'Completed'],
    ]);
    for (const { headers } of [running, waiting]) {
      const job = await getJson<Job>(`${after}/sdapi/v1/job/${headers['x-job-id']}`);
      expect(job.error?.code).toBe('interrupted');
    }
    const image = await call(`${after}/sdapi/v1/job/${done.headers['x-job-id']}/images/0`).answer;
    expect(image.body).toEqual(backend.state.generations[0]?.images[0]);
    // Nothing is made again, and nothing half made is left.
    expect(backend.state.generations.length).toBe(2);
    expect(await readdir(join(dir, 'output', '.partial'))).toEqual([]);
    const names = await readdir(dir);
    expect(names).toContain('jobs.json');
    expect(names).not.toEqual(expect.arrayContaining(['spool']));
    expect(await readdir(join(dir, 'requests')).catch(() => [])).toEqual([]);
    expect((await post(`${after}/sdapi/v1/txt2img`, { prompt: 'again', ...small }).answer).status).toBe(200);
  }, 60_000);
});
