import { answers } from './answers.js';
import type { Bench } from './harness/bench.js';
import { importing } from './import.js';
import { read } from './read.js';
import { records } from './records.js';
import { small } from './small.js';
import { soak } from './soak.js';
import { untracked } from './untracked.js';

/** Every bench by its name, in the order in which they are run. */
export const BENCHES = { answers, small, records, read, untracked, import: importing, soak } satisfies Record<
  string,
  Bench
>;

export type BenchName = keyof typeof BENCHES;
