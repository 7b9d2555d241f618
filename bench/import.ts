import { execFileSync } from 'node:child_process';
import type { Bench } from './harness/bench.js';

interface Taken {
  readonly ms: number;
  readonly cpuMs: number;
}

interface ImportTimes {
  readonly express: Taken;
  readonly tracker: Taken;
}

/** What importing the package costs a host that has imported express anyway. Each time in a fresh process. */
export const importing: Bench = async ({ options, report, workshop }) => {
  const root = new URL('..', import.meta.url);
  execFileSync('npm', ['run', '--silent', 'build'], { cwd: root });
  const url = new URL('dist/bundle/index.js', root).href;
  const all: ImportTimes[] = [];
  for (let round = 0; round <= options.rounds * 2; round += 1) {
    const said = await workshop.run('bench/processes/import-times', url);
    // The first one reads the files from the disk.
    if (round > 0) all.push(JSON.parse(said) as ImportTimes);
  }
  report.say('Importing, each in a fresh process');
  const times = (value: (one: ImportTimes) => number) => all.map(value);
  report.add(
    'express',
    times(({ express }) => express.ms),
    { unit: 'ms' },
  );
  report.add(
    'the tracker, once express is there',
    times(({ tracker }) => tracker.ms),
    { unit: 'ms', target: { is: 'at most', value: 60 } },
  );
  report.add(
    'the same, processor time',
    times(({ tracker }) => tracker.cpuMs),
    { unit: 'ms' },
  );
  report.add(
    'the tracker over express, processor time',
    times(({ tracker, express }) => tracker.cpuMs / express.cpuMs),
  );
};
