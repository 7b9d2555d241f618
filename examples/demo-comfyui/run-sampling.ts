import { setTimeout as sleep } from 'node:timers/promises';
import type { Picture } from '../demo-shared/picture/png.js';
import { Interrupted, NodeFailure } from './execution-failure.js';
import { type Fault, faultsIn } from './faults.js';
import type { Sampling } from './nodes/node-type.js';

export interface Surroundings {
  readonly durationMs: number;
  /** Aborted once the execution has to end early. */
  readonly signal: AbortSignal;
  /** Called before each step, counted from 0; resolves once the gate lets it go on. */
  readonly hold: (step: number, lastStep: number) => Promise<void>;
  /** Called after each step; may resolve later, where there is a picture to be sent. */
  readonly onProgress: (value: number, max: number, draw: () => Picture) => Promise<void>;
  /** Ends the server. */
  readonly die: () => void;
  /** Resolves when the server ends, and no earlier. */
  readonly hang: () => Promise<void>;
}

/** The time moves in so many pieces at most, so that ten thousand steps take no longer than twenty. */
const MOST_TICKS = 500;

/** Spends the time that sampling takes. Rejects with `Interrupted`, or as the prompt asks with `NodeFailure`. */
export async function runSampling(sampling: Sampling, around: Surroundings): Promise<void> {
  const { steps } = sampling;
  const { signal } = around;
  const faults = faultsIn(sampling.prompt);
  const durationMs = around.durationMs * (faults.has('[slow]') ? 10 : 1);
  const failsAt = Math.ceil(steps / 2);
  const isFaulty = [...faults].some((fault) => fault !== '[slow]');
  const startedMs = performance.now();
  const ticks = Math.min(steps, MOST_TICKS);
  for (let tick = 1; tick <= ticks; tick += 1) {
    const step = Math.floor((steps * tick) / ticks);
    await around.hold(step - 1, isFaulty ? failsAt : steps);
    const leftMs = startedMs + (durationMs * tick) / ticks - performance.now();
    if (leftMs > 0) await sleep(leftMs, undefined, { signal }).catch(() => {});
    if (signal.aborted) throw new Interrupted();
    await around.onProgress(step, steps, () => sampling.draw(step / steps));
    if (isFaulty && step >= failsAt) return suffer(faults, around);
  }
}

async function suffer(faults: ReadonlySet<Fault>, { die, hang }: Surroundings): Promise<void> {
  if (faults.has('[oom]')) {
    const message = 'Allocation on device \nThis error means you ran out of memory on your GPU.';
    throw new NodeFailure('torch.OutOfMemoryError', message);
  }
  if (faults.has('[fail]')) {
    throw new NodeFailure('RuntimeError', 'The demo fails, because its prompt says [fail]');
  }
  if (faults.has('[die]')) die();
  await hang();
  throw new Interrupted();
}
