import { httpException } from './api-error.js';

export const SAMPLERS = [
  'DPM++ 2M',
  'DPM++ SDE',
  'DPM++ 2M SDE',
  'DPM++ 2M SDE Heun',
  'DPM++ 2S a',
  'DPM++ 3M SDE',
  'Euler a',
  'Euler',
  'LMS',
  'Heun',
  'DPM2',
  'DPM2 a',
  'DPM fast',
  'DPM adaptive',
  'Restart',
  'DDIM',
  'DDIM CFG++',
  'PLMS',
  'UniPC',
  'LCM',
] as const;

export const SCHEDULERS = [
  { name: 'automatic', label: 'Automatic' },
  { name: 'uniform', label: 'Uniform' },
  { name: 'karras', label: 'Karras' },
  { name: 'exponential', label: 'Exponential' },
  { name: 'polyexponential', label: 'Polyexponential' },
  { name: 'sgm_uniform', label: 'SGM Uniform' },
  { name: 'simple', label: 'Simple' },
  { name: 'normal', label: 'Normal' },
  { name: 'ddim_uniform', label: 'DDIM' },
  { name: 'beta', label: 'Beta' },
] as const;

/** The sampler of a name; older clients put the scheduler behind it: `DPM++ 2M Karras`. Throws a 400 `ApiError`. */
export function findSampler(name: string): string {
  const schedulers = SCHEDULERS.flatMap((scheduler) => [scheduler.label, scheduler.name]);
  const ending = schedulers.find((scheduler) => name.endsWith(` ${scheduler}`));
  const bare = ending === undefined ? name : name.slice(0, -ending.length - 1);
  const sampler = SAMPLERS.find((known) => known === name || known === bare);
  if (sampler === undefined) throw httpException(400, 'Sampler not found');
  return sampler;
}
