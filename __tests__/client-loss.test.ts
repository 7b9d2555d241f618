import { once } from 'node:events';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import type { Job } from '../lib/index.js';
import { type Call, call, post } from './helpers/client.js';
import { type Gateway, startGateway } from './helpers/gateway.js';
import { type HandlerCase, handlerCases } from './helpers/handlers.js';
import {
  answerWith,
  bigPng,
  gate,
  type ScriptedBackend,
  startScriptedBackend,
} from './helpers/scripted-backend.js';
import { tempFolders } from './helpers/temp-folder.js';

const newFolder = tempFolders();
const forwardMode: HandlerCase = { name: 'forward mode', behind: () => {} };
/** More than sockets hold between backend, gateway and client. */
const image = bigPng(12 * 1024 * 1024);
const answer = answerWith([image]);

const ways: Record<string, (request: Call) => void> = {
  FIN: (request) => request.request.destroy(),
  RST: (request) => request.request.socket?.resetAndDestroy(),
};

describe.each([forwardMode, ...handlerCases])('$name', (handler) => {
  let backend: ScriptedBackend;
  let gateway: Gateway;
  let dir: string;
  let held: ReturnType<typeof gate>;

  beforeEach(async () => {
    jest.spyOn(console, 'error').mockImplementation(() => {});
    held = gate();
    backend = await startScriptedBackend(async (res) => {
      res.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': answer.length });
      res.write(answer.subarray(0, 1_000_000));
      await held.opened;
      res.end(answer.subarray(1_000_000));
    });
    dir = await newFolder();
    gateway = await startGateway({
      dir,
      front: handler.front,
      behind: (app) => handler.behind(app, backend.url),
      ...(handler === forwardMode && { a1111: backend.url }),
    });
  });

  afterEach(async () => {
    held.open();
    await gateway.close();
    await backend.close();
    jest.restoreAllMocks();
  });

  const txt2img = (options = {}) => post(`${gateway.url}/sdapi/v1/txt2img`, { prompt: 'p' }, options);

  async function expectWhole(job: Job): Promise<void> {
    expect(job.error).toBeUndefined();
    expect(job.status).toBe('Completed');
    const stored = await readFile(join(dir, 'output', job.output_paths[0] as string));
    expect(stored.equals(image)).toBe(true);
  }

  test.each(Object.keys(ways))('a client that leaves by %s in the middle of the answer', async (way) => {
    const request = txt2img({ unread: true });
    const { headers } = await request.head;
    ways[way]?.(request);
    await connectionsGone(gateway);
    held.open();
    await expectWhole(await gateway.ended(headers['x-job-id'] as string));
  });

  test('a client that takes nothing delays nothing, and gets it all when it wants it', async () => {
    const request = txt2img({ unread: true });
    const { headers } = await request.head;
    held.open();
    await expectWhole(await gateway.ended(headers['x-job-id'] as string));
    const chunks: Buffer[] = [];
    for await (const chunk of await request.incoming) chunks.push(chunk as Buffer);
    const body = Buffer.concat(chunks);
    if (handler.rewrites) expect(JSON.parse(body.toString())).toEqual(JSON.parse(answer.toString()));
    else expect(body.equals(answer)).toBe(true);
  });

  test('a body that never arrives reaches no backend and leaves no job', async () => {
    const request = call(`${gateway.url}/sdapi/v1/txt2img`, {
      open: true,
      headers: { 'Content-Type': 'application/json', 'Content-Length': 3_000_000 },
    });
    const connected = once(gateway.server, 'request');
    request.request.write(Buffer.alloc(2_000_000, 0x20));
    await connected;
    request.request.destroy();
    await connectionsGone(gateway);
    expect(backend.bodies.length).toBe(0);
    expect((await gateway.tracker.jobs.list()).total).toBe(0);
  });

  test('a backend that dies in the middle of its answer: the client sees an error, whole images stay', async () => {
    const two = answerWith([bigPng(5_000), image]);
    backend.script = async (res) => {
      res.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': two.length });
      res.write(two.subarray(0, 500_000));
      await held.opened;
      res.socket?.resetAndDestroy();
    };
    const request = txt2img();
    // A handler that reads the whole answer first has its own way to say it.
    const outcome = request.answer.then(
      ({ status }) => status,
      () => 'broken',
    );
    await backend.received();
    if (!handler.rewrites && handler.name !== 'express-http-proxy')
      await once(await request.incoming, 'data');
    held.open();
    expect(await outcome).not.toBe(200);
    const job = (await gateway.tracker.jobs.list()).jobs[0] as Job;
    const ended = await gateway.ended(job.id);
    expect(ended.status).toBe('Failed');
    expect(ended.error?.message).toBeTruthy();
    const kept = ended.output_paths.length;
    expect(kept).toBeLessThanOrEqual(1);
    if (handler === forwardMode) expect(kept).toBe(1);
    const partial = await readdir(join(dir, 'output', '.partial'));
    expect(partial).toEqual([]);
  });
});

/** Resolves when the gateway has noticed that its clients are gone. */
async function connectionsGone(gateway: Gateway): Promise<void> {
  for (;;) {
    const count = await new Promise<number>((resolve) =>
      gateway.server.getConnections((_error, n) => resolve(n)),
    );
    if (count === 0) return;
    await new Promise((resolve) => setImmediate(resolve));
  }
}
