import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { afterEach, expect, test } from '@jest/globals';
import express from 'express';
import { createDemoA1111, type DemoA1111, type DemoA1111Options } from '../../examples/demo-backend.js';
import { jobTracker } from '../../lib/index.js';
import { call } from '../helpers/client.js';
import { collectingLogger, type Gateway, type GatewayOptions, startGateway } from '../helpers/gateway.js';
import { tempFolders } from '../helpers/temp-folder.js';
import { eventually, openTracker, useBrowser } from './browser.js';

const newFolder = tempFolders();
const open = useBrowser();

let backend: DemoA1111;
let gateway: Gateway;
let folder: string;

async function start(options: GatewayOptions = {}, demo: DemoA1111Options = { generationMs: 200 }) {
  backend = createDemoA1111(demo);
  const a1111 = await backend.listen();
  folder = await newFolder();
  gateway = await startGateway({ dir: folder, a1111, env: {}, ...options });
}

afterEach(async () => {
  await backend.close();
  await gateway.close();
});

/** Resolves with the answer's status, or undefined where the connection broke. */
const generate = (body: object, mount = '', headers: Record<string, string> = {}) =>
  call(`${gateway.url}${mount}/sdapi/v1/txt2img`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', ...headers },
    body: JSON.stringify({ steps: 20, ...body }),
  }).answer.then(
    ({ status }) => status,
    () => undefined,
  );

test('a job comes, runs and ends before one’s eyes', async () => {
  await start({}, { generationMs: 5_000 });
  const { page } = await openTracker(open, `${gateway.url}/job-tracker`);
  await page.getByRole('heading', { name: 'No jobs yet' }).waitFor();
  expect(await page.locator('#empty pre').textContent()).toContain(`${gateway.url}/sdapi/v1/txt2img`);

  const answered = generate({ prompt: 'a quiet bay at dusk' });
  const row = page.locator('#active-jobs li', { hasText: 'a quiet bay at dusk' });
  await row.waitFor();
  expect(await page.locator('#active-title').textContent()).toBe('1 running');
  await row.locator('.state', { hasText: /Step \d+ of 20/ }).waitFor();
  await eventually(
    () => row.locator('progress').evaluate((bar: { position: number }) => bar.position),
    (done) => expect(done).toBeGreaterThan(0),
  );
  expect(await page.title()).toBe('(1) Job Tracker');
  await row.locator('.open').click();
  await page.locator('#stage', { hasText: /being made: \d+ %/ }).waitFor();
  await page.locator('#stage img').waitFor();
  await page.locator('#details tr', { hasText: 'Sampler' }).first().waitFor();
  await page.keyboard.press('Escape');

  expect(await answered).toBe(200);
  const card = page.locator('.card', { hasText: 'a quiet bay at dusk' });
  await card.waitFor();
  await eventually(
    () => card.locator('img').evaluate((picture: { naturalWidth: number }) => picture.naturalWidth),
    (width) => expect(width).toBeGreaterThan(0),
  );
  expect(await card.locator('.status').textContent()).toBe('Completed');
  expect(await page.locator('#active').isVisible()).toBe(false);
  expect(await page.locator('#total').textContent()).toBe('1 job');
  await page
    .locator('#announcements', { hasText: 'Completed: a quiet bay at dusk' })
    .waitFor({ state: 'attached' });
  expect(await page.title()).toBe('Job Tracker');
});

test('who waits has a place in the queue, and can be cancelled', async () => {
  await start({}, { generationMs: 4_000 });
  const { page } = await openTracker(open, `${gateway.url}/job-tracker`);
  const answers = [generate({ prompt: 'first' })];
  await page.locator('#active-jobs li', { hasText: 'first' }).waitFor();
  answers.push(generate({ prompt: 'second' }));
  const second = page.locator('#active-jobs li', { hasText: 'second' });
  await second.locator('.state', { hasText: 'Next in the queue' }).waitFor();
  answers.push(generate({ prompt: 'third' }));
  const third = page.locator('#active-jobs li', { hasText: 'third' });
  await third.locator('.state', { hasText: 'Number 2 in the queue' }).waitFor();

  await second.getByRole('button', { name: /^Cancel/ }).click();
  await third.locator('.state', { hasText: /Next in the queue|Running|Step/ }).waitFor();
  const card = page.locator('.card', { hasText: 'second' });
  await card.locator('.status', { hasText: 'Cancelled' }).waitFor();
  await Promise.all(answers);
  await page.locator('.card', { hasText: 'third' }).waitFor();
});

test('a failed job says what to do, and can be run again', async () => {
  await start();
  await generate({ prompt: 'too large [fail]' });
  const { page } = await openTracker(open, `${gateway.url}/job-tracker`);
  await page.locator('.card', { hasText: 'too large' }).locator('.open').click();
  const box = page.locator('.error-box');
  expect(await box.textContent()).toContain('A1111 answered with 500');
  expect(await box.textContent()).toContain('make the picture smaller');
  const url = page.url();
  await page.getByRole('button', { name: 'Retry' }).click();
  await page.locator('#details', { hasText: 'Another try of' }).waitFor();
  expect(page.url()).not.toBe(url);
});

test('with a login: no page without, everything with it', async () => {
  await start({ auth: 'ann:uno', admins: ['ann'] }, { generationMs: 200 });
  const { page: stranger } = await open(gateway.url);
  // Nobody is there to answer the browser's question.
  await expect(stranger.goto(`${gateway.url}/job-tracker`)).rejects.toThrow('ERR_INVALID_AUTH_CREDENTIALS');

  const httpCredentials = { username: 'ann', password: 'uno' };
  const { page } = await openTracker(open, `${gateway.url}/job-tracker`, { httpCredentials });
  const authorization = `Basic ${Buffer.from('ann:uno').toString('base64')}`;
  expect(await generate({ prompt: 'hers' }, '', { Authorization: authorization })).toBe(200);
  const card = page.locator('.card', { hasText: 'hers' });
  await eventually(
    () => card.locator('img').evaluate((picture: { naturalWidth: number }) => picture.naturalWidth),
    (width) => expect(width).toBeGreaterThan(0),
  );
});

test('below another mount path, and with a slash at its end', async () => {
  await start({ mount: '/deep/sd' }, { generationMs: 200 });
  expect(await generate({ prompt: 'deep' }, '/deep/sd')).toBe(200);
  const { page } = await openTracker(open, `${gateway.url}/deep/sd/job-tracker/?q=deep`);
  expect(page.url()).toBe(`${gateway.url}/deep/sd/job-tracker?q=deep`);
  await page.locator('.card', { hasText: 'deep' }).locator('.open').click();
  await eventually(
    () => page.locator('#stage img').evaluate((picture: { naturalWidth: number }) => picture.naturalWidth),
    (width) => expect(width).toBe(512),
  );
});

test('what happens while the connection is lost is there when it is back', async () => {
  await start();
  const { page, context } = await openTracker(open, `${gateway.url}/job-tracker`);
  await context.setOffline(true);
  gateway.server.closeAllConnections();
  await page.locator('#live', { hasText: 'Connection lost' }).waitFor();
  expect(await generate({ prompt: 'missed' })).toBe(200);
  expect(await page.locator('.card').count()).toBe(0);
  await context.setOffline(false);
  await page.locator('.card', { hasText: 'missed' }).waitFor();
  await page.locator('#live[data-state=live]').waitFor();
});

test('a connection that breaks is taken up where it was, with Last-Event-ID', async () => {
  const resumed: (string | undefined)[] = [];
  await start(
    {
      front: (app) =>
        app.use((req, _res, next) => {
          if (req.path.endsWith('/jobs/events'))
            resumed.push(req.headers['last-event-id'] as string | undefined);
          next();
        }),
    },
    { generationMs: 200 },
  );
  const { page } = await openTracker(open, `${gateway.url}/job-tracker`);
  let lists = 0;
  page.on('request', (request) => {
    if (/\/sdapi\/v1\/jobs\?/.test(request.url())) lists += 1;
  });
  expect(await generate({ prompt: 'before' })).toBe(200);
  await page.locator('.card', { hasText: 'before' }).waitFor();
  gateway.server.closeAllConnections();
  expect(await generate({ prompt: 'in between' })).toBe(200);
  await page.locator('.card', { hasText: 'in between' }).waitFor();
  expect(resumed).toEqual([undefined, expect.any(String)]);
  // Nothing had to be loaded anew.
  expect(lists).toBe(0);
});

test('where events do not come, the page looks by itself', async () => {
  await start(
    { front: (app) => app.get('/sdapi/v1/jobs/events', (_req, res) => res.status(404).end()) },
    { generationMs: 200 },
  );
  const { page } = await open(gateway.url);
  await page.goto(`${gateway.url}/job-tracker`);
  await page.locator('#live[data-state=polling]').waitFor();
  expect(await generate({ prompt: 'seen all the same' })).toBe(200);
  await page.locator('.card', { hasText: 'seen all the same' }).waitFor();
});

test('a tracker that cannot keep anything says why, on its page too', async () => {
  await start();
  const second = jobTracker({ dir: folder, env: {}, logger: collectingLogger([]) });
  const server = express().use(second).listen(0, '127.0.0.1');
  await once(server, 'listening');
  await expect(second.ready).rejects.toThrow();
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const { error } = (await (await fetch(`${url}/sdapi/v1/jobs`)).json()) as { error: string };
  const { page } = await open(url);
  await page.goto(`${url}/job-tracker`);
  await page.locator('#banner', { hasText: error }).waitFor();
  await page.getByRole('button', { name: 'Try again' }).waitFor();
  server.closeAllConnections();
  server.close();
  await second.close();
});

const HOSTILE = [
  '<script>alert(1)</script>',
  '<img src=x onerror="alert(2)">',
  '"><svg onload=alert(3)><a href="javascript:alert(4)">x</a>',
  '</textarea></title><iframe srcdoc="<script>parent.alert(5)</script>"></iframe>',
  '{{constructor.constructor("alert(6)")()}} <style>body{display:none}</style> \u202e\u0007 end',
];

test('a prompt full of markup shows itself and does nothing', async () => {
  await start({}, { generationMs: 50 });
  const { page, misdeeds } = await openTracker(open, `${gateway.url}/job-tracker`);
  for (const prompt of HOSTILE) {
    expect(await generate({ prompt, negative_prompt: prompt, sampler_name: 'Euler', styles: [prompt] })).toBe(
      200,
    );
  }
  await page.locator(`.card >> nth=${HOSTILE.length - 1}`).waitFor();
  const shown = await page.locator('.card .prompt').allTextContents();
  expect(shown).toEqual([...HOSTILE].reverse());
  for (let n = 0; n < HOSTILE.length; n += 1) {
    await page.locator('.card .open').nth(n).click();
    await page.locator('#details summary').click();
    const [prompt, negative] = await page.locator('#details .text').allTextContents();
    expect([prompt, negative]).toEqual([shown[n], shown[n]]);
    await page.keyboard.press('Escape');
  }
  expect(await page.locator('script').count()).toBe(1);
  expect(await page.locator('iframe, svg, [onerror], [onload], a[href^="javascript:"]').count()).toBe(0);
  expect(misdeeds).toEqual({ violations: [], dialogs: [], errors: [], strangers: [] });

  // And the listener would have heard of it.
  await page.evaluate(
    `document.body.append(Object.assign(document.createElement('img'), { src: 'https://example.com/x.png' }))`,
  );
  await eventually(
    async () => misdeeds.violations.length,
    (count) => expect(count).toBe(1),
  );
  misdeeds.violations.length = 0;
  misdeeds.strangers.length = 0;
});
