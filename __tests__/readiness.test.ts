import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join, resolve } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import express from 'express';
import { type JobTracker, JobTrackerError, jobTracker } from '../lib/index.js';
import { Readiness } from '../lib/readiness.js';
import { call, post } from './helpers/client.js';
import { type CollectedLog, collectLog } from './helpers/job-records.js';
import { sampleImages } from './helpers/sample-images.js';
import {
  answerWith,
  type ScriptedBackend,
  sendAnswer,
  startScriptedBackend,
} from './helpers/scripted-backend.js';
import { tempFolders } from './helpers/temp-folder.js';

const newFolder = tempFolders();
const answer = answerWith([sampleImages.png as Buffer]);

let log: CollectedLog;

beforeEach(() => {
  log = collectLog();
});

afterEach(() => {
  jest.useRealTimers();
});

/** The clock stands still until the test lets it go on; everything else happens as ever. */
function holdClock(): void {
  const others = [
    'Date',
    'hrtime',
    'nextTick',
    'performance',
    'queueMicrotask',
    'setImmediate',
    'clearImmediate',
  ] as const;
  jest.useFakeTimers({ doNotFake: [...others, 'setInterval', 'clearInterval'] });
}

const settled = () => new Promise((resolve) => setImmediate(resolve));

describe('what is opened', () => {
  /** Each call of `open` waits for the test to let it succeed or fail. */
  function opening() {
    const attempts: { succeed: () => void; fail: (error: unknown) => void }[] = [];
    const open = () =>
      new Promise<void>((succeed, fail) => {
        attempts.push({ succeed, fail });
      });
    return { open, attempts };
  }

  test('is open once it has opened', async () => {
    const { open, attempts } = opening();
    const readiness = new Readiness(open, log);
    expect(readiness.failure).toBe('The job tracker is still opening its folder');
    const decided = readiness.whenDecided();
    attempts[0]?.succeed();
    await readiness.ready;
    expect(await decided).toBe(true);
    expect(await readiness.whenDecided()).toBe(true);
    expect(readiness.failure).toBeUndefined();
    expect([...log.errors, ...log.warnings]).toEqual([]);
    await readiness.close();
  });

  test('a request waits two seconds for it, and no longer', async () => {
    holdClock();
    const { open, attempts } = opening();
    const readiness = new Readiness(open, log);
    const decisions: boolean[] = [];
    const decided = readiness.whenDecided().then((isOpen) => decisions.push(isOpen));
    jest.advanceTimersByTime(1_999);
    await settled();
    expect(decisions).toEqual([]);
    jest.advanceTimersByTime(1);
    await decided;
    expect(decisions).toEqual([false]);
    attempts[0]?.succeed();
    await readiness.ready;
    expect(await readiness.whenDecided()).toBe(true);
    expect(jest.getTimerCount()).toBe(0);
    await readiness.close();
  });

  test('a request that waits is let go as soon as it has failed', async () => {
    holdClock();
    const { open, attempts } = opening();
    const readiness = new Readiness(open, log);
    const decided = readiness.whenDecided();
    attempts[0]?.fail(new Error('no'));
    expect(await decided).toBe(false);
    await readiness.close();
  });

  test('is tried again every ten seconds, and each reason is said once', async () => {
    holdClock();
    const { open, attempts } = opening();
    const readiness = new Readiness(open, log);
    const first = new Error('the disk is full');
    attempts[0]?.fail(first);
    await expect(readiness.ready).rejects.toBe(first);
    expect(readiness.failure).toBe('the disk is full');
    for (const reason of ['the disk is full', 'the disk is full', 'the disk is gone']) {
      const before = attempts.length;
      jest.advanceTimersByTime(9_999);
      expect(attempts).toHaveLength(before);
      jest.advanceTimersByTime(1);
      expect(attempts).toHaveLength(before + 1);
      // Nobody has to wait while it is tried again.
      expect(await readiness.whenDecided()).toBe(false);
      attempts.at(-1)?.fail(new Error(reason));
      await settled();
      expect(readiness.failure).toBe(reason);
    }
    const said = 'Generations pass untracked until this is mended: the disk is';
    expect(log.errors).toEqual([`${said} full`, `${said} gone`]);
    jest.advanceTimersByTime(10_000);
    attempts.at(-1)?.succeed();
    await settled();
    expect(readiness.failure).toBeUndefined();
    expect(await readiness.whenDecided()).toBe(true);
    expect(log.warnings).toEqual(['The job tracker can keep jobs again']);
    jest.advanceTimersByTime(60_000);
    expect(attempts).toHaveLength(5);
    await readiness.close();
  });

  test('close ends the trying, and may be called twice', async () => {
    holdClock();
    const { open, attempts } = opening();
    const readiness = new Readiness(open, log);
    attempts[0]?.fail(new Error('no'));
    await readiness.ready.catch(() => {});
    await Promise.all([readiness.close(), readiness.close()]);
    jest.advanceTimersByTime(60_000);
    expect(attempts).toHaveLength(1);
    expect(readiness.failure).toBe('The job tracker has been closed');
    expect(await readiness.whenDecided()).toBe(false);
  });

  test('close waits for an attempt that is under way, and what opens too late is not open', async () => {
    const { open, attempts } = opening();
    const readiness = new Readiness(open, log);
    let isClosed = false;
    const closing = readiness.close().then(() => {
      isClosed = true;
    });
    await settled();
    expect(isClosed).toBe(false);
    attempts[0]?.succeed();
    await closing;
    await expect(readiness.ready).rejects.toMatchObject({ code: 'CLOSED' });
    expect(await readiness.whenDecided()).toBe(false);
    expect(log.errors).toEqual([]);
  });

  test('close while it is tried again', async () => {
    holdClock();
    const { open, attempts } = opening();
    const readiness = new Readiness(open, log);
    attempts[0]?.fail(new Error('no'));
    await readiness.ready.catch(() => {});
    jest.advanceTimersByTime(10_000);
    const closing = readiness.close();
    attempts[1]?.fail(new Error('no, still'));
    await closing;
    jest.advanceTimersByTime(60_000);
    expect(attempts).toHaveLength(2);
  });
});

describe('a folder that cannot be had', () => {
  let backend: ScriptedBackend;
  let tracker: JobTracker;
  let server: Server;
  let url: string;
  /** Trackers and rights of a test's own. */
  const cleanUps: (() => unknown)[] = [];

  beforeEach(async () => {
    backend = await startScriptedBackend((res) => sendAnswer(res, answer));
  });

  afterEach(async () => {
    server.closeAllConnections();
    server.close();
    await tracker.close();
    await backend.close();
    for (const cleanUp of cleanUps.splice(0)) await cleanUp();
  });

  async function start(dir: string): Promise<void> {
    holdClock();
    tracker = jobTracker({ dir, a1111: backend.url, logger: log });
    server = createServer(express().use(tracker));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  interface Cause {
    readonly what: string;
    /** Makes the folder unusable; resolves to what mends it. */
    readonly spoil: (dir: string) => Promise<() => Promise<unknown>>;
    readonly code: string;
    readonly reason: RegExp;
  }

  const causes: readonly Cause[] = [
    {
      what: 'is a file',
      async spoil(dir) {
        await writeFile(dir, 'not a folder');
        return () => rm(dir);
      },
      code: 'FOLDER_UNUSABLE',
      reason:
        /tracker to be a folder that can be created, read and written, but there is a file of that name/,
    },
    {
      what: 'lies below a file',
      async spoil(dir) {
        await rm(join(dir, '..'), { recursive: true });
        await writeFile(join(dir, '..'), 'not a folder');
        return () => rm(join(dir, '..'));
      },
      code: 'FOLDER_UNUSABLE',
      reason: /a part of its path is a file/,
    },
    {
      what: 'cannot be written',
      async spoil(dir) {
        await mkdir(dir);
        await chmod(join(dir, '..'), 0o755);
        await chmod(dir, 0o555);
        const { getuid, seteuid } = process;
        if (getuid?.() === 0) {
          // Nothing is forbidden to root.
          seteuid?.(65_534);
          cleanUps.push(() => seteuid?.(0));
          return async () => {
            seteuid?.(0);
            await chmod(dir, 0o777);
            seteuid?.(65_534);
          };
        }
        return () => chmod(dir, 0o777);
      },
      code: 'FOLDER_UNUSABLE',
      reason: /this process has no right to do that/,
    },
    {
      what: 'belongs to another tracker',
      async spoil(dir) {
        const other = jobTracker({ dir, logger: log });
        await other.ready;
        return () => other.close();
      },
      code: 'FOLDER_LOCKED',
      reason: /tracker is in use by another process, or by another tracker in this one/,
    },
    {
      what: 'has a file in the place of its images',
      async spoil(dir) {
        await mkdir(dir);
        await writeFile(join(dir, 'output'), 'not a folder');
        return () => rm(join(dir, 'output'));
      },
      code: 'FOLDER_UNUSABLE',
      reason: /output to be a folder that can be written/,
    },
  ];

  test.each(causes)(
    'because it $what: jobs pass untracked, and are tracked once it is mended',
    async (cause) => {
      const dir = join(await newFolder(), 'tracker');
      const mend = await cause.spoil(dir);
      await start(dir);
      const failure = await tracker.ready.then(
        () => undefined,
        (error: unknown) => error,
      );
      expect(failure).toBeInstanceOf(JobTrackerError);
      expect(failure).toMatchObject({ code: cause.code, message: expect.stringMatching(cause.reason) });

      const request = '{"prompt":"a boat","seed":18446744073709551615,"send_images":true}';
      for (let n = 0; n < 2; n += 1) {
        const untracked = await post(`${url}/sdapi/v1/txt2img`, request).answer;
        expect(untracked.status).toBe(200);
        expect(untracked.body.equals(answer)).toBe(true);
        expect(untracked.headers).not.toHaveProperty('x-job-id');
        expect(backend.bodies.at(-1)?.toString()).toBe(request);
      }
      for (const [method, path] of [
        ['GET', '/sdapi/v1/jobs'],
        ['GET', '/sdapi/v1/job/Ab12Cd34'],
        ['GET', '/sdapi/v1/job/Ab12Cd34/images/0'],
        ['DELETE', '/sdapi/v1/job/Ab12Cd34'],
      ] as const) {
        const refused = await call(url + path, { method }).answer;
        expect(refused.status).toBe(503);
        expect(JSON.parse(refused.body.toString())).toEqual({ error: (failure as Error).message });
      }

      // Tried again in vain, nothing more is said.
      jest.advanceTimersByTime(10_000);
      await retried();
      expect(log.errors).toEqual([
        `Generations pass untracked until this is mended: ${(failure as Error).message}`,
      ]);

      await mend();
      const mended = log.next(/The job tracker can keep jobs again/);
      jest.advanceTimersByTime(10_000);
      await mended;
      const tracked = await post(`${url}/sdapi/v1/txt2img`, request).answer;
      expect(tracked.body.equals(answer)).toBe(true);
      const id = tracked.headers['x-job-id'] as string;
      expect(await tracker.jobs.get(id)).toMatchObject({ status: 'Completed' });
      const { status, body } = await call(`${url}/sdapi/v1/job/${id}`).answer;
      expect([status, JSON.parse(body.toString()).images]).toEqual([
        200,
        [(sampleImages.png as Buffer).toString('base64')],
      ]);
      expect(await readdir(join(dir, 'output'))).toContain(new Date().toISOString().slice(0, 10));
    },
  );

  /** Resolves once the attempt that was just begun has ended, which is when the next one is on the clock. */
  async function retried(): Promise<void> {
    while (jest.getTimerCount() === 0) await settled();
  }

  test('closed before it was ever opened: it ends, and the folder is free', async () => {
    const dir = join(await newFolder(), 'tracker');
    await writeFile(dir, 'not a folder');
    await start(dir);
    await tracker.close();
    const refused = await call(`${url}/sdapi/v1/jobs`).answer;
    expect(JSON.parse(refused.body.toString())).toEqual({ error: 'The job tracker has been closed' });
    const passed = await post(`${url}/sdapi/v1/txt2img`, '{}').answer;
    expect(passed.body.equals(answer)).toBe(true);
    await rm(dir);
    const next = jobTracker({ dir, logger: log });
    await next.ready;
    await next.close();
  });
});

test('nobody has to look at `ready`: a process goes on when it rejects', async () => {
  const dir = join(await newFolder(), 'tracker');
  await writeFile(dir, 'not a folder');
  const library = JSON.stringify(resolve(import.meta.dirname, '../lib/index.ts'));
  const program = `
    import { jobTracker } from ${library};
    const tracker = jobTracker({ dir: ${JSON.stringify(dir)}, logger: { info() {}, warn() {}, error: said } });
    function said() {
      // A rejection that nobody handles ends a process before it gets here.
      setImmediate(() => setImmediate(() => tracker.close().then(() => console.log('went on'))));
    }`;
  const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '--eval', program], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [said, [code]] = await Promise.all([text(child.stdout), once(child, 'exit')]);
  expect([said, code]).toEqual(['went on\n', 0]);
});
