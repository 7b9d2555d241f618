import { mkdir } from 'node:fs/promises';
import { cpus } from 'node:os';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { BENCHES, type BenchName } from './benches.js';
import type { BenchOptions } from './harness/bench.js';
import { Report } from './harness/report.js';
import { Workshop } from './harness/workshop.js';

const USAGE = `npm run bench -- [NAME ...] [--quick] [--large] [--rounds N] [--minutes N] [--profile]

  NAME       ${Object.keys(BENCHES).join(', ')}; all but soak by default
  --quick    little work and few rounds: whether it works
  --large    also what takes gigabytes and minutes: a million records
  --rounds   how often everything is measured, 7 by default
  --minutes  how long the soak lasts, 10 by default
  --profile  CPU profiles of the gateways, into bench/results`;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    quick: { type: 'boolean', default: false },
    large: { type: 'boolean', default: false },
    profile: { type: 'boolean', default: false },
    rounds: { type: 'string' },
    minutes: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
});
const unknown = positionals.filter((name) => !Object.hasOwn(BENCHES, name));
if (values.help || unknown.length > 0) {
  console.log(USAGE);
  process.exit(unknown.length > 0 ? 1 : 0);
}

const options: BenchOptions = {
  quick: values.quick,
  large: values.large,
  profile: values.profile,
  rounds: Number(values.rounds ?? (values.quick ? 3 : 7)),
  minutes: Number(values.minutes ?? (values.quick ? 1 : 10)),
};
const names = (
  positionals.length > 0 ? positionals : Object.keys(BENCHES).filter((name) => name !== 'soak')
) as BenchName[];
const results = resolve(import.meta.dirname, 'results');
if (values.profile) await mkdir(results, { recursive: true });

const report = new Report();
console.log(
  `Node.js ${process.version}, ${cpus().length} cores, ${options.rounds} rounds: minimum, median, maximum`,
);
const workshop = await Workshop.open({ profiles: values.profile ? results : undefined });
const stop = async () => {
  await workshop.close();
  process.exit(130);
};
process.once('SIGINT', stop);
process.once('SIGTERM', stop);
try {
  for (const name of names) {
    console.log(`\n${name}`);
    await BENCHES[name]({ options, report, workshop });
  }
} finally {
  await workshop.close();
}
console.log(`\n${report.targets - report.missed} of ${report.targets} targets reached`);
