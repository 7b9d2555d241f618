import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { type AnswerShape, makeAnswer } from './harness/answer.js';
import type { Bench, BenchContext } from './harness/bench.js';
import { type MeasuredLoad, measureLoad } from './harness/measure-load.js';
import { inRounds, valuesOf } from './harness/rounds.js';
import { ratios } from './harness/statistics.js';
import { verifyImages } from './harness/verify-images.js';
import type { Worker } from './harness/workshop.js';
import type { GatewayKind } from './processes/gateway-kinds.js';

const MB = 1_000_000;

interface Size extends AnswerShape {
  readonly name: string;
  readonly connections: number;
  /** In each round; a tenth of it with `--quick`. */
  readonly requests: number;
  /** Who buffers gets no answer through that is longer than a string can be. */
  readonly peers: readonly GatewayKind[];
}

const ALL: readonly GatewayKind[] = ['proxy', 'forward', 'wrap', 'pipe', 'naive'];

const SIZES: readonly Size[] = [
  { name: '2 MB', images: 1, imageBytes: 1.5 * MB, connections: 4, requests: 160, peers: ALL },
  { name: '16 MB', images: 4, imageBytes: 3 * MB, connections: 4, requests: 40, peers: ALL },
  { name: '64 MB', images: 8, imageBytes: 6 * MB, connections: 2, requests: 16, peers: ALL },
  { name: '256 MB', images: 16, imageBytes: 12 * MB, connections: 2, requests: 6, peers: ALL },
  { name: '1 GB', images: 32, imageBytes: 24 * MB, connections: 1, requests: 2, peers: ['proxy', 'forward'] },
];

/** Answers that pass through while their images are stored: throughput, processor time and memory of the gateway. */
export const answers: Bench = async (context) => {
  for (const size of SIZES) await measureSize(size, context);
};

async function measureSize(size: Size, { options, report, workshop }: BenchContext): Promise<void> {
  const { connections, peers } = size;
  const answer = makeAnswer(size);
  const backend = await workshop.start('backend');
  await backend.ask('answerWith', size);
  const client = await workshop.start('client');
  const gateways = await Promise.all(
    peers.map(async (kind) => {
      const dir = await workshop.makeFolder();
      return { kind, dir, gateway: await workshop.start('gateway', kind, backend.url, dir) };
    }),
  );
  const results = await inRounds<MeasuredLoad>(
    options.rounds,
    gateways.map(({ kind, dir, gateway }) => ({
      name: kind,
      run: async ({ isWarmUp }) => {
        const share = (options.quick ? 0.2 : 1) * (kind === 'naive' ? 0.25 : 1);
        const requests = Math.max(connections, Math.round(size.requests * share));
        const load = {
          url: gateway.url,
          path: '/sdapi/v1/txt2img',
          method: 'POST',
          connections,
          requests,
        } as const;
        const measured = await measureLoad(client, gateway, {
          ...load,
          sizeBytes: answer.sizeBytes,
          ...(isWarmUp && { hash: answer.hash }),
        });
        if (kind !== 'proxy' && kind !== 'pipe') {
          await verifyJobs(kind, gateway, requests);
          await verifyImages(join(dir, 'output'), answer, requests);
          await forget(kind, gateway, dir);
        }
        return measured;
      },
    })),
  );
  report.say(`Answers of ${size.name} (${size.images} images), ${connections} at a time`);
  const of = (kind: GatewayKind, value: (measured: MeasuredLoad) => number) => valuesOf(results, kind, value);
  const rate = (measured: MeasuredLoad) => measured.bytes / measured.seconds / MB;
  const cpu = (measured: MeasuredLoad) => measured.cpuMs / measured.bytes;
  report.add('http-proxy-middleware', of('proxy', rate), { unit: 'MB/s' });
  const isTarget = size.name !== '1 GB';
  for (const kind of peers.filter((one) => one !== 'proxy')) {
    const isOurs = kind === 'forward' || kind === 'wrap';
    const target = (is: 'at least' | 'at most', value: number) =>
      isOurs && isTarget ? { target: { is, value } } : {};
    const speed = ratios(of(kind, rate), of('proxy', rate));
    const work = ratios(of(kind, cpu), of('proxy', cpu));
    report.add(`${kind}: throughput over http-proxy-middleware`, speed, target('at least', 0.9));
    report.add(`${kind}: processor time over http-proxy-middleware`, work, target('at most', 1.25));
    if (isOurs && peers.includes('naive')) {
      const gain = ratios(of(kind, rate), of('naive', rate));
      report.add(`${kind}: throughput over buffer, parse and write`, gain, target('at least', 3));
    }
  }
  for (const { kind, gateway } of gateways) {
    const { peakBytes } = await gateway.ask<MeasuredLoad>('usage');
    const isLarge = size.name === '256 MB' || size.name === '1 GB';
    const isOurs = kind === 'forward' || kind === 'wrap';
    report.add(`${kind}: most memory resident`, [peakBytes / 1024 / 1024], {
      unit: 'MiB',
      ...(isOurs && isLarge && { target: { is: 'at most', value: 160 } }),
    });
  }
  await Promise.all([client, backend, ...gateways.map(({ gateway }) => gateway)].map((one) => one.stop()));
}

async function verifyJobs(kind: GatewayKind, gateway: Worker, jobs: number): Promise<void> {
  if (kind === 'naive') return;
  const completed = await gateway.ask<number>('count', 'Completed');
  if (completed !== jobs) throw new Error(`Expected ${jobs} jobs to be Completed, found ${completed}`);
}

/** What has been looked at is removed before it costs the next one: the disk would still be writing it. */
async function forget(kind: GatewayKind, gateway: Worker, dir: string): Promise<void> {
  if (kind === 'naive') await rm(join(dir, 'output'), { recursive: true });
  else await gateway.ask('forget');
}
