import type { Bench, BenchContext } from './harness/bench.js';
import { idOf, writeRecords } from './harness/kept-records.js';
import { inRounds, valuesOf } from './harness/rounds.js';
import { ratios } from './harness/statistics.js';
import type { Worker } from './harness/workshop.js';
import type { LoadResult } from './processes/client.js';
import type { JobsResult, SteadyResult } from './processes/record-store.js';

const COUNTS = [1_000, 10_000, 100_000];
const MANY = 100_000;

/** What records cost: with few kept and with many. */
export const records: Bench = async (context) => {
  const counts = context.options.large ? [...COUNTS, 1_000_000] : COUNTS;
  const folders = new Map<number, string>();
  for (const count of counts) {
    const folder = await context.workshop.makeFolder();
    folders.set(count, folder);
    const now = Date.now() / 1000;
    await writeRecords({ folder, count, finishedAt: (n) => Math.round(now - count + n) });
  }
  await measureOpening(folders, context);
  await measureJobs(folders, context);
  for (const [count, folder] of folders) await measureRoutes(count, folder, context);
  // The last, because it makes some of the records large.
  for (const [count, folder] of folders) await measureSteady(count, folder, context);
};

async function measureOpening(
  folders: ReadonlyMap<number, string>,
  { options, report, workshop }: BenchContext,
): Promise<void> {
  const results = await inRounds(
    Math.min(options.rounds, 5),
    [...folders].map(([count, folder]) => ({
      name: String(count),
      run: async () => {
        const store = await workshop.start('record-store', folder, 'o');
        const opened = await store.ask<{ openMs: number; rssBytes: number }>('opened');
        await store.stop();
        return opened;
      },
    })),
  );
  report.say('Opening the store');
  for (const count of folders.keys()) {
    const openMs = valuesOf(results, String(count), (opened) => opened.openMs);
    report.add(`${count} kept: until it is open`, openMs, {
      unit: 'ms',
      ...(count === MANY && { target: { is: 'at most', value: 1500 } }),
    });
    const rss = valuesOf(results, String(count), ({ rssBytes }) => rssBytes / 1024 / 1024);
    report.add(`${count} kept: memory resident then`, rss, { unit: 'MiB' });
  }
}

async function measureJobs(
  folders: ReadonlyMap<number, string>,
  { options, report, workshop }: BenchContext,
): Promise<void> {
  const stores = new Map<number, Worker>();
  for (const [count, folder] of folders) {
    stores.set(count, await workshop.start('record-store', folder, 'j'));
  }
  // With many kept, a snapshot is as rare as it is large: there have to be enough jobs to pay for one.
  const count = options.quick ? 2_000 : 30_000;
  const results = await inRounds<JobsResult>(
    options.rounds,
    [...stores].map(([kept, store]) => ({
      name: String(kept),
      run: () => store.ask<JobsResult>('jobs', { count, atOnce: 100 }),
    })),
  );
  report.say('A job from beginning to end (five changes), 100 at a time');
  const cpu = ({ cpuUsPerJob }: JobsResult) => cpuUsPerJob;
  const wall = ({ wallUsPerJob }: JobsResult) => wallUsPerJob;
  report.add('1000 kept: processor time', valuesOf(results, '1000', cpu), { unit: 'us' });
  for (const kept of [...folders.keys()].slice(1)) {
    const name = String(kept);
    const target = kept === MANY ? ({ target: { is: 'at most', value: 1.15 } } as const) : {};
    const cpuRatios = ratios(valuesOf(results, name, cpu), valuesOf(results, '1000', cpu));
    report.add(`${kept} kept: processor time over that with 1000`, cpuRatios, target);
    const wallRatios = ratios(valuesOf(results, name, wall), valuesOf(results, '1000', wall));
    report.add(`${kept} kept: time over that with 1000`, wallRatios, target);
  }
  for (const store of stores.values()) {
    await store.ask('close');
    await store.stop();
  }
}

async function measureSteady(
  count: number,
  folder: string,
  { options, report, workshop }: BenchContext,
): Promise<void> {
  const store = await workshop.start('record-store', folder, 's');
  const seconds = options.quick ? 7 : 20;
  report.say(`1000 changes a second with ${count} kept`);
  const idle = await store.ask<{ loopDelayP99Ms: number; syncP99Ms: number }>('idle', { seconds: 3 });
  report.add('the machine itself: event loop delay p99', [idle.loopDelayP99Ms], { unit: 'ms' });
  report.add('the machine itself: p99 until 600 bytes are synced', [idle.syncP99Ms], { unit: 'ms' });
  const isTarget = count === MANY;
  for (const [what, padding] of [
    ['records of 600 bytes', 60],
    // Twenty times as large, so that the journal soon outgrows jobs.json.
    ['while snapshots are written', 12_000],
  ] as const) {
    const steady = await store.ask<SteadyResult>('steady', { perSecond: 1000, seconds, padding });
    const label = padding > 1000 ? `${what} (${steady.snapshots})` : what;
    report.add(`${label}: changes acknowledged a second`, [steady.perSecond], { unit: '/s' });
    report.add(`${label}: p50 until a change is durable`, [steady.ackP50Ms], { unit: 'ms' });
    report.add(`${label}: p99 until a change is durable`, [steady.ackP99Ms], {
      unit: 'ms',
      ...(isTarget && { target: { is: 'at most', value: 30 } }),
    });
    report.add(`${label}: event loop delay p99`, [steady.loopDelayP99Ms], {
      unit: 'ms',
      ...(isTarget && { target: { is: 'at most', value: 10 } }),
    });
    report.add(`${label}: longest event loop delay`, [steady.loopDelayMaxMs], { unit: 'ms' });
  }
  await store.ask('close');
  await store.stop();
}

const FILTERS = {
  none: '',
  ip: '?ip=10.0.3.3',
  status: '?status=failed',
  backend: '?backend=comfyui',
  after: `?after=${Math.floor(Date.now() / 1000) - 500}`,
  before: `?before=${idOf(500)}`,
  'an ip that nobody has': '?ip=10.9.9.9',
};

async function measureRoutes(
  count: number,
  folder: string,
  { options, report, workshop }: BenchContext,
): Promise<void> {
  const gateway = await workshop.start('gateway', 'forward', 'http://127.0.0.1:9', folder);
  const client = await workshop.start('client');
  const requests = options.quick ? 100 : 500;
  const paths = new Map(Object.entries(FILTERS).map(([name, query]) => [name, `/sdapi/v1/jobs${query}`]));
  paths.set('a record', `/sdapi/v1/job/${idOf(700)}?images=none`);
  const results = await inRounds<LoadResult>(
    options.rounds,
    [...paths].map(([name, path]) => ({
      name,
      run: () =>
        client.ask<LoadResult>('run', { url: gateway.url, path, method: 'GET', connections: 1, requests }),
    })),
  );
  report.say(
    `GET /sdapi/v1/jobs with ${count} kept, by filter: the median time of ${requests}, one at a time`,
  );
  for (const name of paths.keys()) {
    const value = name === 'a record' ? 1 : 2;
    report.add(
      name,
      valuesOf(results, name, ({ p50Ms }) => p50Ms),
      {
        unit: 'ms',
        ...(count === MANY && { target: { is: 'at most', value } }),
      },
    );
  }
  await Promise.all([gateway.stop(), client.stop()]);
}
