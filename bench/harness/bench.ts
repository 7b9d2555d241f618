import type { Report } from './report.js';
import type { Workshop } from './workshop.js';

/** How much of it is done. */
export interface BenchOptions {
  /** Little work and few rounds: tells whether the bench works, and numbers only roughly. */
  readonly quick: boolean;
  /** Also what takes minutes and gigabytes. */
  readonly large: boolean;
  /** Write a CPU profile of each gateway process. */
  readonly profile: boolean;
  /** How often everything is measured. */
  readonly rounds: number;
  /** How long a soak lasts. */
  readonly minutes: number;
}

export interface BenchContext {
  readonly options: BenchOptions;
  readonly report: Report;
  readonly workshop: Workshop;
}

export type Bench = (context: BenchContext) => Promise<void>;
