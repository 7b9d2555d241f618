import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { afterEach, expect, test } from '@jest/globals';
import type { AxeResults } from 'axe-core';
import type { BrowserContextOptions, Page } from 'playwright-core';
import type { Job } from '../../lib/index.js';
import type { GatewayOptions } from '../helpers/gateway.js';
import { type KeptJobs, startWithKeptJobs } from '../helpers/kept-jobs.js';
import { sampleImages } from '../helpers/sample-images.js';
import { tempFolders } from '../helpers/temp-folder.js';
import { eventually, openTracker, useBrowser } from './browser.js';

const newFolder = tempFolders();
const open = useBrowser();

const DAY = 86_400;
const now = Math.floor(Date.now() / 1000);

let kept: KeptJobs;

afterEach(() => kept.gateway.close());

async function start(options: GatewayOptions = {}) {
  kept = await startWithKeptJobs(await newFolder(), { env: {}, ...options });
}

const openPage = (query = '', options: BrowserContextOptions = {}) =>
  openTracker(open, `${kept.gateway.url}/job-tracker${query}`, options);

/** A job of so many days ago, with so many pictures. */
async function keep(
  number: number,
  daysAgo: number,
  differences: Partial<Job> = {},
  pictures = 1,
): Promise<Job> {
  const timestamp = now - daysAgo * DAY - 60;
  const output_paths: string[] = [];
  for (let n = 0; n < pictures; n += 1) {
    output_paths.push(await kept.keepFile(`2026-11-22/K${number}-${n}`, 'png', sampleImages.png as Buffer));
  }
  const times = { timestamp, started_at: timestamp, finished_at: timestamp + 5 };
  return kept.keepJob(number, { ...times, bytes: 1_000_000, output_paths, ...differences });
}

const prompts = (page: Page) => page.locator('.card .prompt').allTextContents();

test('what is looked for is found: by text, status, address, backend and day, in an address that can be shared', async () => {
  await start();
  await keep(1, 3, { prompt: 'an old Lighthouse', ip: '192.0.2.7' });
  await keep(
    2,
    1,
    { prompt: 'a harbour', status: 'Failed', error: { code: 'cancelled', message: 'Cancelled' } },
    0,
  );
  await keep(3, 0, { prompt: 'a lighthouse of today', backend: 'comfyui' });
  const { page } = await openPage();
  expect(await prompts(page)).toEqual(['a lighthouse of today', 'a harbour', 'an old Lighthouse']);
  const shows = (...expected: string[]) =>
    eventually(
      () => prompts(page),
      (seen) => expect(seen).toEqual(expected),
    );

  await page.getByPlaceholder('Search prompts').fill('LIGHTHOUSE');
  await shows('a lighthouse of today', 'an old Lighthouse');
  expect(await page.locator('#total').textContent()).toBe('2 jobs found');
  await page.getByLabel('Address').fill('192.0.2.7');
  await shows('an old Lighthouse');
  expect(new URL(page.url()).search).toBe('?q=LIGHTHOUSE&ip=192.0.2.7');
  await page.reload();
  await shows('an old Lighthouse');
  expect(await page.getByLabel('Address').inputValue()).toBe('192.0.2.7');
  await page.getByRole('button', { name: 'Clear' }).click();
  await shows('a lighthouse of today', 'a harbour', 'an old Lighthouse');
  expect(new URL(page.url()).search).toBe('');

  await page.getByLabel('Status').selectOption('Failed');
  await shows('a harbour');
  await page.getByLabel('Status').selectOption('');
  await page.getByLabel('Backend').selectOption('comfyui');
  await shows('a lighthouse of today');
  await page.getByLabel('Backend').selectOption('');
  const day = new Date((now - DAY - 60) * 1000).toLocaleDateString('sv', { timeZone: 'Europe/Berlin' });
  await page.getByLabel('From').fill(day);
  await shows('a lighthouse of today', 'a harbour');
  await page.getByLabel('To', { exact: true }).fill(day);
  await shows('a harbour');
  await page.getByPlaceholder('Search prompts').fill('nothing of the kind');
  await page.getByRole('heading', { name: 'No job matches' }).waitFor();
});

test('a job opened: its pictures by arrow keys, on to the next job, and back by Escape', async () => {
  await start();
  await keep(1, 0, { prompt: 'the older', timestamp: now - 100 }, 1);
  await keep(2, 0, { prompt: 'the newer', request: { seed: 7, steps: 20, negative_prompt: 'fog' } }, 3);
  const { page } = await openPage();
  const shown = () => page.locator('#stage img').getAttribute('src');
  await page.locator('.card', { hasText: 'the newer' }).locator('.open').click();
  await page.locator('#job[open]').waitFor();
  expect(new URL(page.url()).hash).toBe('#Job00002');
  expect(await shown()).toMatch(/Job00002\/images\/0$/);
  expect(await page.locator('#details tr', { hasText: 'Seed' }).locator('td').first().textContent()).toBe(
    '7',
  );
  expect(await page.locator('#details .text').allTextContents()).toEqual(['the newer', 'fog']);
  expect(await page.locator('#counter').textContent()).toBe('1 of 3');

  await page.keyboard.press('ArrowRight');
  await page.keyboard.press('ArrowRight');
  expect(await shown()).toMatch(/Job00002\/images\/2$/);
  expect(new URL(page.url()).hash).toBe('#Job00002/3');
  await page.keyboard.press('ArrowRight');
  expect(await shown()).toMatch(/Job00001\/images\/0$/);
  await page.keyboard.press('ArrowLeft');
  expect(await shown()).toMatch(/Job00002\/images\/2$/);
  await page.reload();
  await page.locator('#counter', { hasText: '3 of 3' }).waitFor();
  await page.keyboard.press('Escape');
  await page.locator('#job').waitFor({ state: 'hidden' });
  expect(new URL(page.url()).hash).toBe('');
  const focused = () => page.evaluate(`document.activeElement.getAttribute('href')`);
  await eventually(focused, (href) => expect(href).toBe('#Job00002'));

  // Back and forth by the browser's own buttons.
  await page.locator('.card .open').first().click();
  await page.locator('#job[open]').waitFor();
  await page.goBack();
  await page.locator('#job').waitFor({ state: 'hidden' });
  await page.goForward();
  await page.locator('#job[open]').waitFor();
});

test('the address of a job that is not there says so', async () => {
  await start();
  const { page } = await openPage('#Unknown1');
  await page.locator('#stage', { hasText: 'There is no job Unknown1' }).waitFor();
});

test('what a browser cannot show is a link, and what it can plays', async () => {
  await start();
  const files = ['clip.mp4', 'voice.mp3', 'mesh.glb'].map((name) => `2026-11-22/${name}`);
  await keep(1, 0, { backend: 'comfyui', output_paths: files });
  const { page } = await openPage('#Job00001');
  await page.locator('#stage a', { hasText: /clip\.mp4/ }).waitFor();
  await page.locator('#next').click();
  await page.locator('#next').click();
  const link = page.locator('#stage a', { hasText: 'Download mesh.glb' });
  expect(await link.getAttribute('download')).toBe('mesh.glb');
});

test('copied: the id, and a command that makes the same again', async () => {
  await start();
  const prompt = `it's "quoted" & $HOME`;
  await keep(1, 0, { prompt, user: 'ann', request: { seed: '18446744073709551615', steps: 20 } });
  const { page, context } = await openPage();
  await context.grantPermissions(['clipboard-read', 'clipboard-write']);
  const copied = () => page.evaluate('navigator.clipboard.readText()');
  await page.getByRole('button', { name: 'Copy the id Job00001' }).click();
  await eventually(copied, (text) => expect(text).toBe('Job00001'));
  await page.locator('.card .open').click();
  await page.getByRole('button', { name: 'Copy as curl' }).click();
  await eventually(copied, (text) => expect(text).toMatch(/^curl /));
  expect(await copied()).toContain(`curl '${kept.gateway.url}/sdapi/v1/txt2img'`);
  expect(await copied()).toContain(`-u 'ann'`);
  expect(await copied()).toContain(`"prompt":"it'\\''s \\"quoted\\" & $HOME"`);
  expect(await copied()).toContain('18446744073709551615');
});

test('what is known of a picture: its own seed, to the last digit, and of a workflow what its nodes were given', async () => {
  await start();
  const { page } = await openPage();
  /** As the page reads an answer of the gateway. */
  const factsOf = (answer: string, n = 0) =>
    page.evaluate(
      async ([base, text, index]) => {
        const { parseExact, textOf } = await import(`${base}/exact-json.js`);
        const { facts } = (await import(`${base}/job-facts.js`)).factsOf(parseExact(text), index);
        return Object.fromEntries(facts.map(([name, value]: [string, unknown]) => [name, textOf(value)]));
      },
      [`${kept.gateway.url}/job-tracker`, answer, n] as const,
    );
  const info =
    '{"seed": 1, "all_seeds": [18446744073709551614, 18446744073709551615], "cfg_scale": 7.0, "index_of_first_image": 1}';
  const a1111 = `{"id": "Job00001", "prompt": "", "info": ${JSON.stringify(info)}, "parameters": {"seed": -1, "cfg_scale": 7.0, "vae": null}}`;
  expect(await factsOf(a1111, 2)).toEqual({ Seed: '18446744073709551615', 'CFG scale': '7.0' });
  expect(await factsOf(a1111, 0)).toMatchObject({ Seed: '18446744073709551614' });

  const sampler =
    '"3": {"class_type": "KSampler", "inputs": {"seed": 18446744073709551615, "cfg": 8.0, "model": ["4", 0]}}';
  const workflow = `{${sampler}, "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 768}}}`;
  expect(
    await factsOf(`{"id": "Job00001", "prompt": "", "backend": "comfyui", "workflow": ${workflow}}`),
  ).toEqual({
    Seed: '18446744073709551615',
    'CFG scale': '8.0',
    Size: '512 × 768',
  });
});

test('one picture and all of them are downloaded', async () => {
  await start();
  await keep(1, 0, {}, 3);
  const { page } = await openPage('#Job00001/2');
  const download = async (name: string) => {
    const link = page.getByRole('link', { name, exact: true });
    const [file] = await Promise.all([page.waitForEvent('download'), link.click()]);
    return [file.suggestedFilename(), await readFile(await file.path())] as const;
  };
  const [name, bytes] = await download('Download');
  expect(name).toMatch(/\.png$/);
  expect(bytes.equals(sampleImages.png as Buffer)).toBe(true);
  const [zip, packed] = await download('All 3 (zip)');
  expect(zip).toBe('Job00001.zip');
  expect(packed.includes(sampleImages.png as Buffer)).toBe(true);
});

test('a job is deleted, after a question', async () => {
  await start();
  await keep(1, 0, {}, 2);
  const { page } = await openPage('#Job00001');
  await page.getByRole('button', { name: 'Delete' }).click();
  const question = page.getByRole('dialog', { name: 'Delete this job?' });
  expect(await question.textContent()).toContain('2 files');
  await question.getByRole('button', { name: 'Keep' }).click();
  expect(await kept.gateway.tracker.jobs.get('Job00001')).toBeDefined();
  await page.getByRole('button', { name: 'Delete' }).click();
  await question.getByRole('button', { name: 'Delete' }).click();
  await page.getByRole('heading', { name: 'No jobs yet' }).waitFor();
  expect(await kept.gateway.tracker.jobs.get('Job00001')).toBeUndefined();
});

test('a job that somebody else removes goes', async () => {
  await start();
  await keep(1, 0);
  await keep(2, 0);
  const { page } = await openPage('#Job00001');
  await page.locator('#stage img').waitFor();
  await kept.gateway.tracker.jobs.remove('Job00001');
  await page.locator('#job').waitFor({ state: 'hidden' });
  await eventually(
    () => page.locator('.card').count(),
    (count) => expect(count).toBe(1),
  );
  expect(await page.locator('#total').textContent()).toBe('1 job');
});

test('the switches change what the gateway does', async () => {
  await start();
  await keep(1, 9);
  const settings = async () => (await fetch(`${kept.gateway.url}/job-tracker/settings`)).json();
  const { page } = await openPage();
  await page.getByRole('button', { name: 'Settings' }).click();
  const tracking = page.getByLabel(/Tracking/);
  await tracking.uncheck();
  await eventually(settings, (seen) => expect(seen).toMatchObject({ tracking_enabled: false }));
  await page.locator('#banner', { hasText: 'Tracking is off' }).waitFor({ state: 'attached' });
  await tracking.check();
  await eventually(settings, (seen) => expect(seen).toMatchObject({ tracking_enabled: true }));

  await page.getByLabel('30 days', { exact: true }).check();
  await eventually(settings, (seen) => expect(seen).toMatchObject({ retention_days: 30 }));
  // A time by which something would go is asked about.
  await page.getByLabel('7 days', { exact: true }).click();
  const question = page.getByRole('dialog', { name: 'Keep jobs for 7 days?' });
  expect(await question.textContent()).toContain('1 job (1 MB)');
  await question.getByRole('button', { name: 'Leave it' }).click();
  expect(await page.getByLabel('30 days', { exact: true }).isChecked()).toBe(true);
  expect(await settings()).toMatchObject({ retention_days: 30 });
  await page.getByLabel('other').check();
  await page.getByLabel('Days', { exact: true }).fill('12.5');
  await page.getByLabel('Days', { exact: true }).press('Enter');
  await eventually(settings, (seen) => expect(seen).toMatchObject({ retention_days: 12.5 }));
  await page.getByLabel('for ever').check();
  await eventually(settings, (seen) => expect(seen).toMatchObject({ retention_days: 0 }));
  await page.locator('#health dd', { hasText: 'fine' }).first().waitFor();
  expect(await page.locator('#disk-text').textContent()).toMatch(/free; jobs take/);
});

test('a purge says what will go, and what went', async () => {
  await start();
  for (const [number, daysAgo] of [0, 0, 4, 9].entries()) await keep(number, daysAgo);
  const { page } = await openPage();
  await page.getByRole('button', { name: 'Settings' }).click();
  await page.locator('#kept', { hasText: '4 jobs kept, 4 MB' }).waitFor();
  const purge = page.getByRole('button', { name: 'Purge…' });
  await purge.click();
  await page.locator('#purged', { hasText: 'nothing to remove' }).waitFor();
  await page.getByLabel('Ended').selectOption('3');
  await purge.click();
  const question = page.getByRole('dialog', { name: 'Remove 2 jobs?' });
  expect(await question.textContent()).toContain('2 jobs that ended more than 3 days ago, 2 MB');
  await question.getByRole('button', { name: 'Remove 2 jobs' }).click();
  await page.locator('#purged', { hasText: '2 jobs removed, 2 MB freed.' }).waitFor();
  await eventually(
    () => page.locator('.card').count(),
    (count) => expect(count).toBe(2),
  );
});

test('what the environment has decided, and what only admins may, is shown as it is and cannot be changed', async () => {
  await start({ env: { TRACKER_RETENTION: '7' } });
  const { page } = await openPage();
  await page.getByRole('button', { name: 'Settings' }).click();
  await page.getByText('Fixed by the environment: TRACKER_RETENTION').waitFor();
  expect(await page.getByLabel('7 days', { exact: true }).isChecked()).toBe(true);
  expect(await page.getByLabel('7 days', { exact: true }).isDisabled()).toBe(true);
  expect(await page.getByLabel(/Tracking/).isDisabled()).toBe(false);
  await kept.gateway.close();

  await start({ auth: 'ann:uno,root:two', admins: ['root'] });
  const { page: anns } = await openPage('', { httpCredentials: { username: 'ann', password: 'uno' } });
  await anns.getByRole('button', { name: 'Settings' }).click();
  await anns.getByText('Only an admin can change these').waitFor();
  expect(await anns.getByLabel(/Tracking/).isDisabled()).toBe(true);
  expect(await anns.getByRole('button', { name: 'Purge…' }).isDisabled()).toBe(true);
});

test('six hundred jobs come page by page, and only those around are in the document', async () => {
  await start();
  for (let number = 1; number <= 600; number += 1) {
    await kept.keepJob(number, { timestamp: now - (600 - number) * 60, prompt: `number ${number}` });
  }
  const { page } = await openPage();
  const seen = () => page.locator('.card').count();
  const card = (number: number) => page.locator('.card', { hasText: new RegExp(`number ${number}(?!\\d)`) });
  await card(600).waitFor();
  expect(await seen()).toBeLessThanOrEqual(180);
  await eventually(
    async () => {
      await page.evaluate('scrollTo(0, document.body.scrollHeight)');
      return card(1).count();
    },
    (count) => expect(count).toBe(1),
  );
  expect(await seen()).toBeLessThan(300);
  expect(await card(600).count()).toBe(0);
  expect(await page.getByRole('button', { name: 'Load more' }).isVisible()).toBe(false);
  await page.evaluate('scrollTo(0, 0)');
  await card(600).waitFor();
});

test('the keyboard alone is enough', async () => {
  await start();
  await keep(1, 0, { prompt: 'by keyboard' }, 2);
  const { page } = await openPage();
  await page.keyboard.press('/');
  await page.keyboard.type('keyboard');
  await page.locator('#total', { hasText: '1 job found' }).waitFor();
  const focused = () => page.evaluate('document.activeElement.className + document.activeElement.id');
  for (let presses = 0; presses < 15 && (await focused()) !== 'open'; presses += 1)
    await page.keyboard.press('Tab');
  expect(await focused()).toBe('open');
  const outline = await page.evaluate(`getComputedStyle(document.activeElement).outlineStyle`);
  expect(outline).toBe('solid');
  await page.keyboard.press('Enter');
  await page.locator('#job[open]').waitFor();
  await page.keyboard.press('ArrowRight');
  expect(await page.locator('#counter').textContent()).toBe('2 of 2');
  await page.keyboard.press('Escape');
  await page.locator('#job').waitFor({ state: 'hidden' });
  await eventually(focused, (name) => expect(name).toBe('open'));
});

test.each([320, 390])('a phone of %i pixels scrolls in one direction only', async (width) => {
  await start();
  await keep(1, 0, { prompt: 'a'.repeat(500), ip: '2001:db8:1234:5678:9abc:def0:1234:5678' }, 8);
  const options = { viewport: { width, height: 700 }, isMobile: true, hasTouch: true };
  const { page } = await openPage('', options);
  const overflow = () =>
    page.evaluate(`[...document.querySelectorAll('html, #job, #details, .show, #settings')]
      .filter((one) => one.scrollWidth > one.clientWidth + 1).map((one) => one.id || one.className || 'page')`);
  expect(await overflow()).toEqual([]);
  await page.getByRole('button', { name: 'Filters' }).click();
  await page.getByLabel('Status').waitFor();
  expect(await overflow()).toEqual([]);
  await page.locator('.card .open').click();
  await page.locator('#details table').first().waitFor();
  expect(await overflow()).toEqual([]);
  await page.getByRole('button', { name: 'Close the job' }).click();
  await page.getByRole('button', { name: 'Settings' }).click();
  await page.locator('#health dd').first().waitFor();
  expect(await overflow()).toEqual([]);
});

test.each(['light', 'dark'] as const)('no barrier that axe knows of, %s', async (colorScheme) => {
  await start();
  await keep(1, 0, { request: { seed: 1, steps: 20 } }, 3);
  const error = { code: 'backend', message: 'OutOfMemoryError', status: 500 } as const;
  await keep(2, 0, { status: 'Failed', error }, 0);
  const { page } = await openPage('', { colorScheme });
  const axe = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
  await page.evaluate(axe);
  const barriers = async () => {
    const { violations, passes } = (await page.evaluate('axe.run()')) as AxeResults;
    expect(passes.map(({ id }) => id)).toContain('color-contrast');
    return violations.map(({ id, nodes }) => [id, ...nodes.map(({ target }) => String(target))]);
  };
  expect(await barriers()).toEqual([]);
  for (const id of ['Job00001', 'Job00002']) {
    await page.locator(`.card .open[href="#${id}"]`).click();
    await page.locator('#details table').first().waitFor();
    expect(await barriers()).toEqual([]);
    await page.keyboard.press('Escape');
    await page.locator('#job').waitFor({ state: 'hidden' });
  }
  await page.getByRole('button', { name: 'Settings' }).click();
  await page.locator('#health dd').first().waitFor();
  expect(await barriers()).toEqual([]);
  await page.getByLabel('Ended').selectOption('all');
  await page.getByRole('button', { name: 'Purge…' }).click();
  await page.getByRole('dialog', { name: /^Remove/ }).waitFor();
  expect(await barriers()).toEqual([]);
});
