import { drawLandscape } from '../demo-shared/picture/landscape.js';
import { encodePng, type Picture } from '../demo-shared/picture/png.js';
import { arrangeGrid, drawSketch, enlarge } from '../demo-shared/picture/sketch.js';
import { pythonException } from './api-error.js';
import { type Fault, faultsIn } from './faults.js';
import type { GenerationParameters } from './generation-parameters.js';
import { createInfotext } from './infotext.js';
import type { SamplingState } from './sampling-state.js';

export interface Generated {
  /** PNG files in the order of the answer. */
  readonly images: readonly Buffer[];
  readonly infotexts: readonly string[];
  /** 1 where a grid is in front, else 0. */
  readonly indexOfFirstImage: number;
}

export interface Surroundings {
  readonly sampling: SamplingState;
  /** For the whole generation, however many images it makes. */
  readonly durationMs: number;
  /** The step before which the generation is held, counted over all iterations; undefined where it is not. */
  readonly heldAt: () => number | undefined;
  /** Resolves once a held generation may go on. */
  readonly hold: (signal: AbortSignal) => Promise<void>;
}

/** The time moves in so many pieces at most, so that a million steps take no longer than twenty. */
const MOST_TICKS = 500;

/**
 * Spends the time that a generation takes, then draws its images. Interrupted ones end early, with what has been
 * reached. Throws a 500 `ApiError` where the prompt asks for a failure.
 */
export async function generate(parameters: GenerationParameters, around: Surroundings): Promise<Generated> {
  const { sampling } = around;
  const { batchSize, iterations } = parameters;
  const faults = faultsIn(parameters.prompt);
  const durationMs = around.durationMs * (faults.has('[slow]') ? 10 : 1);
  const hold = holdOnce(around);
  const pictures: Picture[] = [];
  const images: Buffer[] = [];
  const infotexts: string[] = [];
  for (let iteration = 0; iteration < iterations && !sampling.isInterrupted; iteration += 1) {
    sampling.beginIteration(iteration);
    await sample(parameters, iteration, { sampling, durationMs, hold, fails: faults.has('[fail]') });
    if (sampling.step === 0) continue;
    for (let inBatch = 0; inBatch < batchSize; inBatch += 1) {
      const index = iteration * batchSize + inBatch;
      const picture = draw(parameters, index, sampling.step);
      const infotext = createInfotext(parameters, index);
      if (parameters.savesImages) pictures.push(picture);
      infotexts.push(infotext);
      images.push(await encodePng(picture, { parameters: infotext }));
    }
  }
  const hasGrid = parameters.savesImages && images.length >= 2;
  if (hasGrid) {
    const infotext = createInfotext(parameters, 0);
    infotexts.unshift(infotext);
    images.unshift(await encodePng(arrangeGrid(pictures), { parameters: infotext }));
  }
  return { images: spoil(images, faults), infotexts, indexOfFirstImage: hasGrid ? 1 : 0 };
}

interface Sampling {
  readonly sampling: SamplingState;
  readonly durationMs: number;
  readonly hold: (nextStep: number, lastStep: number) => Promise<void>;
  readonly fails: boolean;
}

/** Walks through the steps of one iteration; `sampling.step` says how far it came. */
async function sample(parameters: GenerationParameters, iteration: number, how: Sampling): Promise<void> {
  const { sampling, durationMs, hold, fails } = how;
  const steps = Math.max(1, parameters.steps);
  const allSteps = steps * parameters.iterations;
  const lastStep = fails ? Math.ceil(allSteps / 2) : allSteps;
  const iterationMs = durationMs / parameters.iterations;
  const startedMs = performance.now();
  const ticks = Math.min(steps, MOST_TICKS);
  for (let tick = 1; tick <= ticks; tick += 1) {
    const step = Math.floor((steps * tick) / ticks);
    await hold(iteration * steps + step, lastStep);
    await sampling.waitUntil(startedMs + (iterationMs * tick) / ticks);
    if (sampling.signal.aborted) return;
    sampling.step = step;
    if (fails && iteration * steps + step >= lastStep) {
      throw pythonException('OutOfMemoryError', 'The demo ran out of memory, because its prompt says [fail]');
    }
  }
}

/** A generation is held once: before the gate's step, or before its last one where it has fewer. */
function holdOnce({ sampling, heldAt, hold }: Surroundings): Sampling['hold'] {
  let wasHeld = false;
  return async (nextStep, lastStep) => {
    const step = heldAt();
    if (wasHeld || step === undefined || nextStep <= Math.min(step, lastStep - 1)) return;
    wasHeld = true;
    await hold(sampling.signal);
  };
}

/** The image as it is after so many steps. */
function draw(parameters: GenerationParameters, index: number, step: number): Picture {
  const { prompt, width, height, steps } = parameters;
  const seed = String(parameters.seed + BigInt(index));
  if (step >= steps) return drawLandscape(prompt, seed, width, height);
  return enlarge(drawSketch(prompt, seed, { width, height }, step / steps), { width, height });
}

function spoil(images: readonly Buffer[], faults: ReadonlySet<Fault>): readonly Buffer[] {
  if (faults.has('[empty]')) return [];
  const [first, ...others] = images;
  if (!faults.has('[half]') || !first) return images;
  return [first.subarray(0, Math.floor(first.length / 2)), ...others];
}
