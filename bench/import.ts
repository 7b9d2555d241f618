import type { Bench } from './harness/bench.js';

/** What importing the package costs a host that has imported express anyway. Each time in a fresh process. */
export const importing: Bench = async ({ options, report, workshop }) => {
  const express: number[] = [];
  const tracker: number[] = [];
  for (let round = 0; round <= options.rounds * 2; round += 1) {
    const said = await workshop.run('bench/processes/import-times');
    const times = JSON.parse(said) as { expressMs: number; trackerMs: number };
    // The first one reads the files from the disk.
    if (round === 0) continue;
    express.push(times.expressMs);
    tracker.push(times.trackerMs);
  }
  report.say('Importing, each in a fresh process');
  report.add('express', express, { unit: 'ms' });
  report.add('the tracker, once express is there', tracker, {
    unit: 'ms',
    target: { is: 'at most', value: 60 },
  });
};
