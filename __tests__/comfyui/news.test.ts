import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from '@jest/globals';
import { createDemoComfyUI } from '../../examples/demo-comfyui.js';
import { ComfyUIFollower } from '../../lib/comfyui/follower.js';
import { ComfyUIMessages } from '../../lib/comfyui/messages.js';
import { OwnSocket } from '../../lib/comfyui/own-socket.js';
import { Forwarder } from '../../lib/http/forward.js';
import { FileImageStore } from '../../lib/images/file-image-store.js';
import type { JobProgress, RequestFields } from '../../lib/job.js';
import { generateJobId } from '../../lib/job-id.js';
import { createJobEvents } from '../../lib/jobs/job-events.js';
import { JobRecorder } from '../../lib/jobs/job-recorder.js';
import type { RunningJob } from '../../lib/jobs/running-job.js';
import { LowdbJobStore } from '../../lib/stores/lowdb-job-store.js';
import { post } from '../helpers/client.js';
import { openComfySocket, standardWorkflow } from '../helpers/comfy-client.js';
import { collectLog } from '../helpers/job-records.js';
import { tempFolders } from '../helpers/temp-folder.js';

const newFolder = tempFolders();
const cleanups: (() => unknown)[] = [];

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

/** All that follows jobs at a ComfyUI, with the gateway in front of its WebSockets. */
async function startFollowing(url: string) {
  const folder = await newFolder();
  const logger = collectLog();
  const store = new LowdbJobStore({ folder, logger });
  const images = new FileImageStore({ folder: join(folder, 'output'), logger });
  await store.open();
  await images.open();
  const recorder = new JobRecorder({ store, events: createJobEvents(), logger, generateId: generateJobId });
  const reports: JobProgress[] = [];
  const statuses: (string | undefined)[] = [];
  const follower: ComfyUIFollower = new ComfyUIFollower({
    url: new URL(url),
    images,
    recorder,
    jobTimeoutMs: 60_000,
    logger,
    onFollowed: (job) => own.serve(job),
  });
  const messages = new ComfyUIMessages({
    follower,
    onProgress: (id, report) => {
      reports.push(report);
      void store.get(id).then((job) => statuses.push(job?.status));
    },
  });
  const onText = (text: string) => messages.receive(text);
  const own = new OwnSocket({ url: new URL(url), onText });
  const forwarder = new Forwarder({
    target: new URL(url),
    backend: { title: 'ComfyUI', hint: '' },
    readerOf: () => onText,
  });
  const front = createServer();
  front.on('upgrade', (req, socket, head) => forwarder.upgrade(req, socket, head));
  front.listen(0, '127.0.0.1');
  await once(front, 'listening');
  cleanups.push(async () => {
    await follower.close();
    front.closeAllConnections();
    front.close();
    await store.close();
  });
  return {
    follower,
    messages,
    reports,
    statuses,
    frontUrl: `http://127.0.0.1:${(front.address() as AddressInfo).port}`,
    /** A job that ComfyUI knows by this id. */
    async follow(promptId: string, request: RequestFields): Promise<RunningJob> {
      const facts = { prompt: '', ip: '', backend: 'comfyui', path: '/prompt', request } as const;
      const job = await recorder.begin(facts);
      if (!job) throw new Error('The job could not be recorded');
      await job.handOver();
      await job.queued({ promptId, text: '{}' });
      follower.follow(job);
      return job;
    },
  };
}

async function startComfyUI() {
  const comfy = createDemoComfyUI({ generationMs: 0 });
  cleanups.push(() => comfy.close());
  return { url: await comfy.listen(), state: comfy.state };
}

describe('news of ComfyUI', () => {
  test.each(['a client', 'no client'])('a prompt of %s shows its progress, step by step', async (whose) => {
    const { url, state } = await startComfyUI();
    const { follow, reports, statuses, frontUrl } = await startFollowing(url);
    const listening = once(state, 'connected');
    const client = whose === 'a client' ? { client_id: 'a' } : {};
    if (whose === 'a client') {
      const { socket } = await openComfySocket(`${frontUrl}/ws?clientId=a`);
      cleanups.push(() => socket.terminate());
    }
    state.hold(0);
    const promptId = randomUUID();
    const held = once(state, 'held');
    await post(`${url}/prompt`, { prompt: standardWorkflow(), prompt_id: promptId, ...client }).answer;
    await held;
    const job = await follow(promptId, { nodes: 7, steps: 4, ...client });
    await listening;
    state.release();
    await job.over;
    expect(job.failed).toBe(false);
    expect(reports.filter(({ text }) => text === 'Node 3').map(({ step }) => step)).toEqual(
      expect.arrayContaining([1, 2, 3, 4]),
    );
    // Of 6 nodes and 4 steps.
    expect(reports.find(({ step }) => step === 2)).toEqual({
      progress: 0.6,
      step: 2,
      steps: 4,
      text: 'Node 3',
    });
    const progress = reports.map((report) => report.progress);
    expect(progress).toEqual([...progress].sort((a, b) => a - b));
    expect(progress.at(-1)).toBe(1);
    expect(statuses).toContain('Processing');
    expect(statuses).not.toContain('Pending');
  });

  test('however fast news come, ComfyUI is looked at in between', async () => {
    let looks = 0;
    const backend = createServer((req, res) => {
      if (req.url === '/queue') looks += 1;
      backend.emit('looked');
      res.end(JSON.stringify({ queue_running: [], queue_pending: [[1, 'p', {}, {}, []]] }));
    });
    backend.listen(0, '127.0.0.1');
    await once(backend, 'listening');
    cleanups.push(() => {
      backend.closeAllConnections();
      backend.close();
    });
    const { follow, messages } = await startFollowing(
      `http://127.0.0.1:${(backend.address() as AddressInfo).port}`,
    );
    const news = setInterval(() => messages.receive('{"type":"status","data":{}}'), 10);
    cleanups.push(() => clearInterval(news));
    await follow('p', { client_id: 'a' });
    while (looks < 4) await once(backend, 'looked');
  });
});
