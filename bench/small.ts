import type { AnswerShape } from './harness/answer.js';
import type { Bench, BenchContext } from './harness/bench.js';
import { type MeasuredLoad, measureLoad } from './harness/measure-load.js';
import { inRounds, valuesOf } from './harness/rounds.js';
import { ratios } from './harness/statistics.js';
import type { GatewayKind } from './processes/gateway-kinds.js';

const CONNECTIONS = 100;
const KINDS = ['proxy', 'forward', 'wrap', 'pipe'] as const satisfies readonly GatewayKind[];
/** Of http-proxy-middleware's requests per second. */
const AT_LEAST: Partial<Record<GatewayKind, number>> = { forward: 0.9, wrap: 0.8 };

/** Small answers over many connections, with a durable record for each. */
export const small: Bench = async (context) => {
  context.report.say(`Answers of 1 KB without an image, ${CONNECTIONS} connections`);
  await measureAnswer({ images: 0, imageBytes: 0 }, 'Failed', AT_LEAST, context);
  context.report.say(
    `Answers with one image of 1 KB, ${CONNECTIONS} connections: two more files, synced, for each`,
  );
  await measureAnswer({ images: 1, imageBytes: 1000 }, 'Completed', {}, context);
};

/** @param status what the jobs end as: an answer without an image is a Failed job (`empty`). */
async function measureAnswer(
  shape: AnswerShape,
  status: 'Completed' | 'Failed',
  atLeast: Partial<Record<GatewayKind, number>>,
  { options, report, workshop }: BenchContext,
): Promise<void> {
  const backend = await workshop.start('backend');
  const sizeBytes = await backend.ask<number>('answerWith', shape);
  const client = await workshop.start('client');
  const requests = (options.quick ? 600 : 6000) / (shape.images > 0 ? 3 : 1);
  const gateways = await Promise.all(
    KINDS.map(async (kind) => ({
      kind,
      gateway: await workshop.start('gateway', kind, backend.url, await workshop.makeFolder()),
    })),
  );
  const results = await inRounds<MeasuredLoad>(
    options.rounds,
    gateways.map(({ kind, gateway }) => ({
      name: kind,
      run: async () => {
        const load = {
          url: gateway.url,
          path: '/sdapi/v1/txt2img',
          method: 'POST',
          requests,
          sizeBytes,
        } as const;
        const measured = await measureLoad(client, gateway, { ...load, connections: CONNECTIONS });
        if (kind === 'forward' || kind === 'wrap') {
          const kept = await gateway.ask<number>('count', status);
          if (kept !== requests)
            throw new Error(`Expected ${requests} records that are ${status}, found ${kept}`);
          await gateway.ask('forget');
        }
        return measured;
      },
    })),
  );
  const of = (kind: GatewayKind, value: (measured: MeasuredLoad) => number) => valuesOf(results, kind, value);
  const rate = ({ seconds }: MeasuredLoad) => requests / seconds;
  report.add('http-proxy-middleware', of('proxy', rate), { unit: 'req/s' });
  for (const kind of KINDS.slice(1)) {
    const least = atLeast[kind];
    report.add(
      `${kind}: requests/s over http-proxy-middleware`,
      ratios(of(kind, rate), of('proxy', rate)),
      least === undefined ? {} : { target: { is: 'at least', value: least } },
    );
    const cpu = ({ cpuMs }: MeasuredLoad) => cpuMs;
    report.add(`${kind}: processor time over http-proxy-middleware`, ratios(of(kind, cpu), of('proxy', cpu)));
    report.add(
      `${kind}: p99 of the time to the last byte`,
      of(kind, ({ p99Ms }) => p99Ms),
      { unit: 'ms' },
    );
  }
  await Promise.all([client, backend, ...gateways.map(({ gateway }) => gateway)].map((one) => one.stop()));
}
