import { afterEach, expect, test } from '@jest/globals';
import express from 'express';
import type { HealthReport } from '../../lib/health.js';
import { type HealthRoutesOptions, healthRoutes } from '../../lib/routes/health-routes.js';
import { call } from '../helpers/client.js';
import { type CollectedLog, collectLog } from '../helpers/job-records.js';

const well: HealthReport = {
  ok: true,
  store: { ok: true },
  images: { ok: true },
  backends: { a1111: { ok: true } },
  queue: { running: 1, waiting: 2 },
  disk: { free_bytes: 3, total_bytes: 4, images_bytes: 5 },
};
const ill: HealthReport = { ...well, ok: false, store: { ok: false, error: 'the disk is full' } };

const cleanups: (() => unknown)[] = [];
let log: CollectedLog;

afterEach(async () => {
  for (const cleanup of cleanups.splice(0)) await cleanup();
});

async function start(
  report: HealthReport | Error,
  isKnown: HealthRoutesOptions['isKnown'],
): Promise<{ url: string; looks: () => number }> {
  log = collectLog();
  let looks = 0;
  const look = async () => {
    looks += 1;
    if (report instanceof Error) throw report;
    return report;
  };
  const app = express().use('/mount', healthRoutes({ health: { look }, isKnown, logger: log }));
  const server = app.listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  cleanups.push(() => server.close());
  const { port } = server.address() as { port: number };
  return { url: `http://127.0.0.1:${port}/mount/job-tracker/health`, looks: () => looks };
}

const cases = [
  { report: well, known: 'yes', status: 200, body: well },
  { report: ill, known: 'yes', status: 503, body: ill },
  { report: well, known: 'no', status: 200, body: { ok: true } },
  { report: ill, known: 'no', status: 503, body: { ok: false } },
] as const;

test.each(cases)(
  'known: $known, all well: $report.ok gives $status',
  async ({ report, known, status, body }) => {
    const { url } = await start(report, async () => known);
    const answer = await call(url).answer;
    expect([answer.status, JSON.parse(answer.body.toString())]).toEqual([status, body]);
    expect(answer.headers).toMatchObject({
      'content-type': 'application/json; charset=utf-8',
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
    });
    const head = await call(url, { method: 'HEAD' }).answer;
    expect([head.status, head.body.length]).toEqual([status, 0]);
    expect(head.headers['content-length']).toBe(answer.headers['content-length']);
    expect((await call(url, { method: 'POST' }).answer).status).toBe(404);
  },
);

test('who has been refused already gets nothing more, and nothing is looked at', async () => {
  const { url, looks } = await start(well, async (_req, res) => {
    res.status(401).json({ error: 'wrong login' });
    return 'answered';
  });
  const { status, body } = await call(url).answer;
  expect([status, body.toString(), looks()]).toEqual([401, '{"error":"wrong login"}', 0]);
  expect(log.errors).toEqual([]);
});

test('it answers, and says no more, also when something in it breaks', async () => {
  const broken = new Error('not foreseen');
  const servers = [
    await start(broken, async () => 'yes'),
    await start(well, () => Promise.reject(broken)),
    await start(well, () => {
      throw broken;
    }),
  ];
  for (const { url } of servers) {
    const { status, body, headers } = await call(url).answer;
    expect([status, body.toString(), headers['cache-control']]).toEqual([503, '{"ok":false}', 'no-store']);
  }
  expect(log.errors).toEqual(['The state of the gateway could not be told Error: not foreseen']);
});
