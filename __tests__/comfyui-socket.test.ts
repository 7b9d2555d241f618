import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { afterEach, describe, expect, test } from '@jest/globals';
import { createDemoA1111 } from '../examples/demo-backend.js';
import { createDemoComfyUI, type DemoComfyUI, type DemoComfyUIOptions } from '../examples/demo-comfyui.js';
import type { Job, JobProgress } from '../lib/index.js';
import { call, getJson, post } from './helpers/client.js';
import {
  type ComfyMessage,
  type ComfySocket,
  openComfySocket,
  standardWorkflow,
} from './helpers/comfy-client.js';
import { type Gateway, type GatewayOptions, startGateway } from './helpers/gateway.js';
import { tempFolders } from './helpers/temp-folder.js';

const newFolder = tempFolders();
const cleanups: (() => unknown)[] = [];

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

interface Started {
  readonly comfy: DemoComfyUI;
  readonly comfyUrl: string;
  readonly gateway: Gateway;
}

async function start(options: GatewayOptions = {}, demo: DemoComfyUIOptions = {}): Promise<Started> {
  const comfy = createDemoComfyUI({ generationMs: 0, ...demo });
  cleanups.push(() => comfy.close());
  const comfyUrl = await comfy.listen();
  const gateway = await startGateway({ comfyui: comfyUrl, dir: await newFolder(), ...options });
  cleanups.push(() => gateway.close());
  return { comfy, comfyUrl, gateway };
}

async function open(gateway: Gateway, path: string, headers = {}): Promise<ComfySocket> {
  const client = await openComfySocket(gateway.url + path, { headers });
  cleanups.push(() => client.socket.terminate());
  return client;
}

/** Queues a prompt through the gateway. Resolves to the ids of prompt and job. */
async function queue(gateway: Gateway, fields: object = {}, text = 'a lake', headers = {}) {
  const promptId = randomUUID();
  const body = { prompt: standardWorkflow({ text }), prompt_id: promptId, ...fields };
  const answer = await post(`${gateway.url}/prompt`, body, { headers }).answer;
  expect(answer.status).toBe(200);
  return { promptId, jobId: String(answer.headers['x-job-id']) };
}

/** Resolves with the job once it has this status. */
async function status(gateway: Gateway, jobId: string, wanted: Job['status']): Promise<Job> {
  for (;;) {
    const changed = once(gateway.tracker.events, 'status');
    const job = await gateway.tracker.jobs.get(jobId);
    if (job?.status === wanted) return job;
    await changed;
  }
}

const socketsAt = (comfy: DemoComfyUI) =>
  comfy.state.requests.filter(({ url }) => /^(\/api)?\/ws\b/.test(url)).map(({ url }) => url);

describe('ComfyUI’s WebSocket through the gateway', () => {
  test('two clients hear of their own prompts and of no others, previews included', async () => {
    const { comfy, gateway } = await start();
    const [a, b] = [await open(gateway, '/ws?clientId=a'), await open(gateway, '/api/ws?clientId=b')];
    const one = await queue(gateway, { client_id: 'a' }, 'one');
    const two = await queue(gateway, { extra_data: { client_id: 'b' } }, 'two');
    await gateway.ended(one.jobId);
    await gateway.ended(two.jobId);
    const isEndOf =
      (promptId: string) =>
      ({ type, data }: ComfyMessage) =>
        type === 'executing' && data.node === null && data.prompt_id === promptId;
    for (const [client, prompt, other] of [
      [a, one, two],
      [b, two, one],
    ] as const) {
      await client.until(isEndOf(prompt.promptId));
      const text = JSON.stringify(client.messages.filter(({ type }) => type !== 'binary'));
      expect(text).toContain(prompt.promptId);
      expect(text).not.toContain(other.promptId);
      expect(client.types().filter((type) => type === 'binary')).toHaveLength(4);
    }
    // Nobody else has listened: a second socket under a client's id would have taken its messages away.
    expect(socketsAt(comfy)).toEqual(['/ws?clientId=a', '/api/ws?clientId=b']);
    expect((await gateway.tracker.jobs.get(two.jobId))?.request).toMatchObject({ client_id: 'b', nodes: 7 });
  });

  test('a prompt without a client is listened to by ourselves, until it has ended', async () => {
    const { comfy, gateway } = await start();
    comfy.state.hold(2);
    const connected = once(comfy.state, 'connected');
    const { jobId } = await queue(gateway);
    expect(String(await connected)).toMatch(/^job-tracker-/);
    await status(gateway, jobId, 'Processing');
    const gone = once(comfy.state, 'disconnected');
    comfy.state.release();
    expect((await gateway.ended(jobId)).status).toBe('Completed');
    expect(String(await gone)).toMatch(/^job-tracker-/);
    expect(socketsAt(comfy)).toHaveLength(1);
  });

  test.each([
    ['a client’s own socket', { client_id: 'a' }],
    ['no client’s socket', {}],
  ])('progress is told by events and shown with the job: %s', async (_whose, fields) => {
    const { comfy, gateway } = await start({}, { generationMs: 1200 });
    const told: [Job['status'], JobProgress][] = [];
    gateway.tracker.events.on('progress', (job, progress) => told.push([job.status, progress]));
    const connected = once(comfy.state, 'connected');
    if ('client_id' in fields) await open(gateway, '/ws?clientId=a');
    comfy.state.hold(0);
    const { jobId } = await queue(gateway, fields);
    await connected;
    await status(gateway, jobId, 'Processing');
    comfy.state.release();
    // Of 6 nodes and 4 steps.
    while (!told.some(([, { step = 0 }]) => step > 0)) await once(gateway.tracker.events, 'progress');
    const { progress } = await getJson<{ progress: number }>(`${gateway.url}/sdapi/v1/job/${jobId}`);
    expect(progress).toBeGreaterThanOrEqual(0.5);
    expect((await gateway.ended(jobId)).status).toBe('Completed');
    expect(told.find(([, { step = 0 }]) => step > 0)).toMatchObject([
      'Processing',
      { steps: 4, text: 'Node 3' },
    ]);
    const all = told.map(([, one]) => one.progress);
    expect(all).toEqual([...all].sort((a, b) => a - b));
  });

  test('our own socket is gone with the gateway, whose next process opens one again', async () => {
    const dir = await newFolder();
    const { comfy, comfyUrl, gateway } = await start({ dir });
    comfy.state.hold(2);
    const connected = once(comfy.state, 'connected');
    const { jobId } = await queue(gateway);
    await connected;
    await status(gateway, jobId, 'Processing');
    const gone = once(comfy.state, 'disconnected');
    await gateway.tracker.close();
    await gone;
    const again = once(comfy.state, 'connected');
    const next = await startGateway({ comfyui: comfyUrl, dir });
    cleanups.push(() => next.close());
    expect(String(await again)).toMatch(/^job-tracker-/);
    const progress = once(next.tracker.events, 'progress');
    comfy.state.release();
    expect(await progress).toMatchObject([{ id: jobId }, { steps: 4 }]);
    expect((await next.ended(jobId)).status).toBe('Completed');
  });

  test('ComfyUI is restarted: the client’s connection breaks, the job is interrupted, a new one is heard of', async () => {
    const { comfy, gateway } = await start();
    const client = await open(gateway, '/ws?clientId=a');
    comfy.state.hold(2);
    const lost = await queue(gateway, { client_id: 'a' });
    await status(gateway, lost.jobId, 'Processing');
    comfy.restart();
    await client.closed;
    expect((await gateway.ended(lost.jobId)).error?.code).toBe('interrupted');
    comfy.state.release();
    const again = await open(gateway, '/ws?clientId=a');
    const { jobId, promptId } = await queue(gateway, { client_id: 'a' });
    await again.until(({ type, data }) => type === 'execution_success' && data.prompt_id === promptId);
    expect((await gateway.ended(jobId)).status).toBe('Completed');
  });

  test('a client that leaves takes nothing with it', async () => {
    const { comfy, gateway } = await start();
    const client = await open(gateway, '/ws?clientId=a');
    comfy.state.hold(2);
    const { jobId } = await queue(gateway, { client_id: 'a' });
    const gone = once(comfy.state, 'disconnected');
    client.socket.terminate();
    expect(await gone).toEqual(['a']);
    comfy.state.release();
    expect((await gateway.ended(jobId)).status).toBe('Completed');
  });

  test.each(['/queue', '/api/queue'])(
    'who takes a waiting prompt out of the queue cancels its job: %s',
    async (path) => {
      const { comfy, gateway } = await start();
      comfy.state.hold(2);
      const held = once(comfy.state, 'held');
      const first = await queue(gateway, { client_id: 'a' });
      await held;
      const { promptId, jobId } = await queue(gateway, { client_id: 'a' }, 'another');
      const answer = await post(gateway.url + path, { delete: [promptId] }).answer;
      expect(answer.status).toBe(200);
      expect((await gateway.ended(jobId)).error?.code).toBe('cancelled');
      comfy.state.release();
      expect((await gateway.ended(first.jobId)).status).toBe('Completed');
    },
  );

  test.each(['/interrupt', '/api/jobs/{id}/cancel'])(
    'an interrupted prompt is a cancelled job: %s',
    async (path) => {
      const { comfy, gateway } = await start();
      comfy.state.hold(2);
      const held = once(comfy.state, 'held');
      const { promptId, jobId } = await queue(gateway, { client_id: 'a' });
      await held;
      const answer = await post(gateway.url + path.replace('{id}', promptId), {}).answer;
      expect(answer.status).toBe(200);
      expect((await gateway.ended(jobId)).error?.code).toBe('cancelled');
    },
  );

  test('with `auth` it needs a login, and ComfyUI does not get to see it', async () => {
    const { comfy, gateway } = await start({ auth: 'ann:one' });
    const ann = { Authorization: `Basic ${Buffer.from('ann:one').toString('base64')}` };
    await expect(open(gateway, '/ws?clientId=a')).rejects.toThrow('closed');
    await expect(
      open(gateway, '/api/ws?clientId=a', { ...ann, Origin: 'https://evil.example' }),
    ).rejects.toThrow('closed');
    expect(socketsAt(comfy)).toEqual([]);
    const client = await open(gateway, '/ws?clientId=a', ann);
    const { promptId } = await queue(gateway, { client_id: 'a' }, 'a lake', ann);
    await client.until(({ type, data }) => type === 'execution_success' && data.prompt_id === promptId);
    expect(comfy.state.requests.filter(({ headers }) => headers.authorization)).toEqual([]);
  });

  test('a page of another site is still refused by ComfyUI itself', async () => {
    const { gateway } = await start();
    const origin = { Origin: 'http://evil.example:8188' };
    await expect(open(gateway, '/ws?clientId=a', origin)).rejects.toThrow('closed');
    await open(gateway, '/ws?clientId=a', { Origin: gateway.url });
  });

  test('with both backends, sockets go to ComfyUI, and only Automatic1111’s own to that', async () => {
    const a1111 = createDemoA1111();
    cleanups.push(() => a1111.close());
    const { comfy, gateway } = await start({ a1111: await a1111.listen() });
    await open(gateway, '/ws?clientId=a');
    await expect(open(gateway, '/queue/join')).rejects.toThrow('closed');
    expect(comfy.state.requests.map(({ url }) => url)).toEqual(['/ws?clientId=a', '/queue/join']);
    expect((await call(`${gateway.url}/queue`).answer).status).toBe(200);
    expect(await getJson(`${gateway.url}/sdapi/v1/progress`)).toMatchObject({ progress: 0 });
  });

  test('in wrap mode it is the host’s, and jobs are followed all the same', async () => {
    const { comfy, comfyUrl, gateway } = await start({
      forward: false,
      behind: (app) =>
        app.use(async (req, res) => {
          const chunks: Buffer[] = [];
          for await (const chunk of req) chunks.push(chunk);
          const answer = await post(comfyUrl + req.url, Buffer.concat(chunks)).answer;
          res.status(answer.status).type('json').send(answer.body);
        }),
    });
    let asked = 0;
    gateway.server.removeAllListeners('upgrade');
    gateway.server.on('upgrade', (req, socket, head) => {
      if (!gateway.tracker.upgrade(req, socket, head)) return;
      asked += 1;
      socket.destroy();
    });
    await expect(open(gateway, '/ws?clientId=a')).rejects.toThrow('closed');
    expect([asked, socketsAt(comfy)]).toEqual([1, []]);
    const { jobId } = await queue(gateway, { client_id: 'a' });
    expect((await gateway.ended(jobId)).status).toBe('Completed');
  });
});
