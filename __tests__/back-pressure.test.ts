import { once } from 'node:events';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { FileImageStore } from '../lib/images/file-image-store.js';
import type { ImageStore, ImageWriter } from '../lib/index.js';
import { post } from './helpers/client.js';
import { collectingLogger, type Gateway, startGateway } from './helpers/gateway.js';
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
/** Those that stream. */
const streaming = handlerCases.filter(({ name }) => !/res\.json|express-http-proxy/.test(name));
const MB = 1024 * 1024;
const image = bigPng(60 * MB);
const answer = answerWith([image]);

describe.each([forwardMode, ...streaming])('$name', (handler) => {
  let backend: ScriptedBackend;
  let gateway: Gateway;
  let disk: ReturnType<typeof gate>;
  let sentBytes: number;

  beforeEach(async () => {
    disk = gate();
    sentBytes = 0;
    backend = await startScriptedBackend(async (res) => {
      res.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': answer.length });
      for (let at = 0; at < answer.length; at += 65_536) {
        const more = res.write(answer.subarray(at, at + 65_536));
        if (!more) await once(res, 'drain');
        sentBytes = at;
      }
      res.end();
    });
    const dir = await newFolder();
    const store = new FileImageStore({ folder: `${dir}/output`, logger: collectingLogger([]) });
    const slow: ImageStore = {
      open: () => store.open(),
      read: (path) => store.read(path),
      remove: (path) => store.remove(path),
      async create(stem) {
        const writer = await store.create(stem);
        const held: ImageWriter = {
          async write(bytes) {
            await disk.opened;
            await writer.write(bytes);
          },
          finish: (extension) => writer.finish(extension),
          discard: () => writer.discard(),
        };
        return held;
      },
    };
    gateway = await startGateway({
      dir,
      images: slow,
      front: handler.front,
      behind: (app) => handler.behind(app, backend.url),
      ...(handler === forwardMode && { a1111: backend.url }),
    });
  });

  afterEach(async () => {
    disk.open();
    await gateway.close();
    await backend.close();
  });

  test('a disk that lags holds the backend, however fast the client takes the answer', async () => {
    const request = post(`${gateway.url}/sdapi/v1/txt2img`, { prompt: 'p' });
    await request.head;
    // Nothing tells that nothing comes any more but the time that passes.
    for (let before = -1; before !== sentBytes; ) {
      before = sentBytes;
      await new Promise((resolve) => setTimeout(resolve, 300));
    }
    expect(sentBytes).toBeLessThan(30 * MB);
    disk.open();
    const { headers, body } = await request.answer;
    expect(body.equals(answer)).toBe(true);
    expect(await gateway.ended(headers['x-job-id'] as string)).toMatchObject({ status: 'Completed' });
  });
});
