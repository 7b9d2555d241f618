import { once } from 'node:events';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { FileImageStore } from '../lib/images/file-image-store.js';
import type { Job } from '../lib/job.js';
import { post } from './helpers/client.js';
import { type Gateway, type GatewayOptions, startGateway } from './helpers/gateway.js';
import { handlerCases } from './helpers/handlers.js';
import { collectLog } from './helpers/job-records.js';
import { openFilesBelow, until } from './helpers/kept-jobs.js';
import { sampleImages } from './helpers/sample-images.js';
import {
  answerWith,
  gate,
  type ScriptedBackend,
  sendAnswer,
  startScriptedBackend,
} from './helpers/scripted-backend.js';
import { readStore } from './helpers/store-folders.js';
import { tempFolders } from './helpers/temp-folder.js';

const newFolder = tempFolders();
const png = sampleImages.png as Buffer;
const running =
  'The gateway was stopped while this job was running; what the backend made of it is not known';
const waiting = 'The gateway was stopped while this job was waiting; the backend did not get it';

let dir: string;
let backend: ScriptedBackend;
let gateway: Gateway;

beforeEach(async () => {
  dir = await newFolder();
  // It never answers.
  backend = await startScriptedBackend(() => {});
});

afterEach(async () => {
  await gateway.close();
  await backend.close();
});

async function start(options: Partial<GatewayOptions> = {}): Promise<void> {
  gateway = await startGateway({ dir, a1111: backend.url, headAfter: 0, ...options });
}

const txt2img = (prompt: string) => post(`${gateway.url}/sdapi/v1/txt2img`, { prompt });

/** Stops the tracker, and gives the jobs as the next process finds them, by their prompts. */
async function jobsAfterClose(within: '1ms' | '60s' = '1ms'): Promise<Readonly<Record<string, Job>>> {
  await gateway.tracker.close({ within });
  const { jobs, log } = await readStore(dir);
  expect(log.warnings).toEqual([]);
  return Object.fromEntries(jobs.map((job) => [job.prompt, job]));
}

const interrupted = (message: string) => ({ status: 'Failed', error: { code: 'interrupted', message } });

describe('a tracker that is closed within a time', () => {
  test('breaks off what still runs then: the client sees an error, the backend that it is left alone', async () => {
    const left = gate();
    backend.script = (res) => void res.once('close', left.open);
    await start();
    const { head, answer } = txt2img('a');
    expect((await head).status).toBe(200);
    await backend.received();
    const { a } = await jobsAfterClose();
    expect(a).toMatchObject(interrupted(running));
    expect(a?.finished_at).toBeGreaterThanOrEqual(a?.started_at as number);
    await expect(answer).rejects.toMatchObject({ code: 'ECONNRESET' });
    await left.opened;
    expect(gateway.log).toEqual(['1 job(s) are broken off, because the gateway is being stopped']);
  });

  test('may lose patience later, and takes no time that makes no sense', async () => {
    await start();
    const { head } = txt2img('a');
    await head;
    await backend.received();
    expect(() => gateway.tracker.close({ within: '30' as never })).toThrow(
      'Expected `within` to be a duration such as "100ms", "15s" or "24h", or 0, got "30"',
    );
    const closing = gateway.tracker.close();
    void gateway.tracker.close({ within: 0 });
    await closing;
    const { jobs } = await readStore(dir);
    expect(jobs[0]).toMatchObject(interrupted(running));
  });

  test('lets nobody from the queue through, and lets go of their bodies', async () => {
    await start();
    const first = txt2img('first');
    await backend.received();
    const ballast = 'x'.repeat(3 * 1024 * 1024);
    const calls = ['second', 'third', 'fourth'].map((prompt) =>
      post(`${gateway.url}/sdapi/v1/txt2img`, { prompt, ballast }),
    );
    await Promise.all(calls.map(({ head }) => head));
    const jobs = await jobsAfterClose();
    for (const { answer } of [first, ...calls])
      await expect(answer).rejects.toMatchObject({ code: 'ECONNRESET' });
    expect(jobs).toMatchObject({
      first: interrupted(running),
      second: interrupted(waiting),
      third: interrupted(waiting),
      fourth: interrupted(waiting),
    });
    expect(jobs.second).not.toHaveProperty('started_at');
    expect(backend.bodies).toHaveLength(1);
    await until(() => openFilesBelow(dir).length === 0);
    // They have failed, and may be run again; nothing else is left of their bodies.
    const left = await readdir(join(dir, 'requests'));
    expect(left.filter((name) => !/^\w{8}\.request$/.test(name))).toEqual([]);
    expect(left).toHaveLength(4);
  });

  test('ends a job whose client has left', async () => {
    const left = gate();
    backend.script = (res) => void res.once('close', left.open);
    await start();
    const { head, request } = txt2img('a');
    await head;
    await backend.received();
    const lost = once(gateway.server, 'close');
    request.destroy();
    // The server has ended once it knows that the client has left.
    gateway.server.close();
    await lost;
    expect(await jobsAfterClose()).toMatchObject({ a: interrupted(running) });
    await left.opened;
  });

  test('resets a client that has seen no head yet', async () => {
    await start({ headAfter: false });
    const { answer } = txt2img('a');
    await backend.received();
    expect(await jobsAfterClose()).toMatchObject({ a: interrupted(running) });
    await expect(answer).rejects.toMatchObject({ code: 'ECONNRESET' });
  });

  test.each(handlerCases.filter(({ rewrites }) => !rewrites))(
    'keeps what is whole of half an answer, behind $name',
    async ({ front, behind }) => {
      const whole = answerWith([png, png]);
      const half = whole.subarray(0, whole.length - png.length);
      const begun = gate();
      backend.script = (res) => {
        res.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': whole.length });
        res.write(half, begun.open);
      };
      gateway = await startGateway({
        dir,
        headAfter: 0,
        ...(front && { front }),
        behind: (app) => behind(app, backend.url),
      });
      const { answer } = txt2img('a');
      await begun.opened;
      await until(async () => (await imagesKept()).length === 1);
      const { a } = await jobsAfterClose();
      expect(a).toMatchObject(interrupted(running));
      expect(a?.output_paths).toHaveLength(1);
      await expect(answer).rejects.toBeDefined();
    },
  );

  test('an answer that is whole completes, though its images are still on their way to the disk', async () => {
    const images = new FileImageStore({ folder: join(dir, 'output'), logger: collectLog() });
    const disk = gate();
    const finishing = gate();
    const { create } = images;
    images.create = async (stem) => {
      const writer = await create.call(images, stem);
      const { finish } = writer;
      writer.finish = async (extension) => {
        finishing.open();
        await disk.opened;
        return finish.call(writer, extension);
      };
      return writer;
    };
    const whole = answerWith([png]);
    backend.script = (res, body) => {
      if (body.includes('"whole"')) sendAnswer(res, whole);
    };
    await start({ images, concurrency: 2 });
    const calls = [txt2img('whole'), txt2img('never')];
    await Promise.all([backend.received(2), finishing.opened]);
    gateway.tracker.events.once('failed', disk.open);
    expect(await jobsAfterClose()).toMatchObject({
      whole: { status: 'Completed', output_paths: [expect.stringMatching(/\.png$/)] },
      never: interrupted(running),
    });
    expect((await calls[0]?.answer)?.body.toString()).toContain(png.toString('base64'));
  });

  test('waits no longer than it has to', async () => {
    const hold = gate();
    backend.script = async (res) => {
      await hold.opened;
      sendAnswer(res, answerWith([png]));
    };
    await start();
    const { head, answer } = txt2img('a');
    await head;
    const closing = jobsAfterClose('60s');
    hold.open();
    expect(await closing).toMatchObject({ a: { status: 'Completed' } });
    expect((await answer).status).toBe(200);
    expect(gateway.log).toEqual([]);
  });
});

/** The images that are in place under their names. */
async function imagesKept(): Promise<string[]> {
  const names = await readdir(join(dir, 'output'), { recursive: true });
  return names.filter((name) => name.endsWith('.png'));
}
