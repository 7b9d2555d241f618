import type { Bench } from './harness/bench.js';
import { type MeasuredLoad, measureLoad } from './harness/measure-load.js';
import { inRounds, valuesOf } from './harness/rounds.js';
import { ratios } from './harness/statistics.js';

const KINDS = ['plain', 'mounted'] as const;

/** A route of the host's that has nothing to do with generations, without the tracker and behind it. */
export const untracked: Bench = async ({ options, report, workshop }) => {
  const client = await workshop.start('client');
  const requests = options.quick ? 4_000 : 20_000;
  const gateways = await Promise.all(
    KINDS.map(async (kind) => ({
      kind,
      gateway: await workshop.start('gateway', kind, '', await workshop.makeFolder()),
    })),
  );
  // Short rounds, and many of them: the difference is small, and so must the noise be.
  const results = await inRounds<MeasuredLoad>(
    options.rounds * 3,
    gateways.map(({ kind, gateway }) => ({
      name: kind,
      run: () =>
        measureLoad(client, gateway, {
          ...{ url: gateway.url, path: '/ping', method: 'GET', connections: 50, requests },
          sizeBytes: '{"ok":true}'.length,
        }),
    })),
  );
  const rates = KINDS.map((kind) => valuesOf(results, kind, ({ seconds }) => requests / seconds));
  const times = KINDS.map((kind) => valuesOf(results, kind, ({ cpuMs }) => (cpuMs / requests) * 1000));
  const [plain = [], mounted = []] = rates;
  const [plainTimes = [], mountedTimes = []] = times;
  report.say('A small JSON route, 50 connections');
  report.add('without the tracker', plain, { unit: 'req/s' });
  report.add('behind the tracker: requests/s over without', ratios(mounted, plain), {
    target: { is: 'at least', value: 0.97 },
  });
  report.add(
    'behind the tracker: more processor time for each request',
    mountedTimes.map((time, round) => time - (plainTimes[round] as number)),
    { unit: 'us' },
  );
  await Promise.all([client, ...gateways.map(({ gateway }) => gateway)].map((one) => one.stop()));
};
