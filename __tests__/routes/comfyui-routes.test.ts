import { once } from 'node:events';
import { readFileSync, rmSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from '@jest/globals';
import express, { type Express } from 'express';
import { createDemoComfyUI, type DemoComfyUI, type DemoComfyUIOptions } from '../../examples/demo-comfyui.js';
import { FileImageStore } from '../../lib/images/file-image-store.js';
import type { ComfyUIFile, Job } from '../../lib/job.js';
import { type ComfyAnswer, type ComfyCall, callComfy, standardWorkflow } from '../helpers/comfy-client.js';
import {
  entryText,
  type KeptComfyJob,
  keepComfyJobs,
  makeComfyJob,
  promptIdOf,
} from '../helpers/comfyui-jobs.js';
import { collectingLogger, type Gateway, type GatewayOptions, startGateway } from '../helpers/gateway.js';
import { rawClient } from '../helpers/raw-http.js';
import { sampleImages } from '../helpers/sample-images.js';
import { type ScriptedBackend, startScriptedBackend } from '../helpers/scripted-backend.js';
import { tempFolders } from '../helpers/temp-folder.js';

const newFolder = tempFolders();
const closing: (() => Promise<void>)[] = [];
const png = sampleImages.png as Buffer;
/** Nobody listens there. */
const NOBODY = 'http://127.0.0.1:9';

afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

async function startComfy(options: DemoComfyUIOptions = {}): Promise<DemoComfyUI & { url: string }> {
  const demo = createDemoComfyUI({ generationMs: 0, ...options });
  closing.push(() => demo.close());
  return { ...demo, url: await demo.listen() };
}

async function start(options: GatewayOptions): Promise<Gateway> {
  const gateway = await startGateway({ env: {}, ...options });
  closing.push(() => gateway.close());
  return gateway;
}

/** A gateway in front of nobody, with these jobs in its folder. */
async function startKept(kept: readonly KeptComfyJob[], options: GatewayOptions = {}): Promise<Gateway> {
  const dir = await newFolder();
  await keepComfyJobs(dir, kept);
  return start({ dir, comfyui: NOBODY, ...options });
}

async function script(answer: ScriptedBackend['script']): Promise<ScriptedBackend> {
  const backend = await startScriptedBackend(answer);
  closing.push(() => backend.close());
  return backend;
}

const basic = (login: string) => ({ Authorization: `Basic ${Buffer.from(login).toString('base64')}` });
const ann = basic('ann:uno');
const bob = basic('bob:two');
const root = basic('root:three');
const LOGINS = { auth: 'ann:uno,bob:two,root:three', admins: ['root'] };

/** Runs a prompt through the gateway to its end there. */
async function run(
  gateway: Gateway,
  prompt: object | string = standardWorkflow(),
  { headers = {}, path = '/prompt' }: { headers?: Record<string, string>; path?: string } = {},
): Promise<Job> {
  const body = typeof prompt === 'string' ? prompt : JSON.stringify({ prompt });
  const answer = await callComfy(gateway.url + path, { body, headers });
  expect({ status: answer.status, text: answer.text }).toMatchObject({ status: 200 });
  const job = await gateway.ended(String(answer.headers['x-job-id']));
  expect(job).toMatchObject({ status: 'Completed', prompt_id: JSON.parse(answer.text).prompt_id });
  return job;
}

const viewPath = (file: Record<string, string> | ComfyUIFile) => `/view?${new URLSearchParams({ ...file })}`;
const fileOf = (job: Job, n = 0) => job.comfyui_files?.[n] as ComfyUIFile;
const idsIn = ({ text }: ComfyAnswer) => Object.keys(JSON.parse(text));

/** What of an answer has to be the same, whoever gives it. */
function essence({ status, headers, text }: ComfyAnswer) {
  const { 'content-type': type, 'content-length': length, 'content-disposition': disposition } = headers;
  return { status, text, type, length, disposition };
}

/** Two kinds of files more, one of them in a folder of its own. */
const others = {
  '20': { class_type: 'SaveAnimatedWEBP', inputs: { filename_prefix: 'ani/ö', images: ['8', 0] } },
  '21': { class_type: 'VAEDecodeHunyuan3D', inputs: { samples: ['3', 0], vae: ['4', 2] } },
  '22': { class_type: 'VoxelToMeshBasic', inputs: { voxel: ['21', 0], threshold: 0.6 } },
  '23': { class_type: 'SaveGLB', inputs: { mesh: ['22', 0], filename_prefix: 'mesh/x' } },
  '24': { class_type: 'PreviewImage', inputs: { images: ['8', 0] } },
};

describe('when ComfyUI has forgotten', () => {
  test.each(['/', '/api/'])(
    'below %s, the history and files are answered as before, byte for byte',
    async (root) => {
      const prefix = root.slice(0, -1);
      const comfy = await startComfy();
      const gateway = await start({ dir: await newFolder(), comfyui: comfy.url });
      const workflow = JSON.stringify({
        prompt: { ...standardWorkflow({ prefix: 'sub/demo', batchSize: 2 }), ...others },
      });
      const seeded = workflow.replace('"seed":7', '"seed":18446744073709551615');
      const first = await run(gateway, seeded, { path: `${prefix}/prompt` });
      const second = await run(gateway, standardWorkflow({ text: 'é', seed: 1 }));
      expect(first.comfyui_files).toHaveLength(6);

      const paths = [
        '/history',
        '/history?max_items=1',
        '/history?max_items=5',
        '/history?max_items=1&offset=0',
        '/history?offset=1',
        `/history/${first.prompt_id}`,
        `/history/${second.prompt_id}`,
        '/history/unknown',
        ...[...(first.comfyui_files ?? []), fileOf(second)].map(viewPath),
      ].map((path) => prefix + path);
      const ask = async () => {
        const answers = await Promise.all(paths.map((path) => callComfy(gateway.url + path)));
        return answers.map((answer, n) => [paths[n], essence(answer)]);
      };
      const before = await ask();
      const textOf = (n: number) => (before[n] as [string, ReturnType<typeof essence>])[1].text;
      const entry = textOf(5);
      expect(entry).toContain('"seed": 18446744073709551615, ');
      expect(entry).toContain('"cfg": 8.0, ');

      comfy.restart();
      expect((await callComfy(`${comfy.url}/history`)).text).toBe('{}');
      // Files in the output folder may go as well.
      rmSync(join(comfy.dir, 'output'), { recursive: true });
      expect(await ask()).toEqual(before);
      const third = await run(gateway, standardWorkflow({ seed: 3 }));
      const all = await callComfy(`${gateway.url}${prefix}/history`);
      expect(idsIn(all)).toEqual([first.prompt_id, second.prompt_id, third.prompt_id]);
      expect(all.text.startsWith(textOf(0).slice(0, -1))).toBe(true);
    },
  );

  test('two prompts that name the same cached file both have it', async () => {
    const comfy = await startComfy();
    const gateway = await start({ dir: await newFolder(), comfyui: comfy.url });
    const first = await run(gateway);
    const second = await run(gateway);
    expect(fileOf(second)).toEqual(fileOf(first));
    const path = viewPath(fileOf(first));
    const { body } = await callComfy(gateway.url + path);
    comfy.restart();
    rmSync(join(comfy.dir, 'output'), { recursive: true });
    expect((await callComfy(gateway.url + path)).body.equals(body)).toBe(true);
    await gateway.tracker.jobs.remove(second.id);
    expect((await callComfy(gateway.url + path)).body.equals(body)).toBe(true);
    expect(idsIn(await callComfy(`${gateway.url}/history`))).toEqual([first.prompt_id]);
    await gateway.tracker.jobs.remove(first.id);
    expect(await callComfy(gateway.url + path)).toMatchObject({ status: 404, text: '' });
    expect((await callComfy(`${gateway.url}/history`)).text).toBe('{}');
  });

  test('a failed prompt stands in the history, too, also after a restart of the gateway', async () => {
    const comfy = await startComfy();
    const dir = await newFolder();
    const gateway = await startGateway({ env: {}, dir, comfyui: comfy.url });
    const answer = await callComfy(`${gateway.url}/prompt`, {
      body: { prompt: standardWorkflow({ text: '[fail]' }) },
    });
    const failed = await gateway.ended(String(answer.headers['x-job-id']));
    const { text } = await callComfy(`${gateway.url}/history`);
    expect(text).toContain('execution_error');
    comfy.restart();
    expect((await callComfy(`${gateway.url}/history`)).text).toBe(text);
    await gateway.close();
    const next = await start({ dir, comfyui: comfy.url });
    expect((await callComfy(`${next.url}/history`)).text).toBe(text);
    expect((await callComfy(`${next.url}/history/${failed.prompt_id}`)).text).toBe(text);
  });

  test('HEAD is answered like GET, without the body', async () => {
    const comfy = await startComfy();
    const gateway = await start({ dir: await newFolder(), comfyui: comfy.url });
    const job = await run(gateway);
    comfy.restart();
    rmSync(join(comfy.dir, 'output'), { recursive: true });
    for (const path of ['/history', `/history/${job.prompt_id}`, viewPath(fileOf(job))]) {
      const [head, get] = [
        await callComfy(gateway.url + path, { method: 'HEAD' }),
        await callComfy(gateway.url + path),
      ];
      expect(essence(head)).toEqual({ ...essence(get), text: '' });
    }
  });

  test('it is polled without end, and costs a read for each entry once', async () => {
    const dir = await newFolder();
    const entry = entryText('x');
    const kept = Array.from({ length: 10_000 }, (_, n) => ({
      job: makeComfyJob(n),
      // Older ones are not looked at.
      entry: n < 9_800 ? null : entry,
    }));
    await keepComfyJobs(dir, kept);
    const images = new FileImageStore({ folder: join(dir, 'output'), logger: collectingLogger([]) });
    const { read } = images;
    let reads = 0;
    images.read = (path) => {
      reads += 1;
      return read.call(images, path);
    };
    const backend = await script((res) => void res.end('{}'));
    const gateway = await start({ dir, images, comfyui: backend.url });
    reads = 0;
    const expected = kept.slice(-200).map(({ job }) => job.prompt_id);
    for (let count = 0; count < 20; count += 1) {
      expect(idsIn(await callComfy(`${gateway.url}/history`))).toEqual(expected);
    }
    expect(reads).toBe(200);
  });

  test('an entry whose sidecar is gone, or damaged, is left out', async () => {
    const gateway = await startKept([
      { job: makeComfyJob(1) },
      { job: makeComfyJob(2), entry: null },
      { job: makeComfyJob(3), entry: '{"prompt": [' },
      { job: makeComfyJob(4) },
    ]);
    const history = await callComfy(`${gateway.url}/history?max_items=4`);
    expect(idsIn(history)).toEqual([promptIdOf(1), promptIdOf(4)]);
    expect(idsIn(await callComfy(`${gateway.url}/history?max_items=2`))).toEqual([
      promptIdOf(1),
      promptIdOf(4),
    ]);
    expect(gateway.log.filter((line) => line.includes('history entry in'))).toHaveLength(2);
  });

  test('entries are in the order in which their prompts ended', async () => {
    const gateway = await startKept([
      { job: makeComfyJob(1, { finished_at: 1_790_000_500 }) },
      { job: makeComfyJob(2) },
      // Run again under the same id: the later one stands for both.
      { job: makeComfyJob(3, { prompt_id: promptIdOf(2) }), entry: '{"again": 8.0}' },
    ]);
    const { text } = await callComfy(`${gateway.url}/history`);
    expect(text).toBe(
      `{"${promptIdOf(2)}": {"again": 8.0}, "${promptIdOf(1)}": ${entryText(promptIdOf(1))}}`,
    );
  });
});

describe('while ComfyUI cannot be reached', () => {
  const kept = {
    job: makeComfyJob(1, { comfyui_files: [{ filename: 'a.png', subfolder: '', type: 'output' }] }),
    files: [png],
  };

  test('what is kept is answered, and the rest with the forwarder’s words', async () => {
    const gateway = await startKept([kept]);
    const text = `{"${promptIdOf(1)}": ${entryText(promptIdOf(1), kept.job.comfyui_files)}}`;
    for (const path of ['/history', '/history?max_items=3', `/api/history/${promptIdOf(1)}`]) {
      const answer = await callComfy(gateway.url + path);
      expect(answer).toMatchObject({ status: 200, text });
      expect(answer.headers['content-type']).toBe('application/json; charset=utf-8');
    }
    expect((await callComfy(`${gateway.url}/view?filename=a.png`)).body.equals(png)).toBe(true);
    const { status, text: words } = await callComfy(`${gateway.url}/system_stats`);
    expect(status).toBe(502);
    for (const path of ['/history/unknown', '/view?filename=b.png', '/history?max_items=x']) {
      expect(await callComfy(gateway.url + path)).toMatchObject({ status: 502, text: words });
    }
  });

  test('its guard against pages of other sites is applied in its place', async () => {
    const gateway = await startKept([kept]);
    for (const path of ['/history', `/history/${promptIdOf(1)}`, '/view?filename=a.png']) {
      for (const headers of [{ 'Sec-Fetch-Site': 'cross-site' }, { Origin: 'http://evil.example' }]) {
        expect(await callComfy(gateway.url + path, { headers })).toMatchObject({ status: 403, text: '' });
      }
      const headers = { Origin: gateway.url, 'Sec-Fetch-Site': 'same-origin' };
      expect((await callComfy(gateway.url + path, { headers })).status).toBe(200);
    }
  });

  test('nothing is deleted', async () => {
    const gateway = await startKept([kept]);
    for (const body of [{ clear: true }, { delete: [promptIdOf(1)] }]) {
      expect((await callComfy(`${gateway.url}/history`, { body })).status).toBe(502);
    }
    expect(idsIn(await callComfy(`${gateway.url}/history`))).toEqual([promptIdOf(1)]);
  });
});

describe('what is ComfyUI’s to say is passed on', () => {
  test('status, headers and body of its refusals', async () => {
    const comfy = await startComfy();
    const gateway = await start({ dir: await newFolder(), comfyui: comfy.url });
    const job = await run(gateway);
    const calls: [string, ComfyCall][] = [
      ['/history?max_items=x', {}],
      ['/history?offset=', {}],
      ['/history/', {}],
      ['/history/a/b', {}],
      ['/history', { headers: { 'Sec-Fetch-Site': 'cross-site' } }],
      [`/history/${job.prompt_id}`, { headers: { Origin: 'http://evil.example' } }],
      [viewPath(fileOf(job)), { headers: { 'Sec-Fetch-Site': 'cross-site' } }],
      ['/history', { body: 'no JSON' }],
      ['/history', { method: 'PUT', body: '{}' }],
      ['/view', {}],
      ['/view?filename=../x.png', {}],
      ['/view?filename=/etc/passwd', {}],
      ['/view?filename=x.png&subfolder=../..', {}],
      ['/view?filename=x.png&type=other', {}],
    ];
    for (const [path, call] of calls) {
      const [theirs, ours] = await Promise.all([
        callComfy(comfy.url + path, call),
        callComfy(gateway.url + path, call),
      ]);
      expect([path, essence(ours)]).toEqual([
        path,
        { ...essence(theirs), length: ours.headers['content-length'] },
      ]);
      expect(theirs.status).not.toBe(200);
      expect(ours.headers.server).toBe(theirs.headers.server);
    }
    expect(idsIn(await callComfy(`${gateway.url}/history`))).toEqual([job.prompt_id]);
  });

  test('its files, with the encoding that is asked for', async () => {
    const comfy = await startComfy();
    const gateway = await start({ dir: await newFolder(), comfyui: comfy.url });
    const job = await run(gateway);
    const path = `${viewPath(fileOf(job))}&channel=rgb`;
    const theirs = await callComfy(comfy.url + path);
    expect((await callComfy(gateway.url + path)).body.equals(theirs.body)).toBe(true);
    comfy.restart();
    rmSync(join(comfy.dir, 'output'), { recursive: true });
    const kept = await callComfy(gateway.url + path);
    expect(kept.body.equals(theirs.body)).toBe(false);
    expect((await callComfy(gateway.url + viewPath(fileOf(job)))).body.equals(kept.body)).toBe(true);
  });

  test('the client’s headers, but for a login of the tracker’s own', async () => {
    const seen: Record<string, unknown>[] = [];
    const backend = await script((res, _body, req) => {
      seen.push(req.headers);
      res.end('{}');
    });
    const headers = { 'X-Any': 'thing', Range: 'bytes=0-1', 'Accept-Encoding': 'gzip', ...ann };
    const open = await start({ dir: await newFolder(), comfyui: backend.url });
    await callComfy(`${open.url}/history`, { headers });
    expect(seen.splice(0)).toEqual([
      expect.objectContaining({
        host: `127.0.0.1:${open.port}`,
        'x-any': 'thing',
        authorization: ann.Authorization,
        'accept-encoding': 'identity',
        'x-forwarded-for': '127.0.0.1',
      }),
    ]);
    const url = backend.url.replace('//', '//gate:way@');
    // Those in the address are for the tracker's own calls.
    const strangers = await start({ dir: await newFolder(), comfyui: url });
    await callComfy(`${strangers.url}/history`);
    expect(seen.splice(0).map(({ authorization }) => authorization)).toEqual([undefined]);
    const closed = await start({ dir: await newFolder(), comfyui: url, ...LOGINS });
    await callComfy(`${closed.url}/history`, { headers });
    await callComfy(`${closed.url}/history`, { headers, body: '{"delete": []}' });
    expect(seen.map(({ authorization, range }) => [authorization, range])).toEqual(
      Array(2).fill([basic('gate:way').Authorization, undefined]),
    );
  });
});

describe('deleting', () => {
  test('it takes entries out on both sides, for good, and leaves jobs and images', async () => {
    const comfy = await startComfy();
    const dir = await newFolder();
    const gateway = await startGateway({ env: {}, dir, comfyui: comfy.url });
    const first = await run(gateway);
    const second = await run(gateway, standardWorkflow({ seed: 2 }));
    const third = await run(gateway, standardWorkflow({ seed: 3 }));
    const deleted = await callComfy(`${gateway.url}/api/history`, {
      body: `{"delete": ["${first.prompt_id}", "unknown"]}`,
      headers: { 'Content-Type': 'text/plain' },
    });
    expect(deleted).toMatchObject({ status: 200, text: '' });
    expect(idsIn(await callComfy(`${comfy.url}/history`))).toEqual([second.prompt_id, third.prompt_id]);
    comfy.restart();
    rmSync(join(comfy.dir, 'output'), { recursive: true });
    expect(idsIn(await callComfy(`${gateway.url}/history`))).toEqual([second.prompt_id, third.prompt_id]);
    expect((await callComfy(`${gateway.url}/history/${first.prompt_id}`)).text).toBe('{}');
    expect((await callComfy(`${gateway.url}/history`, { body: { clear: true } })).status).toBe(200);
    expect((await callComfy(`${gateway.url}/history`)).text).toBe('{}');
    // Whoever had the answer finds it so after a power cut.
    const journal = ['jobs.json', 'jobs.json.journal']
      .map((name) => readFileSync(join(dir, name), 'utf8'))
      .join('');
    expect(journal.match(/"history_deleted":true/g)?.length).toBeGreaterThanOrEqual(3);
    await gateway.close();
    const next = await start({ dir, comfyui: comfy.url });
    expect((await callComfy(`${next.url}/history`)).text).toBe('{}');
    const job = JSON.parse((await callComfy(`${next.url}/sdapi/v1/job/${first.id}`)).text);
    expect(job.images).toHaveLength(1);
    const image = await callComfy(next.url + viewPath(fileOf(first)));
    expect(image.body.toString('base64')).toBe(job.images[0]);
  });

  test('a parser of the host’s may have read the body', async () => {
    const comfy = await startComfy();
    const gateway = await start({
      dir: await newFolder(),
      comfyui: comfy.url,
      front: (app) => app.use(express.json()),
    });
    const job = await run(gateway);
    const headers = { 'Content-Type': 'application/json' };
    await callComfy(`${gateway.url}/history`, { body: { delete: [job.prompt_id] }, headers });
    expect((await callComfy(`${comfy.url}/history`)).text).toBe('{}');
    expect((await callComfy(`${gateway.url}/history`)).text).toBe('{}');
  });

  test('what ComfyUI does not take for true, or refuses, changes nothing', async () => {
    const comfy = await startComfy();
    const gateway = await start({ dir: await newFolder(), comfyui: comfy.url });
    const job = await run(gateway);
    comfy.restart();
    for (const body of [
      '{"clear": false}',
      '{"clear": 0}',
      '{"clear": ""}',
      '{}',
      '{"clear": true,}',
      '[]',
    ]) {
      await callComfy(`${gateway.url}/history`, { body });
      expect([body, idsIn(await callComfy(`${gateway.url}/history`))]).toEqual([body, [job.prompt_id]]);
    }
    await callComfy(`${gateway.url}/history`, { body: '{"clear": "yes"}' });
    expect((await callComfy(`${gateway.url}/history`)).text).toBe('{}');
  });

  test('10,000 entries go at once, and others are served meanwhile', async () => {
    const backend = await script((res) => void res.end('{}'));
    const kept = Array.from({ length: 10_000 }, (_, n) => ({ job: makeComfyJob(n), entry: null }));
    const gateway = await startKept(kept, { comfyui: backend.url });
    const cleared = callComfy(`${gateway.url}/history`, { body: { clear: true } });
    let served = 0;
    let isDone = false;
    void cleared.then(() => {
      isDone = true;
    });
    while (!isDone) {
      await callComfy(`${gateway.url}/sdapi/v1/jobs?limit=1`);
      served += 1;
    }
    expect(served).toBeGreaterThan(5);
    expect((await gateway.tracker.jobs.get('Job00000'))?.history_deleted).toBe(true);
    expect((await callComfy(`${gateway.url}/history?max_items=20000`)).text).toBe('{}');
  });

  test('an entry that is deleted while its files are still being fetched stays deleted', async () => {
    const files = [{ filename: 'a.png', subfolder: '', type: 'output' }];
    const id = promptIdOf(7);
    let view = () => {};
    const viewed = new Promise<void>((resolve) => {
      view = resolve;
    });
    let deleted = false;
    const backend = await script((res, body, req) => {
      if (req.url === '/prompt') res.end(`{"prompt_id": "${id}", "number": 0, "node_errors": {}}`);
      else if (req.url === '/queue') res.end('{"queue_running": [], "queue_pending": []}');
      else if (req.url?.startsWith('/view')) {
        view();
        backendView = () => res.end(png);
      } else if (req.method === 'POST') {
        deleted = body.includes(id);
        res.end();
      } else res.end(deleted ? '{}' : `{"${id}": ${entryText(id, files)}}`);
    });
    let backendView = () => {};
    const gateway = await start({ dir: await newFolder(), comfyui: backend.url });
    const answer = await callComfy(`${gateway.url}/prompt`, { body: { prompt: {} } });
    await viewed;
    await callComfy(`${gateway.url}/history`, { body: { delete: [id] } });
    backendView();
    const job = await gateway.ended(String(answer.headers['x-job-id']));
    expect(job).toMatchObject({ status: 'Completed', history_deleted: true, comfyui_files: files });
    expect((await callComfy(`${gateway.url}/history`)).text).toBe('{}');
  });
});

describe('where users are told apart', () => {
  async function startShared(options: GatewayOptions = LOGINS) {
    const comfy = await startComfy();
    const gateway = await start({ dir: await newFolder(), comfyui: comfy.url, ...options });
    const anns = await run(gateway, standardWorkflow({ seed: 1 }), { headers: ann });
    const bobs = await run(gateway, standardWorkflow({ seed: 2, prefix: 'bob/pic' }), { headers: bob });
    // Past the gateway, and so nobody's.
    const finished = once(comfy.state, 'finished');
    const { text } = await callComfy(`${comfy.url}/prompt`, {
      body: { prompt: standardWorkflow({ seed: 3 }) },
    });
    await finished;
    return { comfy, gateway, anns, bobs, free: JSON.parse(text).prompt_id as string };
  }

  /** The host's own logins have the same form as ours, which the tracker does not know. */
  const user = ({ headers }: IncomingMessage) =>
    Buffer.from(headers.authorization?.slice('Basic '.length) ?? '', 'base64')
      .toString()
      .split(':')[0];
  const setups: Readonly<Record<string, GatewayOptions>> = {
    'by our own logins': LOGINS,
    'by the host': { user, admins: LOGINS.admins },
  };

  test.each(Object.keys(setups))('%s, entries are shown to their makers and to admins only', async (name) => {
    const { comfy, gateway, anns, bobs, free } = await startShared(setups[name]);
    const shown = async (headers: Record<string, string>, query = '') =>
      idsIn(await callComfy(`${gateway.url}/history${query}`, { headers }));
    for (const isForgotten of [false, true]) {
      if (isForgotten) comfy.restart();
      const others = isForgotten ? [] : [free];
      expect(await shown(ann)).toEqual([anns.prompt_id, ...others]);
      expect(await shown(bob)).toEqual([bobs.prompt_id, ...others]);
      expect(await shown(root)).toEqual([anns.prompt_id, bobs.prompt_id, ...others]);
      expect(await shown(ann, '?max_items=2')).toEqual([anns.prompt_id, ...others]);
      expect(await shown(ann, '?max_items=1&offset=0')).toEqual([anns.prompt_id]);
      const entry = async (headers: Record<string, string>) =>
        essence(await callComfy(`${gateway.url}/history/${bobs.prompt_id}`, { headers }));
      const unknown = essence(await callComfy(`${gateway.url}/history/unknown`, { headers: ann }));
      expect(await entry(ann)).toEqual(unknown);
      expect((await entry(bob)).text).toContain(bobs.prompt_id);
      expect(await entry(root)).toEqual(await entry(bob));
    }
  });

  test('files are shown likewise, however their names are written', async () => {
    const { comfy, gateway, anns, bobs } = await startShared();
    const ask = (path: string, headers: Record<string, string>) => callComfy(gateway.url + path, { headers });
    const file = fileOf(bobs);
    const own = viewPath(file);
    const ways = [
      own,
      `/api${own}`,
      `${own}&type=temp`,
      own.replace('subfolder=bob', 'subfolder=./bob//'),
      own.replace('subfolder=bob', 'subfolder=x/../bob'),
      own.replace('subfolder=bob', `subfolder=${encodeURIComponent(join(comfy.dir, 'output/bob'))}`),
      own.replace('subfolder=bob', 'subfolder=../output/bob'),
      own.replace('subfolder=bob', 'subfolder=BOB'),
      own.replace('filename=', 'filename=x/'),
      own.replace('.png', '.png [output]').replace('type=output', 'type=temp'),
      own.replace('/view', '/%76iew'),
      own.replace('/view', '//view'),
      own.replace('/view', '/./view'),
      own.replace('/view', '/view/'),
    ];
    for (const path of ways)
      expect([path, await ask(path, ann)]).toMatchObject([path, { status: 404, text: '' }]);
    const { body } = await ask(own, bob);
    expect(body.subarray(1, 4).toString()).toBe('PNG');
    expect((await ask(own, root)).body.equals(body)).toBe(true);
    expect((await ask(viewPath(fileOf(anns)), ann)).status).toBe(200);
    // A folder of the same name, which is nobody's.
    expect((await ask(own.replace('pic_', 'other_'), ann)).status).toBe(404);
    comfy.restart();
    rmSync(join(comfy.dir, 'output'), { recursive: true });
    for (const path of ways) expect([path, await ask(path, ann)]).toMatchObject([path, { status: 404 }]);
    expect((await ask(own, bob)).body.equals(body)).toBe(true);
  });

  test('a fragment, which ComfyUI drops, hides nothing', async () => {
    const { comfy, gateway, bobs } = await startShared();
    const own = viewPath(fileOf(bobs));
    const ways = [
      `${own}#`,
      `${own}#x`,
      own.replace('?', '?x=/?#&').replace('#', '%23'),
      `${own}#?filename=x`,
    ];
    for (const target of ways) {
      const client = rawClient(
        gateway.port,
        `GET ${target} HTTP/1.1\r\nHost: x\r\nAuthorization: ${ann.Authorization}\r\nConnection: close\r\n\r\n`,
      );
      await client.ended;
      expect([target, client.text.split('\r\n')[0]]).toEqual([target, 'HTTP/1.1 404 Not Found']);
    }
    expect(comfy.state.requests.filter(({ url }) => url.includes('#'))).toEqual([]);
  });

  test('a prompt under the id of somebody else’s does not come by what theirs has made', async () => {
    const id = promptIdOf(3);
    const backend = await script((res, _body, req) => {
      if (req.url === '/prompt') res.end(`{"prompt_id": "${id}", "number": 0, "node_errors": {}}`);
      else if (req.url === '/queue') res.end('{"queue_running": [], "queue_pending": []}');
      else if (req.url?.startsWith('/view')) res.end(png);
      else
        res.end(`{"${id}": ${entryText(id, [{ filename: 'secret.png', subfolder: '', type: 'output' }])}}`);
    });
    const gateway = await start({ dir: await newFolder(), comfyui: backend.url, ...LOGINS });
    const end = async (headers: Record<string, string>) => {
      const answer = await callComfy(`${gateway.url}/prompt`, { body: { prompt: {} }, headers });
      return gateway.ended(String(answer.headers['x-job-id']));
    };
    expect(await end(ann)).toMatchObject({ status: 'Completed', output_paths: [expect.any(String)] });
    const stolen = await end(bob);
    expect(stolen).toMatchObject({ status: 'Failed', output_paths: [], error: { code: 'backend' } });
    expect(stolen.error?.message).toMatch(/another user/);
    expect(stolen).not.toHaveProperty('sidecar');
    expect((await callComfy(`${gateway.url}/history/${id}`, { headers: bob })).text).toBe('{}');
    // One's own may be run again.
    expect((await end(ann)).status).toBe('Completed');
  });

  test('nothing of others’ is asked for in a way that some system may take for another one', async () => {
    const backend = await script((res) => void res.end('a secret'));
    const dir = await newFolder();
    const file = { filename: 'Pic_1_.png', subfolder: 'bob', type: 'output' };
    await keepComfyJobs(dir, [
      { job: makeComfyJob(1, { user: 'bob', comfyui_files: [file] }), files: [png] },
    ]);
    const gateway = await start({ dir, comfyui: backend.url, ...LOGINS });
    const paths = [
      '/view?filename=Pic_1_.png&subfolder=bob',
      '/view?filename=pic_1_.PNG&subfolder=bob',
      '/view?filename=Pic_1_.png.&subfolder=bob%20',
      '/view?filename=Pic_1_.png::$DATA&subfolder=bob',
      '/view?filename=x%5CPic_1_.png&subfolder=bob',
      '/view?filename=Pic_1_.png&subfolder=x%5C..%5Cbob',
      '/view?filename=Pic_1_.png&subfolder=C:%5Ccomfy%5Coutput%5Cbob',
      '//view?filename=Pic_1_.png&subfolder=bob',
      '/%2576iew?filename=Pic_1_.png&subfolder=bob',
      '/x/..%2Fview?filename=Pic_1_.png&subfolder=bob',
      `/History/${promptIdOf(1)}`,
      `/history//${promptIdOf(1)}`,
    ];
    for (const path of paths) {
      const answer = await callComfy(gateway.url + path, { headers: ann });
      expect([path, answer.status, answer.text]).toEqual([path, 404, '']);
    }
    expect(backend.bodies).toHaveLength(0);
    for (const path of paths)
      expect((await callComfy(gateway.url + path, { headers: root })).status).toBe(200);
  });

  test('files that nobody has made here are ComfyUI’s to show', async () => {
    const { comfy, gateway } = await startShared();
    const free = comfy.state.executions[2]?.files[0] as string;
    const path = viewPath({ filename: free.split('/').at(-1) as string });
    const shown = await callComfy(gateway.url + path, { headers: ann });
    expect(shown.body.equals(readFileSync(free))).toBe(true);
  });

  test('a prompt that still runs is its maker’s already', async () => {
    const id = promptIdOf(3);
    const backend = await script((res, _body, req) => {
      if (req.url === '/prompt') res.end(`{"prompt_id": "${id}", "number": 0, "node_errors": {}}`);
      else if (req.url === '/queue')
        res.end(`{"queue_running": [[0, "${id}", {}, {}, []]], "queue_pending": []}`);
      else res.end(`{"${id}": {"outputs": {}}}`);
    });
    const gateway = await start({ dir: await newFolder(), comfyui: backend.url, ...LOGINS });
    await callComfy(`${gateway.url}/prompt`, { body: { prompt: {} }, headers: ann });
    for (const path of ['/history', `/history/${id}`]) {
      expect((await callComfy(gateway.url + path, { headers: ann })).text).toContain(id);
      expect((await callComfy(gateway.url + path, { headers: bob })).text).toBe('{}');
    }
  });

  test('deleting hits what is one’s own, or nobody’s', async () => {
    const { comfy, gateway, anns, bobs, free } = await startShared();
    const change = (body: unknown, headers: Record<string, string>) =>
      callComfy(`${gateway.url}/history`, { body, headers });
    const live = async () => idsIn(await callComfy(`${comfy.url}/history`));
    expect((await change({ delete: [bobs.prompt_id] }, ann)).status).toBe(200);
    expect((await change({ clear: true }, ann)).status).toBe(200);
    expect(await live()).toEqual([bobs.prompt_id, free]);
    expect((await change({ clear: false, delete: [free, bobs.prompt_id] }, ann)).status).toBe(200);
    expect(await live()).toEqual([bobs.prompt_id]);
    for (const body of ['{"clear": true', '[]', '{"delete": "x"}', '{"delete": [1]}']) {
      expect((await change(body, ann)).status).toBe(400);
    }
    comfy.restart();
    expect(idsIn(await callComfy(`${gateway.url}/history`, { headers: root }))).toEqual([bobs.prompt_id]);
    expect((await gateway.tracker.jobs.get(anns.id))?.history_deleted).toBe(true);
    expect((await change({ clear: true }, root)).status).toBe(200);
    expect((await callComfy(`${gateway.url}/history`, { headers: bob })).text).toBe('{}');
  });

  test.each([true, false])(
    'with forward: %s a login is needed, and a page of another site deletes nothing',
    async (forward) => {
      const comfy = await startComfy();
      const dir = await newFolder();
      await keepComfyJobs(dir, [{ job: makeComfyJob(1, { user: 'ann' }) }]);
      const behind = (app: Express) => app.use((_req, res) => void res.json('host'));
      const gateway = await start({ dir, comfyui: comfy.url, ...LOGINS, forward, behind });
      const paths = ['/history', '/api/history/x', '/view?filename=x.png', '/HISTORY', '/history/x/y'];
      for (const path of paths)
        expect([path, (await callComfy(gateway.url + path)).status]).toEqual([path, 401]);
      // ComfyUI itself compares the two only where it runs on the same machine.
      const foreign = { ...ann, Host: 'gateway.example', Origin: 'http://evil.example' };
      const answer = await callComfy(`${gateway.url}/history`, { body: { clear: true }, headers: foreign });
      expect(answer.status).toBe(403);
      expect(idsIn(await callComfy(`${gateway.url}/history`, { headers: ann }))).toEqual([promptIdOf(1)]);
    },
  );
});

describe('files from the store', () => {
  const names = [
    'a.png',
    'ü ".png',
    'x.svg',
    'x.HTML',
    'x.js',
    'x.xml',
    'x.glb',
    'x.flac',
    'x.unknown',
    'x.txt',
  ];
  const files = names.map((filename) => ({ filename, subfolder: 'sub', type: 'output' }));
  const job = makeComfyJob(1, { comfyui_files: files });
  const startFiles = () => startKept([{ job, files: files.map(() => png) }]);
  const path = viewPath(files[0] as ComfyUIFile);

  test('they come with the headers that ComfyUI gives, and nothing in them can run', async () => {
    const gateway = await startFiles();
    const answers = await Promise.all(files.map((file) => callComfy(gateway.url + viewPath(file))));
    const facts = answers.map(({ headers }) => [
      headers['content-type'],
      Buffer.from(String(headers['content-disposition']), 'latin1').toString(),
    ]);
    const any = 'application/octet-stream';
    expect(facts).toEqual([
      ['image/png', 'filename="a.png"'],
      ['image/png', 'filename="ü \\".png"'],
      [any, 'attachment; filename="x.svg"'],
      [any, 'attachment; filename="x.HTML"'],
      [any, 'attachment; filename="x.js"'],
      [any, 'attachment; filename="x.xml"'],
      ['model/gltf-binary', 'filename="x.glb"'],
      ['audio/flac', 'filename="x.flac"'],
      [any, 'filename="x.unknown"'],
      ['text/plain', 'filename="x.txt"'],
    ]);
    for (const { status, body, headers } of answers) {
      expect(status).toBe(200);
      expect(body.equals(png)).toBe(true);
      expect(headers).toMatchObject({
        'x-content-type-options': 'nosniff',
        'accept-ranges': 'bytes',
        'last-modified': new Date(Number(job.finished_at) * 1000).toUTCString(),
      });
    }
    expect(new Set(answers.map(({ headers }) => headers.etag)).size).toBe(files.length);
  });

  test.each([
    ['bytes=0-3', 206, `bytes 0-3/${png.length}`, png.subarray(0, 4)],
    ['bytes=-5', 206, `bytes ${png.length - 5}-${png.length - 1}/${png.length}`, png.subarray(-5)],
    ['bytes=10-', 206, `bytes 10-${png.length - 1}/${png.length}`, png.subarray(10)],
    [`bytes=${png.length}-`, 416, `bytes */${png.length}`, Buffer.alloc(0)],
    ['chapters=1', 200, undefined, png],
  ])('Range: %s', async (range, status, contentRange, bytes) => {
    const gateway = await startFiles();
    const answer = await callComfy(gateway.url + path, { headers: { Range: range } });
    expect([answer.status, answer.headers['content-range']]).toEqual([status, contentRange]);
    expect(answer.body.equals(bytes)).toBe(true);
    expect(answer.headers['content-disposition']).toBe('filename="a.png"');
  });

  test('who has a file already is told so', async () => {
    const gateway = await startFiles();
    const { headers } = await callComfy(gateway.url + path);
    const conditions = [
      { 'If-None-Match': headers.etag as string },
      { 'If-None-Match': '*' },
      { 'If-Modified-Since': headers['last-modified'] as string },
    ];
    for (const condition of conditions) {
      const answer = await callComfy(gateway.url + path, { headers: condition });
      expect(answer).toMatchObject({ status: 304, text: '', headers: { etag: headers.etag } });
      expect(answer.headers['content-type']).toBeUndefined();
    }
    for (const condition of [
      { 'If-None-Match': '"other"' },
      { 'If-Modified-Since': new Date(0).toUTCString() },
    ]) {
      expect((await callComfy(gateway.url + path, { headers: condition })).status).toBe(200);
    }
    const range = { Range: 'bytes=0-3', 'If-Range': '"other"' };
    expect((await callComfy(gateway.url + path, { headers: range })).status).toBe(200);
  });

  test('a name is read as ComfyUI reads it', async () => {
    const temp = { filename: 'a.png', subfolder: '', type: 'temp' };
    const gateway = await startKept([{ job: makeComfyJob(1, { comfyui_files: [temp] }), files: [png] }]);
    for (const query of [
      'filename=a.png+[temp]',
      'filename=a.png&type=temp',
      'filename=x/a.png&type=temp&subfolder=.',
    ])
      expect([query, (await callComfy(`${gateway.url}/view?${query}`)).status]).toEqual([query, 200]);
    for (const query of [
      'filename=a.png',
      'filename=a.png+[temp]&subfolder=x',
      'filename=a.png&type=input',
      '',
    ])
      expect([query, (await callComfy(`${gateway.url}/view?${query}`)).status]).toEqual([query, 502]);
  });

  test.each([
    '../jobs.json',
    '/etc/passwd',
    '..\\jobs.json',
    '%2e%2e%2fjobs.json',
    '2026-11-22/Job00001.json',
  ])('there is no way out of the files: %s', async (name) => {
    const gateway = await startFiles();
    for (const query of [
      { filename: name },
      { filename: 'jobs.json', subfolder: name },
      { filename: 'jobs.json', subfolder: `sub/../${name}/..` },
    ]) {
      const answer = await callComfy(gateway.url + viewPath(query));
      expect([query, answer.status]).toEqual([query, 502]);
    }
  });

  test('the newest of several files of one name that is still there', async () => {
    const other = sampleImages.jpg ?? Buffer.concat([png, png]);
    const file = { filename: 'a.png', subfolder: '', type: 'output' };
    const dir = await newFolder();
    await keepComfyJobs(dir, [
      { job: makeComfyJob(1, { comfyui_files: [file] }), files: [png] },
      { job: makeComfyJob(2, { comfyui_files: [file] }), files: [other] },
    ]);
    const gateway = await start({ dir, comfyui: NOBODY });
    expect((await callComfy(gateway.url + viewPath(file))).body.equals(other)).toBe(true);
    rmSync(join(dir, 'output/2026-11-22/Job00002-0.png'));
    expect((await callComfy(gateway.url + viewPath(file))).body.equals(png)).toBe(true);
    rmSync(join(dir, 'output/2026-11-22/Job00001-0.png'));
    expect((await callComfy(gateway.url + viewPath(file))).status).toBe(502);
  });
});

describe('where the host forwards', () => {
  const behind: GatewayOptions['behind'] = (app) => app.use((req, res) => void res.send(`host ${req.url}`));

  test('with ComfyUI’s address, what ComfyUI has forgotten is answered', async () => {
    const comfy = await startComfy();
    const dir = await newFolder();
    await keepComfyJobs(dir, [
      {
        job: makeComfyJob(1, { comfyui_files: [{ filename: 'a.png', subfolder: '', type: 'output' }] }),
        files: [png],
      },
    ]);
    const gateway = await start({ dir, comfyui: comfy.url, forward: false, behind });
    expect(idsIn(await callComfy(`${gateway.url}/history`))).toEqual([promptIdOf(1)]);
    expect((await callComfy(`${gateway.url}/view?filename=a.png`)).body.equals(png)).toBe(true);
    expect((await callComfy(`${gateway.url}/view?filename=b.png`)).text).toBe('host /view?filename=b.png');
    expect((await callComfy(`${gateway.url}/queue`)).text).toBe('host /queue');
  });

  test('without it, all is the host’s', async () => {
    const gateway = await start({ dir: await newFolder(), behind });
    for (const path of ['/history', '/history/x', '/view?filename=a.png'])
      expect((await callComfy(gateway.url + path)).text).toBe(`host ${path}`);
  });

  test('below a mount of its own', async () => {
    const comfy = await startComfy();
    const gateway = await start({ dir: await newFolder(), comfyui: comfy.url, mount: '/comfy' });
    const answer = await callComfy(`${gateway.url}/comfy/prompt`, { body: { prompt: standardWorkflow() } });
    const job = await gateway.ended(String(answer.headers['x-job-id']));
    comfy.restart();
    expect(idsIn(await callComfy(`${gateway.url}/comfy/history`))).toEqual([job.prompt_id]);
  });
});

test('what is not known yet, or any more, passes untouched', async () => {
  const comfy = await startComfy();
  const dir = await newFolder();
  await keepComfyJobs(dir, [{ job: makeComfyJob(1) }]);
  const gateway = await start({ dir, comfyui: comfy.url });
  expect(idsIn(await callComfy(`${gateway.url}/history`))).toEqual([promptIdOf(1)]);
  await gateway.tracker.close();
  expect((await callComfy(`${gateway.url}/history`)).text).toBe('{}');
  expect((await callComfy(`${gateway.url}/history`, { body: { clear: true } })).status).toBe(200);
});
