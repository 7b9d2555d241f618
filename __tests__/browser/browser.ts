import { afterAll, afterEach, beforeAll, expect } from '@jest/globals';
import {
  type Browser,
  type BrowserContext,
  type BrowserContextOptions,
  chromium,
  type Page,
} from 'playwright-core';

const EXECUTABLE = process.env.CHROMIUM ?? '/usr/bin/chromium';
const ARGS = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];
const WAIT_MS = 15_000;

/** What a page has done that it must not do. */
export interface Misdeeds {
  /** Of the Content Security Policy, as the browser reports them. */
  readonly violations: string[];
  /** `alert` and the like. */
  readonly dialogs: string[];
  /** Exceptions that nobody has caught. */
  readonly errors: string[];
  /** Requests to anywhere but the gateway. */
  readonly strangers: string[];
}

export interface OpenedPage {
  readonly page: Page;
  readonly context: BrowserContext;
  readonly misdeeds: Misdeeds;
}

/** A Chromium for the tests of a file. Its pages are closed after each test, which fails where one has done what it must not. */
export function useBrowser(): (url: string, options?: BrowserContextOptions) => Promise<OpenedPage> {
  let browser: Browser;
  const opened: OpenedPage[] = [];
  beforeAll(async () => {
    browser = await chromium.launch({ executablePath: EXECUTABLE, args: ARGS });
  });
  afterEach(async () => {
    const pages = opened.splice(0);
    for (const { context } of pages) await context.close();
    for (const { misdeeds } of pages) {
      expect(misdeeds).toEqual({ violations: [], dialogs: [], errors: [], strangers: [] });
    }
  });
  afterAll(() => browser?.close());

  return async (url, options = {}) => {
    const context = await browser.newContext({
      viewport: { width: 1280, height: 800 },
      timezoneId: 'Europe/Berlin',
      locale: 'en-GB',
      ...options,
    });
    context.setDefaultTimeout(WAIT_MS);
    const misdeeds: Misdeeds = { violations: [], dialogs: [], errors: [], strangers: [] };
    await context.exposeBinding('reportViolation', (_source, text: string) => misdeeds.violations.push(text));
    await context.addInitScript(`addEventListener('securitypolicyviolation', (event) =>
      reportViolation(event.violatedDirective + ' ' + event.blockedURI + ' ' + event.sample));`);
    const page = await context.newPage();
    page.on('dialog', (dialog) => {
      misdeeds.dialogs.push(dialog.message());
      void dialog.dismiss();
    });
    page.on('pageerror', (error) => misdeeds.errors.push(String(error)));
    page.on('request', (request) => {
      if (!request.url().startsWith(new URL(url).origin)) misdeeds.strangers.push(request.url());
    });
    const one = { page, context, misdeeds };
    opened.push(one);
    return one;
  };
}

/** Opens the Job Tracker page, and waits until it is live. */
export async function openTracker(
  open: (url: string, options?: BrowserContextOptions) => Promise<OpenedPage>,
  url: string,
  options?: BrowserContextOptions,
): Promise<OpenedPage> {
  const opened = await open(url, options);
  await opened.page.goto(url);
  await opened.page.locator('#live[data-state=live]').waitFor();
  await opened.page.locator('#total:not(:empty)').waitFor();
  return opened;
}

/** Resolves once the check holds for what the look shows; fails with the last difference. */
export async function eventually<T>(look: () => Promise<T>, check: (seen: T) => void): Promise<void> {
  const until = performance.now() + WAIT_MS;
  for (;;) {
    try {
      check(await look());
      return;
    } catch (error) {
      if (performance.now() > until) throw error;
      await new Promise((resolve) => setTimeout(resolve, 30));
    }
  }
}
