import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import { createDemoA1111, type DemoA1111 } from '../examples/demo-backend.js';
import type { Job } from '../lib/index.js';
import { getJson, post } from './helpers/client.js';
import { type Gateway, type GatewayOptions, startGateway } from './helpers/gateway.js';
import { type HandlerCase, handlerCases } from './helpers/handlers.js';
import { tempFolders } from './helpers/temp-folder.js';

const newFolder = tempFolders();
const forwardMode: HandlerCase = { name: 'forward mode', behind: () => {} };

describe.each([forwardMode, ...handlerCases])('$name', (handler) => {
  let backend: DemoA1111;
  let gateway: Gateway;
  let dir: string;

  async function start(options: GatewayOptions = {}): Promise<Gateway> {
    const target = await backend.listen();
    return startGateway({
      dir,
      front: handler.front,
      behind: (app) => handler.behind(app, target),
      ...(handler === forwardMode && { a1111: target }),
      ...options,
    });
  }

  beforeEach(async () => {
    // Handlers that http-proxy-middleware and its like print to the console.
    jest.spyOn(console, 'error').mockImplementation(() => {});
    dir = await newFolder();
    backend = createDemoA1111({ generationMs: 0 });
    gateway = await start();
  });

  afterEach(async () => {
    backend.state.release();
    await gateway.close();
    await backend.close();
    jest.restoreAllMocks();
  });

  const txt2img = (body: object, headers = {}) => post(`${gateway.url}/sdapi/v1/txt2img`, body, { headers });

  test('the client gets what the backend sent, with an id beside it; images and record are kept', async () => {
    const answer = await txt2img(
      { prompt: 'ein Boot', seed: 5, batch_size: 2, width: 64, height: 64, steps: 2 },
      {
        'Accept-Encoding': 'gzip',
      },
    ).answer;
    const [generation] = backend.state.generations;
    expect(answer.status).toBe(200);
    expect(answer.headers['x-job-id']).toMatch(/^[A-Za-z0-9]{8}$/);
    if (handler.rewrites) {
      expect(JSON.parse(answer.body.toString())).toEqual(JSON.parse(String(generation?.answer)));
    } else {
      expect(answer.body.equals(generation?.answer as Buffer)).toBe(true);
    }
    const id = answer.headers['x-job-id'] as string;
    // Whoever has the answer finds the job complete.
    const job = await getJson<Job & { images: string[] }>(`${gateway.url}/sdapi/v1/job/${id}`);
    expect(job).toMatchObject({
      id,
      prompt: 'ein Boot',
      status: 'Completed',
      backend: 'a1111',
      ip: '127.0.0.1',
    });
    expect(job.request).toMatchObject({ seed: 5, batch_size: 2, width: 64, height: 64, steps: 2 });
    expect(job.images.map((text) => Buffer.from(text, 'base64'))).toEqual(generation?.images);
    for (const [n, path] of job.output_paths.entries()) {
      expect(await readFile(join(dir, 'output', path))).toEqual(generation?.images[n]);
    }
    expect(JSON.parse(await readFile(join(dir, 'jobs.json'), 'utf8'))).toBeInstanceOf(Array);
  });

  test('the head leaves while the backend still works, and the answer follows', async () => {
    backend.state.hold();
    const request = txt2img({ prompt: 'slow', width: 64, height: 64, steps: 2 });
    const head = await request.head;
    expect(head.status).toBe(200);
    expect(head.headers['content-type']).toBe('application/json');
    expect(head.headers['cache-control']).toBe('no-store, no-transform');
    expect(head.headers['x-accel-buffering']).toBe('no');
    expect(backend.state.generations[0]?.answer).toBeUndefined();
    const id = head.headers['x-job-id'] as string;
    expect(await getJson(`${gateway.url}/sdapi/v1/job/${id}`)).toMatchObject({
      status: 'Processing',
      images: [],
    });
    backend.state.release();
    const answer = await request.answer;
    const sent = String(backend.state.generations[0]?.answer);
    if (handler.rewrites) expect(JSON.parse(answer.body.toString())).toEqual(JSON.parse(sent));
    else expect(answer.body.toString()).toBe(sent);
    expect(await getJson(`${gateway.url}/sdapi/v1/job/${id}`)).toMatchObject({ status: 'Completed' });
  });

  test('an immediate refusal keeps its status and body', async () => {
    const answer = await txt2img({ prompt: '[refuse]' }).answer;
    const [generation] = backend.state.generations;
    expect(answer.status).toBe(500);
    expect(JSON.parse(answer.body.toString())).toEqual(JSON.parse(String(generation?.answer)));
    const id = answer.headers['x-job-id'] as string;
    const job = await getJson<Job>(`${gateway.url}/sdapi/v1/job/${id}`);
    expect(job).toMatchObject({ status: 'Failed', error: { code: 'backend', status: 500 } });
    expect(job.error?.message).toContain('RuntimeError');
  });

  test('a late failure breaks the connection, and the record holds the true status', async () => {
    backend.state.hold();
    const request = txt2img({ prompt: '[fail]', steps: 2, width: 64, height: 64 });
    const { headers } = await request.head;
    backend.state.release();
    await expect(request.answer).rejects.toThrow(/aborted|ECONNRESET|closed/);
    const job = await gateway.ended(headers['x-job-id'] as string);
    expect(job).toMatchObject({ status: 'Failed', error: { code: 'backend', status: 500 } });
    expect(job.error?.message).toContain('OutOfMemoryError');
  });

  test.each(['FIN', 'RST'])(
    'the client leaves by %s while the backend works: the job goes on',
    async (how) => {
      backend.state.hold();
      const request = txt2img({ prompt: 'left', width: 64, height: 64, steps: 2 });
      const { headers } = await request.head;
      if (how === 'FIN') request.request.destroy();
      else request.request.socket?.resetAndDestroy();
      // The gateway has noticed when it has no connection but the backend's left.
      await noConnections(gateway);
      backend.state.release();
      const job = await gateway.ended(headers['x-job-id'] as string);
      expect(job).toMatchObject({ status: 'Completed' });
      const image = await readFile(join(dir, 'output', job.output_paths[0] as string));
      expect(image).toEqual(backend.state.generations[0]?.images[0]);
    },
  );

  test('two at once keep their images apart', async () => {
    const [one, two] = await Promise.all([
      txt2img({ prompt: 'one', seed: 1, width: 64, height: 64, steps: 2 }).answer,
      txt2img({ prompt: 'two', seed: 2, width: 64, height: 64, steps: 2 }).answer,
    ]);
    for (const answer of [one, two]) {
      const id = answer?.headers['x-job-id'] as string;
      const { images } = await getJson<{ images: string[] }>(`${gateway.url}/sdapi/v1/job/${id}`);
      expect(images).toEqual(JSON.parse(String(answer?.body)).images);
    }
    expect(one?.headers['x-job-id']).not.toBe(two?.headers['x-job-id']);
  });
});

async function noConnections(gateway: Gateway): Promise<void> {
  for (;;) {
    const count = await new Promise<number>((resolve) =>
      gateway.server.getConnections((_error, n) => resolve(n)),
    );
    if (count === 0) return;
    await new Promise((resolve) => setImmediate(resolve));
  }
}
