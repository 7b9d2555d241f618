import { randomInt } from 'node:crypto';
import type { PythonDict, PythonValue } from '../demo-shared/python-json.js';
import { pythonException } from './api-error.js';
import type { GenerationMode } from './generation-fields.js';
import { findSampler } from './samplers.js';

/** A validated generation request, ready to be drawn. */
export interface GenerationParameters {
  readonly mode: GenerationMode;
  readonly prompt: string;
  readonly negativePrompt: string;
  readonly styles: readonly PythonValue[];
  /** Of the first image; a random one where the request had none. */
  readonly seed: bigint;
  readonly subseed: bigint;
  readonly sampler: string;
  readonly steps: number;
  readonly cfgScale: number;
  readonly width: number;
  readonly height: number;
  readonly batchSize: number;
  /** How many batches one after another. */
  readonly iterations: number;
  readonly sendsImages: boolean;
  /** Nothing is saved, but A1111 also puts a grid in front of two images and more then. */
  readonly savesImages: boolean;
  readonly denoisingStrength: number | null;
  readonly taskId: string;
}

const MOST_PIXELS = 64 * 1024 * 1024;
const MOST_IMAGES = 10_000;

/** Throws an `ApiError`: 400 for an unknown sampler, 500 for what would make A1111's sampling fail. */
export function readParameters(mode: GenerationMode, fields: PythonDict): GenerationParameters {
  const parameters: GenerationParameters = {
    mode,
    prompt: required<string>(fields, 'prompt'),
    negativePrompt: required<string>(fields, 'negative_prompt'),
    styles: (fields.get('styles') as readonly PythonValue[] | null) ?? [],
    seed: chosenSeed(fields.get('seed')),
    subseed: chosenSeed(fields.get('subseed')),
    sampler: findSampler((fields.get('sampler_name') || fields.get('sampler_index')) as string),
    steps: requiredInteger(fields, 'steps'),
    cfgScale: Number(required<number>(fields, 'cfg_scale')),
    width: requiredInteger(fields, 'width'),
    height: requiredInteger(fields, 'height'),
    batchSize: requiredInteger(fields, 'batch_size'),
    iterations: requiredInteger(fields, 'n_iter'),
    sendsImages: fields.get('send_images') === true,
    savesImages: fields.get('save_images') === true,
    denoisingStrength: fields.get('denoising_strength') as number | null,
    taskId: (fields.get('force_task_id') as string | null) || createTaskId(mode),
  };
  checkSize(parameters);
  return parameters;
}

function checkSize({ width, height, batchSize, iterations }: GenerationParameters): void {
  if (width < 1 || height < 1) {
    throw pythonException('RuntimeError', `Expected a size of at least 1x1, got ${width}x${height}`);
  }
  const images = Math.max(0, batchSize) * Math.max(0, iterations);
  if (width * height * images > MOST_PIXELS || images > MOST_IMAGES) {
    const most = `${MOST_IMAGES} images and ${MOST_PIXELS} pixels in a request`;
    throw pythonException('OutOfMemoryError', `The demo draws at most ${most}`);
  }
}

/** A field may be null, but most of them make A1111's sampling fail then. */
function required<T extends PythonValue>(fields: PythonDict, name: string): T {
  const value = fields.get(name);
  if (value === null || value === undefined) {
    throw pythonException('TypeError', `expected a value for ${name}, got NoneType`);
  }
  return value as T;
}

function requiredInteger(fields: PythonDict, name: string): number {
  return Number(required<bigint>(fields, name));
}

function chosenSeed(seed: PythonValue | undefined): bigint {
  return typeof seed === 'bigint' && seed !== -1n ? seed : BigInt(randomInt(4_294_967_294));
}

function createTaskId(mode: GenerationMode): string {
  const letters = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789';
  const random = Array.from({ length: 7 }, () => letters[randomInt(letters.length)]);
  return `task(${mode}-${random.join('')})`;
}
