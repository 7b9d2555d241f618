import { readdirSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { afterEach, expect, test } from '@jest/globals';
import express from 'express';
import type { Refusal } from '../../lib/auth/identity.js';
import { pageRoutes } from '../../lib/routes/page-routes.js';
import { call } from '../helpers/client.js';
import { collectLog } from '../helpers/job-records.js';

const folder = resolve(import.meta.dirname, '../../lib/page');
const names = readdirSync(folder).filter((name) => !name.endsWith('.json'));
const cleanups: (() => unknown)[] = [];

afterEach(async () => {
  for (const cleanup of cleanups.splice(0)) await cleanup();
});

const refusal: Refusal = { status: 401, error: 'Expected a login', headers: { 'WWW-Authenticate': 'Basic' } };

async function start({ isRefused = false } = {}): Promise<string> {
  const identify = () => (isRefused ? refusal : { name: 'ann', isAdmin: false });
  const app = express().use('/mount', pageRoutes({ logger: collectLog(), identify }));
  app.use((req, res) => res.status(418).send(req.url));
  const server = app.listen(0, '127.0.0.1');
  await new Promise((done) => server.once('listening', done));
  cleanups.push(() => server.close());
  return `http://127.0.0.1:${(server.address() as { port: number }).port}/mount/job-tracker`;
}

test('the page comes with a policy that lets nothing in from elsewhere', async () => {
  const answer = await call(await start()).answer;
  expect(answer.status).toBe(200);
  expect(answer.body).toEqual(readFileSync(resolve(folder, 'index.html')));
  expect(answer.headers).toMatchObject({
    'content-type': 'text/html; charset=utf-8',
    'cache-control': 'private, no-cache',
    'x-content-type-options': 'nosniff',
    'referrer-policy': 'same-origin',
    'x-frame-options': 'DENY',
  });
  const directives = String(answer.headers['content-security-policy']).split('; ');
  expect(directives).toEqual(
    expect.arrayContaining([
      "default-src 'none'",
      "script-src 'self'",
      "style-src 'self'",
      "img-src 'self'",
      "connect-src 'self'",
      "base-uri 'none'",
      "form-action 'none'",
      "frame-ancestors 'none'",
    ]),
  );
  expect(directives.join()).not.toMatch(/unsafe|\*|data:|blob:/);
});

test.each(names)('%s is served as what it is, once and then by its ETag', async (name) => {
  const page = await start();
  const url = name === 'index.html' ? page : `${page}/${name}`;
  const { status, headers, body } = await call(url).answer;
  expect(status).toBe(200);
  expect(body.equals(readFileSync(resolve(folder, name)))).toBe(true);
  const types: Record<string, string> = {
    js: 'text/javascript',
    css: 'text/css',
    html: 'text/html',
    svg: 'image/svg+xml',
  };
  expect(headers['content-type']).toBe(`${types[name.split('.').at(-1) as string]}; charset=utf-8`);
  expect(headers['x-content-type-options']).toBe('nosniff');

  const again = await call(url, { headers: { 'If-None-Match': String(headers.etag) } }).answer;
  expect([again.status, again.body.length, again.headers.etag]).toEqual([304, 0, headers.etag]);
  const changed = await call(url, { headers: { 'If-None-Match': '"another"' } }).answer;
  expect(changed.status).toBe(200);
  const head = await call(url, { method: 'HEAD' }).answer;
  expect([head.status, head.body.length, head.headers['content-length']]).toEqual([
    200,
    0,
    String(body.length),
  ]);
});

test('no file names anything from elsewhere, and no script or style stands inside the page', () => {
  for (const name of names) {
    const text = readFileSync(resolve(folder, name), 'utf8').replaceAll('http://www.w3.org/2000/svg', '');
    expect([
      name,
      text.match(/https?:\/\/|innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(/),
    ]).toEqual([name, null]);
  }
  const html = readFileSync(resolve(folder, 'index.html'), 'utf8');
  expect(html).not.toMatch(/<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)/);
  expect(html.match(/(?:href|src)="\/[^"]*"/)).toBeNull();
});

test('a slash at its end leads to where relative addresses are right', async () => {
  const { status, headers } = await call(`${await start()}/?status=Failed`).answer;
  expect([status, headers.location]).toEqual([308, '../job-tracker?status=Failed']);
});

test.each([
  'index.html',
  'nothing.js',
  'tsconfig.json',
  '..%2fjob-tracker.ts',
  '%2e%2e',
  'page',
  'constructor',
  'sub/main.js',
])('what is no part of the page goes on to what is behind: %s', async (path) => {
  expect((await call(`${await start()}/${path}`).answer).status).toBe(418);
});

test.each(['POST', 'PUT', 'DELETE'])('%s is not for the page', async (method) => {
  expect((await call(await start(), { method }).answer).status).toBe(418);
});

test('without a login there is neither the page nor a part of it', async () => {
  const page = await start({ isRefused: true });
  for (const url of [page, `${page}/main.js`, `${page}/`]) {
    const { status, headers, body } = await call(url).answer;
    expect([status, headers['www-authenticate'], headers['cache-control']]).toEqual([
      401,
      'Basic',
      'no-store',
    ]);
    expect(JSON.parse(body.toString())).toEqual({ error: 'Expected a login' });
  }
});
