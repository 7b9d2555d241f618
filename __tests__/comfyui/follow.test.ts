import { once } from 'node:events';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import type { ServerResponse } from 'node:http';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import {
  createDemoComfyUI,
  type DemoComfyUI,
  type DemoComfyUIOptions,
  type DemoExecution,
} from '../../examples/demo-comfyui.js';
import { FileImageStore } from '../../lib/images/file-image-store.js';
import type { Job } from '../../lib/index.js';
import { LowdbJobStore } from '../../lib/stores/lowdb-job-store.js';
import { call, getJson, post } from '../helpers/client.js';
import { promptText } from '../helpers/comfyui-prompts.js';
import { collectingLogger, type Gateway, type GatewayOptions, startGateway } from '../helpers/gateway.js';
import { until as soon } from '../helpers/kept-jobs.js';
import { sampleImages } from '../helpers/sample-images.js';
import { bigPng, gate, type ScriptedBackend, startScriptedBackend } from '../helpers/scripted-backend.js';
import { tempFolders } from '../helpers/temp-folder.js';

const folder = tempFolders();
const cleanups: (() => Promise<void>)[] = [];
let comfy: DemoComfyUI;
let comfyUrl: string;
let dir: string;

async function startComfy(options: DemoComfyUIOptions = {}): Promise<void> {
  comfy = createDemoComfyUI({ generationMs: 0, ...options });
  const started = comfy;
  cleanups.push(() => started.close());
  comfyUrl = await comfy.listen();
}

async function start(options: Partial<GatewayOptions> = {}): Promise<Gateway> {
  const gateway = await startGateway({ dir, comfyui: comfyUrl, env: {}, ...options });
  cleanups.push(() => gateway.close());
  return gateway;
}

beforeEach(async () => {
  dir = await folder();
  await startComfy();
});
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function prompt(gateway: Gateway, options: Parameters<typeof promptText>[0] = {}, path = '/prompt') {
  const answer = await post(`${gateway.url}${path}`, promptText(options)).answer;
  const id = String(answer.headers['x-job-id']);
  return { answer, id, promptId: JSON.parse(answer.body.toString()).prompt_id as string };
}

const show = (gateway: Gateway, id: string) =>
  getJson<Record<string, unknown>>(`${gateway.url}/sdapi/v1/job/${id}?images=none`);

/** Resolves with the record once it is as wanted. */
async function until(gateway: Gateway, id: string, isWanted: (job: Job) => boolean): Promise<Job> {
  for (;;) {
    const changed = once(gateway.tracker.events, 'status');
    const job = await gateway.tracker.jobs.get(id);
    if (job && isWanted(job)) return job;
    await changed;
  }
}

/** Resolves when ComfyUI has been asked for its queue so many times more. */
async function looked(count: number): Promise<void> {
  const looks = () => comfy.state.requests.filter(({ url }) => url === '/queue').length;
  const enough = looks() + count;
  while (looks() < enough) await once(comfy.state, 'request');
}

const held = (): Promise<[DemoExecution]> => once(comfy.state, 'held') as Promise<[DemoExecution]>;

describe('a prompt', () => {
  test('is answered as ComfyUI answers, with the job id beside it, and ends Completed with every image', async () => {
    const gateway = await start();
    const direct = await post(`${comfyUrl}/prompt`, promptText({ seed: '1' })).answer;
    const { answer, id, promptId } = await prompt(gateway, { images: 2 });
    expect(answer.status).toBe(200);
    expect(answer.headers['content-type']).toBe(direct.headers['content-type']);
    expect(answer.body.toString()).toMatch(
      /^\{"prompt_id": "[-0-9a-f]{36}", "number": 1, "node_errors": \{\}\}$/,
    );
    const job = await gateway.ended(id);
    expect(job).toMatchObject({
      status: 'Completed',
      backend: 'comfyui',
      prompt: 'a quiet bay',
      prompt_id: promptId,
      request: { negative_prompt: 'ugly', seed: '18446744073709551615', steps: 4, batch_size: 2 },
    });
    const files = comfy.state.executions.at(-1)?.files ?? [];
    expect(files).toHaveLength(2);
    for (const [n, file] of files.entries()) {
      const image = await call(`${gateway.url}/sdapi/v1/job/${id}/images/${n}`).answer;
      expect(image.body.equals(await readFile(file))).toBe(true);
    }
    const shown = await call(`${gateway.url}/sdapi/v1/job/${id}?images=none`).answer;
    expect(shown.body.toString()).toContain('"seed": 18446744073709551615, "steps": 4, "cfg": 8.0');
    expect(shown.body.toString()).not.toContain('"ticket"');
  });

  test.each(['/api/prompt', '/prompt?clientId=abc'])(
    'is tracked at %s, whatever its content type says',
    async (path) => {
      const gateway = await start();
      const answer = await call(`${gateway.url}${path}`, {
        body: promptText(),
        headers: { 'Content-Type': 'text/plain' },
      }).answer;
      expect(answer.headers['x-job-id']).toMatch(/^[A-Za-z0-9]{8}$/);
      expect(await gateway.ended()).toMatchObject({ status: 'Completed', path: path.replace(/\?.*/, '') });
    },
  );

  test('reaches ComfyUI as the client has sent it', async () => {
    const gateway = await start();
    const body = promptText({ clientId: 'ünï' });
    await post(`${gateway.url}/prompt`, body).answer;
    expect(comfy.state.requests[0]?.body.toString()).toBe(body);
  });

  test('that ComfyUI refuses is Failed with what it says, which the client gets', async () => {
    const gateway = await start();
    const body = promptText().replace('"euler"', '"no such"');
    const answer = await post(`${gateway.url}/prompt`, body).answer;
    expect(answer.status).toBe(400);
    expect(JSON.parse(answer.body.toString())).toMatchObject({
      node_errors: { 3: { class_type: 'KSampler' } },
    });
    const job = await gateway.ended(String(answer.headers['x-job-id']));
    expect(job).toMatchObject({ status: 'Failed', error: { code: 'backend', status: 400 } });
    expect(job.error?.message).toMatch(/KSampler 3: .*sampler_name/);
  });

  test('its id is on record before the client hears of it', async () => {
    const gateway = await start();
    comfy.state.hold();
    const { id, promptId } = await prompt(gateway);
    const journal = await readFile(join(dir, 'jobs.json.journal'), 'utf8');
    expect(journal).toContain(`"prompt_id":"${promptId}"`);
    expect(journal).toContain(id);
    comfy.state.release();
  });

  test('also where ComfyUI does not say how long its answer is', async () => {
    const backend = await startScriptedBackend((res, _body, req) => {
      if (req.url !== '/prompt') return void res.end('{}');
      res.write('{"prompt_id": "p1", ');
      res.end('"number": 1, "node_errors": {}}');
    });
    cleanups.push(() => backend.close());
    const store = new LowdbJobStore({ folder: dir, logger: collectingLogger([]) });
    const { update } = store;
    const [reached, held] = [gate(), gate()];
    store.update = async (id, change) => {
      if (change.prompt_id !== undefined) {
        reached.open();
        await held.opened;
      }
      return update.call(store, id, change);
    };
    const gateway = await start({ comfyui: backend.url, store });
    const sent = post(`${gateway.url}/prompt`, promptText());
    await reached.opened;
    for (let turn = 0; turn < 20; turn += 1) await call(`${gateway.url}/sdapi/v1/jobs`).answer;
    expect(Buffer.concat(sent.received).toString()).toBe('');
    held.open();
    expect(JSON.parse((await sent.answer).body.toString())).toMatchObject({ prompt_id: 'p1' });
  });

  test('is asked for by its id', async () => {
    const gateway = await start();
    const { id, promptId } = await prompt(gateway);
    await gateway.ended(id);
    await gateway.ended((await prompt(gateway, { seed: '2' })).id);
    const jobs = await getJson<Job[]>(`${gateway.url}/sdapi/v1/jobs?prompt_id=${promptId}`);
    expect(jobs.map((job) => job.id)).toEqual([id]);
  });

  test('whose outputs are known to ComfyUI is Completed with the same image', async () => {
    const gateway = await start();
    const first = await prompt(gateway);
    await gateway.ended(first.id);
    const second = await prompt(gateway);
    const job = await gateway.ended(second.id);
    expect(comfy.state.executions[1]?.files).toEqual([]);
    expect([job.status, job.output_paths.length]).toEqual(['Completed', 1]);
    const [a, b] = await Promise.all(
      [first.id, second.id].map((id) => call(`${gateway.url}/sdapi/v1/job/${id}/images/0`).answer),
    );
    expect(a?.body.equals(b?.body as Buffer)).toBe(true);
  });

  test.each(['any', 'ignored'] as const)(
    'with an id of its own goes by what ComfyUI calls it (%s)',
    async (promptIdRule) => {
      await startComfy({ promptIdRule });
      const gateway = await start();
      const answer = await post(`${gateway.url}/prompt`, promptText().replace('{', '{"prompt_id": "mine", '))
        .answer;
      const job = await gateway.ended(String(answer.headers['x-job-id']));
      expect(job).toMatchObject({
        status: 'Completed',
        prompt_id: JSON.parse(answer.body.toString()).prompt_id,
      });
      expect(job.prompt_id === 'mine').toBe(promptIdRule === 'any');
    },
  );
});

describe('while it waits and runs', () => {
  test('it is Pending with its place in the queue, then Processing, then Completed', async () => {
    const gateway = await start();
    comfy.state.hold();
    const first = await prompt(gateway, { seed: '1' });
    const second = await prompt(gateway, { seed: '2' });
    const third = await prompt(gateway, { seed: '3' });
    await until(gateway, first.id, ({ status }) => status === 'Processing');
    // With the second look that begins now, all that the first one has seen is known.
    await looked(2);
    expect(await show(gateway, second.id)).toMatchObject({ status: 'Pending', queue_position: 1 });
    expect(await show(gateway, third.id)).toMatchObject({ status: 'Pending', queue_position: 2 });
    comfy.state.releaseOne();
    await gateway.ended(first.id);
    await until(gateway, second.id, ({ status }) => status === 'Processing');
    expect(await show(gateway, second.id)).not.toHaveProperty('queue_position');
    comfy.state.release();
    expect((await gateway.ended(third.id)).status).toBe('Completed');
  });

  test('ComfyUI is asked for the queue first, never for the whole history, and for nothing once all is over', async () => {
    const gateway = await start();
    comfy.state.hold();
    const { id, promptId } = await prompt(gateway);
    await until(gateway, id, ({ status }) => status === 'Processing');
    comfy.state.release();
    await gateway.ended(id);
    const asked = comfy.state.requests.map(({ url }) => url).filter((url) => /queue|history/.test(url));
    expect(asked[0]).toBe('/queue');
    expect(asked.at(-1)).toBe(`/history/${promptId}`);
    expect(asked.filter((url) => url === '/history')).toEqual([]);
    expect(asked.filter((url) => url.startsWith('/history/'))).toHaveLength(1);
    const before = comfy.state.requests.length;
    // The next look would have come by now.
    await new Promise((resolve) => setTimeout(resolve, 1_200));
    expect(comfy.state.requests).toHaveLength(before);
  });

  test('an interrupt that somebody sends ends it Failed, cancelled', async () => {
    const gateway = await start();
    comfy.state.hold(1);
    const holding = held();
    const { id } = await prompt(gateway);
    await holding;
    await post(`${gateway.url}/interrupt`, {}).answer;
    expect(await gateway.ended(id)).toMatchObject({ status: 'Failed', error: { code: 'cancelled' } });
  });

  test('a node that fails ends it Failed, with what the node says', async () => {
    const gateway = await start();
    const { id } = await prompt(gateway, { text: 'a bay [fail]' });
    const job = await gateway.ended(id);
    expect(job).toMatchObject({ status: 'Failed', error: { code: 'backend' } });
    expect(job.error?.message).toMatch(/^KSampler \(node 3\): \w/);
  });

  test('one that takes too long is Failed', async () => {
    const gateway = await start({ jobTimeout: '300ms' });
    comfy.state.hold();
    const { id } = await prompt(gateway);
    expect(await gateway.ended(id)).toMatchObject({ status: 'Failed', error: { code: 'timeout' } });
    const before = comfy.state.requests.length;
    // Nobody asks for it any more: the next look would have come by now.
    await new Promise((resolve) => setTimeout(resolve, 1_200));
    expect(comfy.state.requests.length).toBeLessThanOrEqual(before + 1);
    comfy.state.release();
  });
});

describe('cancel', () => {
  const cancel = (gateway: Gateway, id: string) =>
    post(`${gateway.url}/sdapi/v1/job/${id}/cancel`, '').answer;

  test('ends one whose prompt id is just being put on record', async () => {
    const logger = collectingLogger([]);
    const store = new LowdbJobStore({ folder: dir, logger });
    const [asked, taken] = [gate(), gate()];
    const update = store.update.bind(store);
    let isSlow = false;
    store.update = async (id, change) => {
      if (isSlow && change.prompt_id !== undefined) {
        asked.open();
        await taken.opened;
      }
      return update(id, change);
    };
    const gateway = await start({ store });
    comfy.state.hold();
    const first = await prompt(gateway, { seed: '1' });
    await until(gateway, first.id, ({ status }) => status === 'Processing');
    isSlow = true;
    const created = once(gateway.tracker.events, 'created');
    const second = prompt(gateway, { seed: '2' });
    const [{ id }] = await created;
    await asked.opened;
    const cancelling = post(`${gateway.url}/sdapi/v1/job/${id}/cancel`, {}).answer;
    // The gateway has done what it can, and goes on waiting for the store.
    expect((await cancelling).status).toBe(202);
    taken.open();
    await second;
    expect(await gateway.ended(id)).toMatchObject({ status: 'Failed', error: { code: 'cancelled' } });
    comfy.state.release();
  });

  test('takes a prompt that waits out of ComfyUI’s queue', async () => {
    const gateway = await start();
    comfy.state.hold();
    const first = await prompt(gateway, { seed: '1' });
    const second = await prompt(gateway, { seed: '2' });
    await until(gateway, first.id, ({ status }) => status === 'Processing');
    const answer = await cancel(gateway, second.id);
    expect([answer.status, JSON.parse(answer.body.toString())]).toMatchObject([
      200,
      { status: 'Failed', error: { code: 'cancelled' } },
    ]);
    expect(comfy.state.executions.map(({ status }) => status)).toEqual(['running', 'deleted']);
    comfy.state.release();
    expect((await gateway.ended(first.id)).status).toBe('Completed');
  });

  test.each(['by-id', 'global'] as const)(
    'interrupts the one that runs, and no other (%s)',
    async (interruptRule) => {
      await startComfy({ interruptRule });
      const gateway = await start();
      comfy.state.hold(1);
      const first = await prompt(gateway, { seed: '1' });
      const second = await prompt(gateway, { seed: '2' });
      await until(gateway, first.id, ({ status }) => status === 'Processing');
      const answer = await cancel(gateway, first.id);
      expect([200, 202]).toContain(answer.status);
      expect(await gateway.ended(first.id)).toMatchObject({ status: 'Failed', error: { code: 'cancelled' } });
      comfy.state.release();
      const job = await gateway.ended(second.id);
      expect(job.status).toBe('Completed');
      expect(job.disturbed_by).toBeUndefined();
    },
  );
});

describe('ComfyUI', () => {
  test('that is restarted with a prompt in flight: the job is Failed, interrupted, and says so', async () => {
    const gateway = await start();
    comfy.state.hold();
    const { id } = await prompt(gateway);
    await until(gateway, id, ({ status }) => status === 'Processing');
    comfy.restart();
    const job = await gateway.ended(id);
    expect(job).toMatchObject({ status: 'Failed', error: { code: 'interrupted' } });
    expect(job.error?.message).toMatch(/restarted/);
  });

  test('whose queue somebody empties: the job is Failed, cancelled', async () => {
    const gateway = await start();
    comfy.state.hold();
    const first = await prompt(gateway, { seed: '1' });
    const second = await prompt(gateway, { seed: '2' });
    await until(gateway, first.id, ({ status }) => status === 'Processing');
    await post(`${gateway.url}/api/queue`, { clear: true }).answer;
    expect(await gateway.ended(second.id)).toMatchObject({ status: 'Failed', error: { code: 'cancelled' } });
    comfy.state.release();
    expect((await gateway.ended(first.id)).status).toBe('Completed');
  });

  test('that is restarted some time after its queue was changed: what was not taken out is interrupted', async () => {
    const gateway = await start();
    comfy.state.hold();
    const { id } = await prompt(gateway);
    await until(gateway, id, ({ status }) => status === 'Processing');
    await post(`${gateway.url}/queue`, { delete: ['another'] }).answer;
    await looked(5);
    comfy.restart();
    expect(await gateway.ended(id)).toMatchObject({ status: 'Failed', error: { code: 'interrupted' } });
  });

  test('that has lost a file: the job is Failed, not stored, with the files that are there', async () => {
    const gateway = await start();
    comfy.state.hold();
    const { id } = await prompt(gateway, { images: 2 });
    comfy.server.prependListener('request', (req) => {
      if (req.url?.includes('00002_')) req.url = req.url.replace('00002_', '09999_');
    });
    comfy.state.release();
    const job = await gateway.ended(id);
    expect(job).toMatchObject({ status: 'Failed', error: { code: 'not_stored' } });
    expect(job.error?.message).toBe('ComfyUI does not have ComfyUI_00002_.png any more: it answered 404');
    expect(job.output_paths).toHaveLength(1);
  });

  test('that breaks off in the middle of a file is asked for it once more', async () => {
    const gateway = await start();
    let broken = 0;
    comfy.server.prependListener('request', (req, res) => {
      if (!req.url?.startsWith('/view') || broken > 0) return;
      broken += 1;
      const write = res.write.bind(res);
      res.end = ((chunk: Buffer) => {
        write(chunk.subarray(0, 20));
        res.socket?.destroySoon();
        return res;
      }) as typeof res.end;
    });
    const { id } = await prompt(gateway);
    expect(await gateway.ended(id)).toMatchObject({
      status: 'Completed',
      output_paths: [expect.any(String)],
    });
    expect(broken).toBe(1);
    expect(gateway.log.join()).toContain('is fetched once more');
  });

  test('that cannot tell of one prompt tells of the others all the same; that one is Failed in the end', async () => {
    const gateway = await start();
    comfy.state.hold();
    const spoilt = await prompt(gateway, { seed: '1' });
    comfy.server.prependListener('request', (req) => {
      if (req.url !== `/history/${spoilt.promptId}`) return;
      // An answer of 404.
      req.url = '/no/such/route';
      // Looks follow each other more slowly while ComfyUI fails.
      void post(`${gateway.url}/queue`, {}).answer;
    });
    comfy.state.release();
    const other = await prompt(gateway, { seed: '2' });
    expect((await gateway.ended(other.id)).status).toBe('Completed');
    expect((await gateway.tracker.jobs.get(spoilt.id))?.status).not.toBe('Failed');
    const job = await gateway.ended(spoilt.id);
    expect(job).toMatchObject({ status: 'Failed', error: { code: 'backend' } });
    expect(job.error?.message).toMatch(/could not tell what became of the prompt: .* answered 404/);
  });

  test('that fails at one file: others’ files are fetched meanwhile, and the job is Failed in the end', async () => {
    const gateway = await start();
    comfy.state.hold();
    const spoilt = await prompt(gateway, { seed: '1', prefix: 'spoilt' });
    const other = await prompt(gateway, { seed: '2' });
    comfy.server.prependListener('request', (req, res) => {
      if (!req.url?.includes('spoilt')) return;
      res.writeHead = ((_status: number) => Reflect.apply(writeHead, res, [500])) as typeof res.writeHead;
      const { writeHead } = Object.getPrototypeOf(res);
    });
    comfy.state.release();
    expect((await gateway.ended(other.id)).status).toBe('Completed');
    expect((await gateway.tracker.jobs.get(spoilt.id))?.finished_at).toBeUndefined();
    const job = await gateway.ended(spoilt.id);
    expect(job).toMatchObject({ status: 'Failed', error: { code: 'not_stored' }, output_paths: [] });
    expect(job.error?.message).toMatch(/^ComfyUI fails when it is asked for spoilt_.*: it answered 500$/);
  }, 20_000);

  test('that does not answer does not keep the gateway from ending', async () => {
    const asked = gate();
    const backend = await startScriptedBackend((res, _body, req) => {
      if (req.url === '/prompt') res.end('{"prompt_id": "p", "number": 0, "node_errors": {}}');
      // And nothing more.
      else if (req.url === '/queue') asked.open();
    });
    cleanups.push(() => backend.close());
    const gateway = await start({ comfyui: backend.url });
    await prompt(gateway);
    await asked.opened;
    // A look may take 30 s.
    await gateway.close();
    expect(gateway.log).toEqual([]);
  });

  describe('that answers', () => {
    const entryOf = (...names: string[]) => {
      const images = names.map((filename) => ({ filename, subfolder: '', type: 'output' }));
      const status = { status_str: 'success', completed: true };
      return JSON.stringify({ p1: { prompt: [], outputs: { 9: { images } }, status } });
    };

    /** A ComfyUI that takes a prompt, and has nothing in its queue when it is asked. */
    async function startDone(answer: (path: string, res: ServerResponse) => unknown): Promise<void> {
      const backend = await startScriptedBackend(async (res, _body, req) => {
        const path = req.url ?? '';
        if (path === '/prompt') res.end('{"prompt_id": "p1", "number": 1, "node_errors": {}}');
        else if (path === '/queue') res.end('{"queue_running": [], "queue_pending": []}');
        else if (/^\/(history|view)\b/.test(path)) await answer(path, res);
        else res.writeHead(404).end();
      });
      cleanups.push(() => backend.close());
      comfyUrl = backend.url;
    }

    /** The names of the files that are kept; undefined where a folder goes just now. */
    const files = async () => {
      const entries = readdir(join(dir, 'output'), { recursive: true, withFileTypes: true });
      return (await entries.catch(() => undefined))
        ?.filter((entry) => entry.isFile())
        .map(({ name }) => name);
    };

    test('late with the history of a prompt that has just left the queue: it is not gone', async () => {
      let asked = 0;
      await startDone((path, res) => {
        if (path === '/history/p1') asked += 1;
        res.end(asked === 1 ? '{}' : entryOf());
      });
      const gateway = await start();
      expect(await gateway.ended((await prompt(gateway)).id)).toMatchObject({ status: 'Completed' });
      expect(asked).toBe(2);
    });

    test('500 to a file is asked for it once more', async () => {
      let asked = 0;
      await startDone((path, res) => {
        if (path === '/history/p1') return res.end(entryOf('a.png'));
        asked += 1;
        return asked === 1 ? res.writeHead(500).end('busy') : res.end(sampleImages.png);
      });
      const gateway = await start();
      expect(await gateway.ended((await prompt(gateway)).id)).toMatchObject({
        status: 'Completed',
        output_paths: [expect.stringMatching(/-0\.png$/)],
        comfyui_files: [{ filename: 'a.png', subfolder: '', type: 'output' }],
      });
      expect(asked).toBe(2);
    });

    test('with a file of a kind that nobody knows: its name says nothing of ours', async () => {
      await startDone((path, res) => res.end(path === '/history/p1' ? entryOf('a.html', 'b.wav') : 'hello'));
      const gateway = await start();
      const { output_paths } = await gateway.ended((await prompt(gateway)).id);
      expect(output_paths).toEqual([expect.stringMatching(/-0\.bin$/), expect.stringMatching(/-1\.wav$/)]);
    });

    test('never to one of two files: what there is of them goes when the time is over', async () => {
      await startDone((path, res) => {
        if (path === '/history/p1') return res.end(entryOf('a.png', 'b.png'));
        return path.includes('a.png') ? res.end(sampleImages.png) : undefined;
      });
      const gateway = await start({ jobTimeout: '1s' });
      const job = await gateway.ended((await prompt(gateway)).id);
      expect(job).toMatchObject({ status: 'Failed', error: { code: 'timeout' }, output_paths: [] });
      await soon(async () => (await files())?.length === 0);
    });

    test('where what an earlier process left cannot be replaced: Failed, and it does not run for ever', async () => {
      await startDone((_path, res) => res.end(entryOf('a.png')));
      let left: string | undefined;
      const list = jest.spyOn(FileImageStore.prototype, 'list');
      list.mockImplementation(async (folder) => (left ? [`${folder}/${left}-0.png`] : []));
      const remove = jest.spyOn(FileImageStore.prototype, 'remove').mockRejectedValue(new Error('EACCES'));
      cleanups.push(async () => [list, remove].forEach((spy) => void spy.mockRestore()));
      const gateway = await start();
      left = (await prompt(gateway)).id;
      expect(await gateway.ended(left)).toMatchObject({
        status: 'Failed',
        error: { code: 'not_stored', message: 'EACCES' },
      });
    });

    test('what the disk does not take of its history: Failed, not stored, with the files', async () => {
      await startDone((path, res) => res.end(path === '/history/p1' ? entryOf('a.png') : sampleImages.png));
      const { create } = FileImageStore.prototype;
      const spy = jest.spyOn(FileImageStore.prototype, 'create');
      spy.mockImplementation(async function (this: FileImageStore, stem) {
        if (!/-\d+$/.test(stem)) throw new Error('ENOSPC');
        return create.call(this, stem);
      });
      cleanups.push(async () => spy.mockRestore());
      const gateway = await start();
      expect(await gateway.ended((await prompt(gateway)).id)).toMatchObject({
        status: 'Failed',
        error: { code: 'not_stored', message: 'The history entry could not be kept: ENOSPC' },
        output_paths: [expect.any(String)],
      });
    });
  });

  test.each([
    ['gzip', { status: 'Completed', output_paths: [expect.any(String)] }],
    ['zz', { status: 'Failed', output_paths: [], error: { code: 'not_stored' } }],
  ])('behind a proxy that encodes files as %s, which nobody has asked for', async (encoding, outcome) => {
    const png = bigPng(1_000);
    const entry = '{"outputs": {"9": {"images": [{"filename": "a.png"}]}}, "status": {}}';
    const backend = await startScriptedBackend((res, _body, req) => {
      if (req.url?.startsWith('/view'))
        res.writeHead(200, { 'Content-Encoding': encoding }).end(gzipSync(png));
      else if (req.url === '/prompt') res.end('{"prompt_id": "p", "number": 0, "node_errors": {}}');
      else if (req.url === '/queue') res.end('{"queue_running": [], "queue_pending": []}');
      else res.end(`{"p": ${entry}}`);
    });
    cleanups.push(() => backend.close());
    const gateway = await start({ comfyui: backend.url });
    const job = await gateway.ended((await prompt(gateway)).id);
    expect(job).toMatchObject(outcome);
    if (job.status !== 'Completed') return;
    const image = await call(`${gateway.url}/sdapi/v1/job/${job.id}/images/0`).answer;
    expect(image.body.equals(png)).toBe(true);
  });

  test('without its address, its prompts are not tracked, which is said once', async () => {
    const gateway = await startGateway({
      dir,
      env: {},
      behind: (app) => void app.use((_req, res) => void res.json({ prompt_id: 'x' })),
    });
    cleanups.push(() => gateway.close());
    for (let n = 0; n < 2; n += 1) {
      const answer = await post(`${gateway.url}/api/prompt`, promptText()).answer;
      expect(answer.headers).not.toHaveProperty('x-job-id');
    }
    expect(gateway.log).toEqual([expect.stringMatching(/^POST \/api\/prompt passes untracked/)]);
    expect(await gateway.tracker.jobs.list()).toMatchObject({ total: 0 });
  });
});

describe('the gateway', () => {
  test('that is restarted finishes what has ended meanwhile, and follows what still runs', async () => {
    let gateway = await start();
    comfy.state.hold();
    const first = await prompt(gateway, { seed: '1' });
    const second = await prompt(gateway, { seed: '2' });
    await until(gateway, first.id, ({ status }) => status === 'Processing');
    await gateway.close();
    const finished = once(comfy.state, 'finished');
    comfy.state.releaseOne();
    await finished;
    gateway = await start();
    expect(await gateway.ended(first.id)).toMatchObject({ status: 'Completed' });
    expect((await gateway.tracker.jobs.get(second.id))?.finished_at).toBeUndefined();
    comfy.state.release();
    expect(await gateway.ended(second.id)).toMatchObject({
      status: 'Completed',
      output_paths: [expect.any(String)],
    });
  });

  test('that is restarted keeps no request of a job that it has followed to a good end', async () => {
    let gateway = await start();
    comfy.state.hold();
    const prefer = { headers: { Prefer: 'respond-async' } };
    const answer = await post(`${gateway.url}/prompt`, promptText(), prefer).answer;
    const id = String(answer.headers['x-job-id']);
    await until(gateway, id, ({ status }) => status === 'Processing');
    await gateway.close();
    expect(await readdir(join(dir, 'requests'))).toEqual([`${id}.request`]);
    gateway = await start();
    comfy.state.release();
    expect((await gateway.ended(id)).status).toBe('Completed');
    await gateway.close();
    expect(await readdir(join(dir, 'requests'))).toEqual([]);
  });

  test('takes the place of files that a killed one has left of a job', async () => {
    let gateway = await start();
    comfy.state.hold();
    const { id } = await prompt(gateway);
    await until(gateway, id, ({ status }) => status === 'Processing');
    await gateway.close();
    comfy.state.release();
    const record = JSON.parse(await readFile(join(dir, 'jobs.json'), 'utf8'))[0] as Job;
    const day = new Date(record.timestamp * 1000).toISOString().slice(0, 10);
    await mkdir(join(dir, 'output', day), { recursive: true });
    await writeFile(join(dir, 'output', day, `${id}-0.png`), 'an older half');
    gateway = await start();
    const job = await gateway.ended(id);
    expect(job).toMatchObject({ status: 'Completed', output_paths: [`${day}/${id}-0.png`] });
    const image = await call(`${gateway.url}/sdapi/v1/job/${id}/images/0`).answer;
    expect(image.body.equals(await readFile(comfy.state.executions[0]?.files[0] as string))).toBe(true);
  });

  test('that comes back without ComfyUI’s address fails its jobs', async () => {
    let gateway = await start();
    comfy.state.hold();
    const { id } = await prompt(gateway);
    await gateway.close();
    gateway = await startGateway({ dir, env: {} });
    cleanups.push(() => gateway.close());
    expect(await gateway.tracker.jobs.get(id)).toMatchObject({
      status: 'Failed',
      error: { code: 'interrupted' },
    });
    comfy.state.release();
  });
});

describe('a client', () => {
  const ticket = '{"prompt_id": "p1", "number": 7.0, "node_errors": {}}';
  let prompts: number;
  let backend: ScriptedBackend;

  /** A ComfyUI that answers its first prompt, by default with a ticket, only once the gate is open. */
  async function startHolding(answerFirst = (res: ServerResponse) => void res.end(ticket)) {
    const held = gate();
    prompts = 0;
    backend = await startScriptedBackend(async (res, _body, req) => {
      const answers: Record<string, string> = {
        '/prompt': ticket,
        '/queue': '{"queue_running": [], "queue_pending": []}',
        '/history/p1':
          '{"p1": {"prompt": [], "outputs": {}, "status": {"status_str": "success", "completed": true}}}',
      };
      res.setHeader('Content-Type', 'application/json; charset=utf-8');
      if (req.method === 'POST') prompts += 1;
      if (req.method === 'POST' && prompts === 1) {
        await held.opened;
        answerFirst(res);
      } else res.end(answers[req.url ?? '']);
    });
    cleanups.push(() => backend.close());
    return held;
  }

  async function connected(gateway: Gateway, count: number): Promise<void> {
    await soon(
      () => new Promise((resolve) => gateway.server.getConnections((_error, now) => resolve(now === count))),
    );
    // What has come is where it has to wait.
    for (let turn = 0; turn < 20; turn += 1) await call(`${gateway.url}/sdapi/v1/jobs`).answer;
  }

  /** Sends a prompt and leaves while ComfyUI has not answered it; resolves to the job's id. */
  async function lose(gateway: Gateway): Promise<string> {
    const lost = post(`${gateway.url}/prompt`, promptText());
    await backend.received();
    await connected(gateway, 1);
    lost.request.destroy();
    await connected(gateway, 0);
    const [job] = (await gateway.tracker.jobs.list()).jobs;
    return job?.id as string;
  }

  test('that leaves before the answer finds its ticket by sending the same prompt again', async () => {
    const held = await startHolding();
    const gateway = await start({ comfyui: backend.url });
    const id = await lose(gateway);
    // The second one leaves as well.
    expect(await lose(gateway)).toBe(id);
    const again = post(`${gateway.url}/prompt`, promptText());
    await connected(gateway, 1);
    held.open();
    const answer = await again.answer;
    expect([answer.headers['x-job-id'], answer.body.toString()]).toEqual([id, ticket]);
    expect(prompts).toBe(1);
    expect((await gateway.ended(id)).status).toBe('Completed');
  });

  test('that waits for the ticket of a prompt which is refused gets one of its own', async () => {
    const held = await startHolding((res) => void res.writeHead(400).end('{"error": "busy"}'));
    const gateway = await start({ comfyui: backend.url });
    const id = await lose(gateway);
    const again = post(`${gateway.url}/prompt`, promptText());
    await connected(gateway, 1);
    held.open();
    const answer = await again.answer;
    expect([answer.status, answer.body.toString(), prompts]).toEqual([200, ticket, 2]);
    expect(answer.headers['x-job-id']).not.toBe(id);
    expect(await gateway.tracker.jobs.get(id)).toMatchObject({ status: 'Failed' });
    expect((await gateway.ended(String(answer.headers['x-job-id']))).status).toBe('Completed');
  });

  test('whose ticket comes when the gateway is being stopped gets it; the next one follows the job', async () => {
    const held = await startHolding();
    let gateway = await start({ comfyui: backend.url });
    const sent = post(`${gateway.url}/prompt`, promptText());
    await backend.received();
    const closing = gateway.tracker.close();
    await connected(gateway, 1);
    held.open();
    const answer = await sent.answer;
    expect(answer.body.toString()).toBe(ticket);
    await closing;
    await gateway.close();
    gateway = await start({ comfyui: backend.url });
    expect(await gateway.ended(String(answer.headers['x-job-id']))).toMatchObject({ status: 'Completed' });
    expect(prompts).toBe(1);
  });

  test('that sends the same prompt twice gets two jobs', async () => {
    const gateway = await start();
    const first = await prompt(gateway);
    const second = await prompt(gateway);
    expect(first.id).not.toBe(second.id);
    expect(comfy.state.executions).toHaveLength(2);
  });

  test('that names its request by a key gets the same ticket', async () => {
    const gateway = await start();
    const headers = { 'Idempotency-Key': '"one"' };
    const [first, second] = [
      await post(`${gateway.url}/prompt`, promptText(), { headers }).answer,
      await post(`${gateway.url}/prompt`, promptText(), { headers }).answer,
    ];
    expect(second?.body.equals(first?.body as Buffer)).toBe(true);
    expect(second?.headers['x-job-id']).toBe(first?.headers['x-job-id']);
    expect(comfy.state.executions).toHaveLength(1);
  });

  test('that would rather not wait gets 202, and the prompt runs', async () => {
    const gateway = await start();
    const answer = await post(`${gateway.url}/prompt`, promptText(), { headers: { Prefer: 'respond-async' } })
      .answer;
    expect(answer.status).toBe(202);
    const id = String(answer.headers['x-job-id']);
    expect(await gateway.ended(id)).toMatchObject({ status: 'Completed', accepted: true });
  });
});

describe('in wrap mode', () => {
  test('with its address, prompts that the host forwards are followed', async () => {
    const gateway = await start({
      forward: false,
      behind: (app) =>
        void app.use(async (req, res) => {
          const chunks: Buffer[] = [];
          for await (const chunk of req) chunks.push(chunk as Buffer);
          const answer = await fetch(`${comfyUrl}${req.url}`, {
            method: 'POST',
            body: Buffer.concat(chunks),
          });
          res
            .status(answer.status)
            .type('json')
            .send(await answer.text());
        }),
    });
    const { id } = await prompt(gateway);
    expect(await gateway.ended(id)).toMatchObject({
      status: 'Completed',
      output_paths: [expect.any(String)],
    });
  });
});

describe('both backends', () => {
  test('each gets its own', async () => {
    const { createDemoA1111 } = await import('../../examples/demo-backend.js');
    const a1111 = createDemoA1111({ generationMs: 0 });
    cleanups.push(() => a1111.close());
    const gateway = await start({ a1111: await a1111.listen() });
    const { id } = await prompt(gateway);
    const picture = await post(`${gateway.url}/sdapi/v1/txt2img`, { prompt: 'x', width: 64, height: 64 })
      .answer;
    expect(picture.status).toBe(200);
    expect((await gateway.ended(id)).backend).toBe('comfyui');
    expect((await call(`${gateway.url}/sdapi/v1/samplers`).answer).status).toBe(200);
    expect((await call(`${gateway.url}/internal/ping`).answer).status).toBe(200);
    expect(JSON.parse((await call(`${gateway.url}/queue`).answer).body.toString())).toEqual({
      queue_running: [],
      queue_pending: [],
    });
    expect(a1111.state.requests.map(({ url }) => url)).not.toContain('/queue');
    const jobs = await getJson<Job[]>(`${gateway.url}/sdapi/v1/jobs?backend=comfyui`);
    expect(jobs.map((job) => job.id)).toEqual([id]);
  });
});
