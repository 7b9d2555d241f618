import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Bench } from './harness/bench.js';
import { writeRecords } from './harness/kept-records.js';
import { plotSvg } from './harness/plot.js';
import { quantile } from './harness/statistics.js';
import type { Usage } from './harness/usage.js';
import type { SteadySample } from './processes/steady-client.js';

const KEPT = 100_000;
const PER_SECOND = 20;
/** The oldest of what is kept at the start ends its time at once, the youngest when all of it has been replaced. */
const RETENTION_SECONDS = KEPT / PER_SECOND;
const SAMPLE_MS = 1_000;

interface Sample extends SteadySample, Usage {
  readonly atSeconds: number;
  readonly jobs: number;
}

/** A constant rate for a long time, with as many old jobs removed as new ones come. */
export const soak: Bench = async ({ options, report, workshop }) => {
  const folder = await workshop.makeFolder();
  const now = Date.now() / 1000;
  await writeRecords({ folder, count: KEPT, finishedAt: (n) => now - RETENTION_SECONDS + n / PER_SECOND });
  const backend = await workshop.start('backend');
  await backend.ask('answerWith', { images: 1, imageBytes: 100_000 });
  const gateway = await workshop.start('gateway', 'soak', backend.url, folder, String(RETENTION_SECONDS));
  const client = await workshop.start('steady-client', gateway.url, String(PER_SECOND));
  const samples: Sample[] = [];
  await client.ask('start');
  const began = performance.now();
  const seconds = options.minutes * 60;
  for (let next = SAMPLE_MS; next <= seconds * 1000; next += SAMPLE_MS) {
    await sleep(Math.max(0, began + next - performance.now()));
    const [steady, usage, jobs] = await Promise.all([
      client.ask<SteadySample>('sample'),
      gateway.ask<Usage>('usage'),
      gateway.ask<number>('kept'),
    ]);
    if (steady.failures.length > 0)
      throw new Error(`Expected no failures, got ${steady.failures.join(', ')}`);
    samples.push({ atSeconds: (performance.now() - began) / 1000, jobs, ...steady, ...usage });
  }
  await client.ask('stop');
  const answered = samples.reduce((sum, sample) => sum + sample.answered, 0);
  if (answered < 0.95 * PER_SECOND * seconds) {
    throw new Error(`Expected about ${PER_SECOND * seconds} answers, got ${answered}`);
  }

  report.say(
    `${PER_SECOND} jobs a second with one image of 100 KB, ${KEPT} kept, ${options.minutes} minutes`,
  );
  report.say('  The median of the first fifth behind the start-up, of all, and of the last fifth:');
  const fifth = Math.max(1, Math.floor(samples.length / 5));
  // V8 compiles, and the heap finds its size, in the first one.
  const begin = samples.slice(fifth, 2 * fifth);
  const end = samples.slice(-fifth);
  for (const { name, unit, value, most } of SERIES) {
    const of = (some: readonly Sample[]) => quantile(some.map(value), 0.5);
    report.say(
      `  ${name.padEnd(30)} ${[begin, samples, end].map((some) => of(some).toFixed(1)).join('   ')} ${unit}`,
    );
    report.add(`${name}: at the end over at the begin`, [of(end) / of(begin)], {
      ...(most !== undefined && { target: { is: 'at most', value: most } }),
    });
  }
  const results = join(import.meta.dirname, 'results');
  await mkdir(results, { recursive: true });
  const file = join(results, 'soak.svg');
  const panels = SERIES.map(({ name, unit, value }) => ({
    title: `${name} (${unit})`,
    points: samples.map((sample) => [sample.atSeconds / 60, value(sample)] as const),
  }));
  await writeFile(file, plotSvg({ title: `${PER_SECOND} jobs/s, ${KEPT} kept`, xTitle: 'minutes', panels }));
  report.say(`  ${file}`);
  await Promise.all([client, gateway, backend].map((worker) => worker.stop()));
};

const SERIES: readonly {
  readonly name: string;
  readonly unit: string;
  readonly value: (sample: Sample) => number;
  /** How much more than at the begin is still the same. */
  readonly most?: number;
}[] = [
  { name: 'memory resident', unit: 'MiB', value: ({ rssBytes }) => rssBytes / 1024 / 1024, most: 1.1 },
  { name: 'descriptors', unit: 'open', value: ({ descriptors }) => descriptors, most: 1.1 },
  { name: 'latency, p50', unit: 'ms', value: ({ p50Ms }) => p50Ms, most: 1.5 },
  { name: 'latency, p99', unit: 'ms', value: ({ p99Ms }) => p99Ms },
  { name: 'jobs kept', unit: 'jobs', value: ({ jobs }) => jobs, most: 1.01 },
];
