import { once } from 'node:events';
import { readdir, readFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeAll, beforeEach, describe, expect, jest, test } from '@jest/globals';
import express from 'express';
import { type Job, type JobTracker, jobTracker } from '../lib/index.js';
import { call, getJson, post } from './helpers/client.js';
import {
  type CompiledProgram,
  compileProgram,
  listening,
  type ProgramProcess,
} from './helpers/compiled-program.js';
import { type CollectedLog, collectLog } from './helpers/job-records.js';
import { until } from './helpers/kept-jobs.js';
import {
  answerWith,
  bigPng,
  gate,
  type ScriptedBackend,
  sendAnswer,
  startScriptedBackend,
} from './helpers/scripted-backend.js';
import { tempFolders } from './helpers/temp-folder.js';

const newFolder = tempFolders();
const image = bigPng(4_000_000);
const answer = answerWith([image]);
const inUse = /tracker is in use by another process/;

let program: CompiledProgram;
let dir: string;
let backend: ScriptedBackend;
let held: ReturnType<typeof gate>;
const gateways: ProgramProcess[] = [];

beforeAll(async () => {
  program = await compileProgram(await newFolder());
});

beforeEach(async () => {
  dir = join(await newFolder(), 'tracker');
  held = gate();
  backend = await startScriptedBackend((res) => sendAnswer(res, answer));
});

afterEach(async () => {
  held.open();
  for (const gateway of gateways.splice(0)) await gateway.kill();
  await backend.close();
});

function startGateway(): ProgramProcess {
  const gateway = program.standalone({ PORT: '0', A1111_URL: backend.url, TRACKER_DIR: dir });
  gateways.push(gateway);
  return gateway;
}

/** A generation whose answer has begun, with half of its image on the disk, and goes on when the gate is opened. */
async function beginAnswer(url: string): Promise<ReturnType<typeof post>> {
  const begun = gate();
  backend.script = async (res) => {
    res.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': answer.length });
    res.write(answer.subarray(0, answer.length / 2), begun.open);
    await held.opened;
    res.end(answer.subarray(answer.length / 2));
  };
  const request = post(`${url}/sdapi/v1/txt2img`, { prompt: 'running' });
  await begun.opened;
  await until(async () => (await readdir(join(dir, 'output', '.partial'))).length === 1);
  return request;
}

async function expectKept(url: string, id: string): Promise<void> {
  const job = await getJson<Job>(`${url}/sdapi/v1/job/${id}?images=none`);
  expect(job).toMatchObject({ status: 'Completed' });
  expect((await readFile(join(dir, 'output', job.output_paths[0] as string))).equals(image)).toBe(true);
}

async function generate(url: string): Promise<string> {
  const { status, headers, body } = await post(`${url}/sdapi/v1/txt2img`, { prompt: 'p' }).answer;
  expect(status).toBe(200);
  expect(body.equals(answer)).toBe(true);
  return headers['x-job-id'] as string;
}

describe('a second standalone gateway on one folder', () => {
  test('ends at once with 1 and the reason, and leaves the work of the first alone', async () => {
    const url = await listening(startGateway());
    const done = await generate(url);
    const request = await beginAnswer(url);
    const second = startGateway();
    expect(await second.ended).toBe(1);
    expect(second.said.out).toBe('');
    expect(second.said.err.trim().split('\n')).toEqual([expect.stringMatching(inUse)]);
    held.open();
    const { headers, body } = await request.answer;
    expect(body.subarray(body.indexOf('{')).equals(answer)).toBe(true);
    await expectKept(url, headers['x-job-id'] as string);
    await expectKept(url, done);
  });

  test('takes over at once where the first was killed with kill -9', async () => {
    const first = startGateway();
    const url = await listening(first);
    const done = await generate(url);
    const request = await beginAnswer(url);
    const { headers } = await request.head;
    await first.kill();
    const next = await listening(startGateway());
    const left = await getJson<Job>(`${next}/sdapi/v1/job/${headers['x-job-id']}`);
    expect(left).toMatchObject({ status: 'Failed', error: { code: 'interrupted' } });
    expect(await readdir(join(dir, 'output', '.partial'))).toEqual([]);
    await expectKept(next, done);
    backend.script = (res) => sendAnswer(res, answer);
    await expectKept(next, await generate(next));
  });

  test('ends as well while the first hangs', async () => {
    const first = startGateway();
    await listening(first);
    first.child.kill('SIGSTOP');
    const second = startGateway();
    expect(await second.ended).toBe(1);
    expect(second.said.err).toMatch(inUse);
  });
});

describe('a host with the library, on the folder of a standalone gateway', () => {
  let log: CollectedLog;
  let tracker: JobTracker;
  let server: Server;
  let url: string;

  afterEach(async () => {
    jest.useRealTimers();
    server.closeAllConnections();
    server.close();
    await tracker.close();
  });

  async function startHost(): Promise<void> {
    log = collectLog();
    // Only its waiting for the next attempt takes as long as the test wants.
    jest.useFakeTimers({
      doNotFake: [
        'Date',
        'hrtime',
        'nextTick',
        'performance',
        'queueMicrotask',
        'setImmediate',
        'setInterval',
      ],
    });
    tracker = jobTracker({ dir, a1111: backend.url, logger: log });
    server = createServer(express().use(tracker));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  const ways: Readonly<Record<string, (gateway: ProgramProcess) => Promise<unknown>>> = {
    'killed with kill -9': (gateway) => gateway.kill(),
    stopped: async (gateway) => {
      gateway.child.kill('SIGTERM');
      expect(await gateway.ended).toBe(0);
    },
  };

  test.each(Object.entries(ways))(
    'lets generations pass, says why, and takes over when that is %s',
    async (way, end) => {
      const first = startGateway();
      const done = await generate(await listening(first));
      const request = way === 'stopped' ? undefined : await beginAnswer(await listening(first));
      const { headers } = (await request?.head) ?? {};
      await startHost();
      await expect(tracker.ready).rejects.toMatchObject({
        code: 'FOLDER_LOCKED',
        message: expect.stringMatching(inUse),
      });
      backend.script = (res) => sendAnswer(res, answer);
      for (const _ of [1, 2]) expect(await generate(url)).toBeUndefined();
      for (const path of ['/sdapi/v1/jobs', `/sdapi/v1/job/${done}`, `/sdapi/v1/job/${done}/images/0`]) {
        const { status, body } = await call(url + path).answer;
        expect([status, JSON.parse(body.toString())]).toEqual([503, { error: expect.stringMatching(inUse) }]);
      }
      const report = await call(`${url}/job-tracker/health`).answer;
      expect([report.status, JSON.parse(report.body.toString()).store]).toEqual([
        503,
        { ok: false, error: expect.stringMatching(inUse) },
      ]);
      // It has not touched what the other one was about to write.
      const partial = await readdir(join(dir, 'output', '.partial'));
      expect(partial).toHaveLength(request ? 1 : 0);

      await end(first);
      const again = log.next(/The job tracker can keep jobs again/);
      jest.advanceTimersByTime(10_000);
      jest.useRealTimers();
      await again;
      await expectKept(url, done);
      if (headers) {
        expect(await getJson<Job>(`${url}/sdapi/v1/job/${headers['x-job-id']}`)).toMatchObject({
          status: 'Failed',
          error: { code: 'interrupted' },
        });
      }
      await expectKept(url, await generate(url));
      expect((await tracker.jobs.list()).total).toBe(request ? 3 : 2);
      expect(log.errors).toEqual([expect.stringMatching(/^Generations pass untracked until this is mended/)]);
    },
  );
});
