import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { call, post } from '../helpers/client.js';
import { type Gateway, startGateway } from '../helpers/gateway.js';
import {
  answerWith,
  bigPng,
  gate,
  type ScriptedBackend,
  sendAnswer,
  startScriptedBackend,
} from '../helpers/scripted-backend.js';
import { tempFolders } from '../helpers/temp-folder.js';

const newFolder = tempFolders();
const image = bigPng(300_000);
const answer = answerWith([image]);
const guide = await readFile(new URL('../../docs/behind-a-proxy.md', import.meta.url), 'utf8');

/** The first block of the guide, word for word, but for what a test has to choose for itself. */
const recommended = (/```nginx\nlocation \/ \{\n([^`]*)\n\}\n```/.exec(guide)?.[1] ?? '')
  .replace('http://127.0.0.1:8080', 'http://127.0.0.1:GATEWAY')
  .replace(/proxy_read_timeout .*/, 'proxy_read_timeout 2s;');

const settings = {
  'nginx’s defaults': 'proxy_pass http://127.0.0.1:GATEWAY; proxy_read_timeout 2s;',
  'the guide’s settings': recommended,
};

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Resolves when something listens on the port, or rejects when the process has ended. */
async function listening(port: number, process: ChildProcess): Promise<void> {
  for (;;) {
    if (process.exitCode !== null) throw new Error(`nginx ended with ${process.exitCode}`);
    const socket = connect(port, '127.0.0.1');
    const connected = await once(socket, 'connect').then(
      () => true,
      () => false,
    );
    socket.destroy();
    if (connected) return;
  }
}

async function startNginx(location: string): Promise<{ url: string; stop: () => Promise<void> }> {
  const folder = await newFolder();
  const port = await freePort();
  await mkdir(join(folder, 'temp'));
  const temps = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((name) => `${name}_temp_path ${folder}/temp/${name};`)
    .join(' ');
  await writeFile(
    join(folder, 'nginx.conf'),
    `daemon off; user root; worker_processes 1; pid ${folder}/pid; error_log ${folder}/error.log;
     events { worker_connections 64; }
     http { access_log off; ${temps} gzip on; gzip_types application/json; gzip_proxied any;
       server { listen 127.0.0.1:${port}; location / { ${location}
 } } }`,
  );
  const nginx = spawn('nginx', ['-c', join(folder, 'nginx.conf'), '-p', folder], {
    env: { PATH: `${process.env.PATH}:/usr/sbin` },
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  await new Promise<void>((resolve, reject) => {
    nginx.once('spawn', resolve);
    nginx.once('error', () => reject(new Error('These tests need nginx: apt-get install nginx-light')));
  });
  await listening(port, nginx);
  return {
    url: `http://127.0.0.1:${port}`,
    async stop() {
      const ended = once(nginx, 'exit');
      nginx.kill('SIGQUIT');
      nginx.kill('SIGTERM');
      await ended;
    },
  };
}

test('the guide has settings for nginx', () => {
  expect(recommended).toContain('proxy_http_version 1.1;');
});

describe.each(Object.entries(settings))('behind nginx with %s', (_name, location) => {
  let backend: ScriptedBackend;
  let gateway: Gateway;
  let nginx: Awaited<ReturnType<typeof startNginx>>;
  let held: ReturnType<typeof gate>;

  beforeEach(async () => {
    held = gate();
    backend = await startScriptedBackend(async (res, body) => {
      await held.opened;
      if (body.includes('fail')) res.writeHead(500).end('{"error":"OutOfMemoryError"}');
      else sendAnswer(res, answer);
    });
    gateway = await startGateway({ dir: await newFolder(), a1111: backend.url, keepAlive: '500ms' });
    nginx = await startNginx(location.replaceAll('GATEWAY', String(gateway.port)));
  });

  afterEach(async () => {
    held.open();
    await nginx.stop();
    await gateway.close();
    await backend.close();
  });

  const txt2img = (prompt: string, headers = {}) =>
    post(`${nginx.url}/sdapi/v1/txt2img`, { prompt }, { headers });

  test('the id arrives while the backend works, and then the whole answer', async () => {
    const request = txt2img('p', { 'Accept-Encoding': 'gzip' });
    const { headers } = await request.head;
    expect(headers['x-job-id']).toMatch(/^\w{8}$/);
    expect(backend.bodies.length).toBe(1);
    held.open();
    const { body } = await request.answer;
    const plain = headers['content-encoding'] === 'gzip' ? gunzipSync(body) : body;
    expect(plain.toString().trimStart()).toBe(answer.toString());
    expect(await gateway.ended(headers['x-job-id'] as string)).toMatchObject({ status: 'Completed' });
  });

  test('a backend that takes longer than nginx waits for a byte', async () => {
    const request = txt2img('p');
    const incoming = await request.incoming;
    // nginx's clock is its own: only real time can pass it.
    for (const until = Date.now() + 2_500; Date.now() < until; ) await once(incoming, 'data');
    held.open();
    expect((await request.answer).body.toString().trimStart()).toBe(answer.toString());
  });

  test('a late failure is an error, and no short success', async () => {
    const request = txt2img('fail');
    const { headers } = await request.head;
    held.open();
    await expect(request.answer).rejects.toThrow();
    expect(await gateway.ended(headers['x-job-id'] as string)).toMatchObject({ error: { status: 500 } });
  });

  test('an immediate refusal keeps its status', async () => {
    held.open();
    const { status, body } = await txt2img('fail').answer;
    expect(status).toBe(500);
    expect(body.toString()).toBe('{"error":"OutOfMemoryError"}');
  });

  test('a client that leaves loses nothing', async () => {
    const request = txt2img('p');
    const { headers } = await request.head;
    request.request.destroy();
    held.open();
    const job = await gateway.ended(headers['x-job-id'] as string);
    expect(job).toMatchObject({ status: 'Completed' });
    const found = await call(`${nginx.url}/sdapi/v1/job/${job.id}/images/0`).answer;
    expect(found.body.equals(image)).toBe(true);
  });
});
