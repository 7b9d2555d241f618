import { answers } from './answers.js';
import type { Bench } from './harness/bench.js';

/** Every bench by its name, in the order in which they are run. */
export const BENCHES = { answers } satisfies Record<string, Bench>;

export type BenchName = keyof typeof BENCHES;
