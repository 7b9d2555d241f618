import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { compileProgram } from './helpers/compiled-program.js';
import { runKillRounds } from './helpers/kill-rounds.js';
import { canMountLoopDisk, makeLoopDisk } from './helpers/loop-disk.js';
import { seedFrom } from './helpers/seeded-random.js';
import { tempFolders } from './helpers/temp-folder.js';

const newFolder = tempFolders();
const rounds = Number(process.env.POWER_CUTS ?? 6);

(canMountLoopDisk ? test : test.skip)(
  `a power cut under load, ${rounds} times: nothing acknowledged is lost`,
  async () => {
    const program = await compileProgram(await newFolder());
    const disk = await makeLoopDisk(1024);
    try {
      const { violations, counts, statuses } = await runKillRounds({
        rounds,
        seed: seedFrom('POWER_CUT_SEED'),
        dir: join(disk.folder, 'tracker'),
        program,
        disk,
      });
      process.stdout.write(`${JSON.stringify({ ...counts, ...Object.fromEntries(statuses) })}\n`);
      expect(violations).toEqual([]);
      expect(counts.surelyComplete).toBeGreaterThan(rounds);
      expect(statuses.get('Failed interrupted')).toBeGreaterThan(0);
    } finally {
      disk.remove();
    }
  },
  rounds * 20_000,
);
