import { createHash } from 'node:crypto';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { type Answer, makeAnswer } from './harness/answer.js';
import type { Bench, BenchContext } from './harness/bench.js';
import { type MeasuredLoad, measureLoad } from './harness/measure-load.js';
import { inRounds, valuesOf } from './harness/rounds.js';
import { ratios } from './harness/statistics.js';
import { verifyImages } from './harness/verify-images.js';
import type { Worker } from './harness/workshop.js';
import type { Load } from './processes/client.js';

const MB = 1_000_000;

interface Case {
  readonly name: string;
  readonly images: number;
  readonly imageBytes: number;
  readonly connections: number;
  /** Jobs read in each round; a tenth of it with `--quick`. */
  readonly jobs: number;
  readonly files: number;
}

const CASES: readonly Case[] = [
  { name: '4 images of 1.5 MB', images: 4, imageBytes: 1.5 * MB, connections: 4, jobs: 120, files: 600 },
  { name: '16 images of 6 MB', images: 16, imageBytes: 6 * MB, connections: 4, jobs: 12, files: 150 },
];

/** Reading back: a job as JSON with its images in base64, and an image by itself. */
export const read: Bench = async (context) => {
  for (const one of CASES) await measureCase(one, context);
};

async function measureCase(one: Case, { options, report, workshop }: BenchContext): Promise<void> {
  const dir = await workshop.makeFolder();
  const answer = makeAnswer(one);
  const backend = await workshop.start('backend');
  const sizeBytes = await backend.ask<number>('answerWith', one);
  const client = await workshop.start('client');
  const ours = await workshop.start('gateway', 'forward', backend.url, dir);
  const generate = {
    method: 'POST',
    path: '/sdapi/v1/txt2img',
    connections: 1,
    requests: 1,
    sizeBytes,
  } as const;
  await client.ask('run', { url: ours.url, ...generate });
  await verifyImages(join(dir, 'output'), answer, 1);
  await backend.stop();
  const [id] = await ours.ask<string[]>('ids', 1);
  const output = join(dir, 'output');
  const names = (await readdir(output, { recursive: true })).filter((name) => name.endsWith('.png'));
  names.sort((a, b) => numberOf(a) - numberOf(b));

  // The one that made the job has memory left from that; reading is done by fresh ones.
  await ours.stop();
  const naive = await workshop.start('gateway', 'reader', '', dir);
  const tracker = await workshop.start('gateway', 'forward', 'http://127.0.0.1:9', dir);
  await verifyJob(`${tracker.url}/sdapi/v1/job/${id}`, answer);
  const share = options.quick ? 0.1 : 1;
  const { connections } = one;
  const jobs = Math.max(connections, Math.round(one.jobs * share));
  const files = Math.max(connections, Math.round(one.files * share));
  const get = (gateway: Worker, path: string, requests: number): Promise<MeasuredLoad> => {
    const load: Load = { url: gateway.url, path, method: 'GET', connections, requests };
    return measureLoad(client, gateway, load);
  };
  const results = await inRounds<MeasuredLoad>(options.rounds, [
    { name: 'naive', run: () => get(naive, `/job?names=${encodeURIComponent(names.join(','))}`, jobs) },
    { name: 'tracker', run: () => get(tracker, `/sdapi/v1/job/${id}`, jobs) },
    { name: 'sendFile', run: () => get(naive, `/file?name=${encodeURIComponent(names[0] ?? '')}`, files) },
    { name: 'route', run: () => get(tracker, `/sdapi/v1/job/${id}/images/0`, files) },
  ]);
  // The same file is the same number of bytes, by whichever route.
  const { size } = await stat(join(output, names[0] ?? ''));
  for (const { bytes } of [...(results.get('sendFile') ?? []), ...(results.get('route') ?? [])]) {
    if (bytes !== size * files) throw new Error(`Expected ${size * files} bytes, got ${bytes}`);
  }
  const rate = ({ bytes, seconds }: MeasuredLoad) => bytes / seconds / MB;
  const of = (name: string) => valuesOf(results, name, rate);
  report.say(`A job with ${one.name}, ${connections} at a time`);
  report.add('readFile, toString, res.json', of('naive'), { unit: 'MB/s' });
  report.add('GET /sdapi/v1/job/{id}: throughput over that', ratios(of('tracker'), of('naive')), {
    target: { is: 'at least', value: 3 },
  });
  report.add("express's sendFile", of('sendFile'), { unit: 'MB/s' });
  report.add('GET /sdapi/v1/job/{id}/images/0: throughput over that', ratios(of('route'), of('sendFile')), {
    target: { is: 'at least', value: 0.9 },
  });
  const peak = (name: string) => [
    Math.max(...valuesOf(results, name, ({ peakBytes }) => peakBytes)) / 1024 / 1024,
  ];
  report.add('readFile, toString, res.json: most memory resident', peak('naive'), { unit: 'MiB' });
  report.add('GET /sdapi/v1/job/{id}: most memory resident', peak('tracker'), {
    unit: 'MiB',
    target: { is: 'at most', value: 120 },
  });
  await Promise.all([client, naive, tracker].map((worker) => worker.stop()));
}

const numberOf = (name: string) => Number(/-(\d+)\.png$/.exec(name)?.[1]);

/** Throws unless the job's JSON has every image in it, byte for byte. */
async function verifyJob(url: string, { imageHashes }: Answer): Promise<void> {
  const { images } = (await (await fetch(url)).json()) as { images: string[] };
  const found = images.map((image) =>
    createHash('sha256').update(Buffer.from(image, 'base64')).digest('hex'),
  );
  if (found.join() !== imageHashes.join())
    throw new Error(`Expected ${url} to give the images that were made`);
}
