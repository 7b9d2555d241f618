import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { compileProgram } from './helpers/compiled-program.js';
import { runKillRounds } from './helpers/kill-rounds.js';
import { seedFrom } from './helpers/seeded-random.js';
import { memoryFolder, tempFolders } from './helpers/temp-folder.js';

const newFolder = tempFolders();
/** What a process has written outlives its kill -9, on a disk or not; only what a disk does with it would differ. */
const newMemoryFolder = tempFolders(memoryFolder);
/** More of them: `KILL_ROUNDS=100 npm test -- __tests__/kill-rounds.test.ts`; the same once more: `KILL_SEED=<seed>`. */
const rounds = Number(process.env.KILL_ROUNDS ?? 20);

test(
  `a gateway that is killed with kill -9 under load, ${rounds} times, keeps its promises`,
  async () => {
    const program = await compileProgram(await newFolder());
    const dir = join(await newMemoryFolder(), 'tracker');
    const { violations, counts, statuses } = await runKillRounds({
      rounds,
      seed: seedFrom('KILL_SEED'),
      dir,
      program,
    });
    process.stdout.write(`${JSON.stringify({ ...counts, ...Object.fromEntries(statuses) })}\n`);
    expect(violations).toEqual([]);
    // All of this was put to the proof.
    expect(counts.surelyComplete).toBeGreaterThan(rounds);
    expect(statuses.get('Completed')).toBeGreaterThan(0);
    expect(statuses.get('Failed interrupted')).toBeGreaterThan(0);
  },
  rounds * 20_000,
);
