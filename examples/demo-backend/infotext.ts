import { dumpSpaced, formatFloat, type PythonValue } from '../demo-shared/python-json.js';
import type { GenerationParameters } from './generation-parameters.js';

/** What A1111 writes into an image; `index` counts the request's images from 0. */
export function createInfotext(parameters: GenerationParameters, index: number): string {
  const { prompt, negativePrompt, denoisingStrength } = parameters;
  const lines = [prompt];
  if (negativePrompt !== '') lines.push(`Negative prompt: ${negativePrompt}`);
  const settings: [string, string][] = [
    ['Steps', String(parameters.steps)],
    ['Sampler', parameters.sampler],
    ['CFG scale', formatFloat(parameters.cfgScale)],
    ['Seed', String(parameters.seed + BigInt(index))],
    ['Size', `${parameters.width}x${parameters.height}`],
    ['Model', 'demo'],
  ];
  if (denoisingStrength !== null) settings.push(['Denoising strength', formatFloat(denoisingStrength)]);
  settings.push(['Version', 'demo']);
  lines.push(settings.map(([name, value]) => `${name}: ${value}`).join(', '));
  return lines.join('\n');
}

/** The `info` of an answer: a text, as Python's `json.dumps` writes it. */
export function createInfo(
  parameters: GenerationParameters,
  infotexts: readonly string[],
  indexOfFirstImage: number,
): string {
  const count = Math.max(0, parameters.batchSize) * Math.max(0, parameters.iterations);
  const counted = (first: bigint) => Array.from({ length: count }, (_, index) => first + BigInt(index));
  const repeated = (text: string) => Array.from({ length: count }, () => text);
  return dumpSpaced({
    prompt: parameters.prompt,
    all_prompts: repeated(parameters.prompt),
    negative_prompt: parameters.negativePrompt,
    all_negative_prompts: repeated(parameters.negativePrompt),
    seed: parameters.seed,
    all_seeds: counted(parameters.seed),
    subseed: parameters.subseed,
    all_subseeds: counted(parameters.subseed),
    subseed_strength: 0n,
    width: BigInt(parameters.width),
    height: BigInt(parameters.height),
    sampler_name: parameters.sampler,
    cfg_scale: parameters.cfgScale,
    steps: BigInt(parameters.steps),
    batch_size: BigInt(parameters.batchSize),
    restore_faces: false,
    face_restoration_model: null,
    sd_model_name: 'demo',
    sd_model_hash: null,
    sd_vae_name: null,
    sd_vae_hash: null,
    seed_resize_from_w: -1n,
    seed_resize_from_h: -1n,
    denoising_strength: parameters.denoisingStrength,
    extra_generation_params: {},
    index_of_first_image: BigInt(indexOfFirstImage),
    infotexts,
    styles: parameters.styles,
    job_timestamp: jobTimestamp(new Date()),
    clip_skip: 1n,
    is_using_inpainting_conditioning: false,
    version: 'demo',
  });
}

/** Local time as 20261122153000. */
export function jobTimestamp(time: Date): string {
  const parts = [time.getMonth() + 1, time.getDate(), time.getHours(), time.getMinutes(), time.getSeconds()];
  return time.getFullYear() + parts.map((part) => String(part).padStart(2, '0')).join('');
}

/** The fields of an infotext, as `/sdapi/v1/png-info` gives them. */
export function parseInfotext(infotext: string): PythonValue {
  const lines = infotext.trim().split('\n');
  const settings = /^\w[\w ]*: /.test(lines.at(-1) ?? '') ? (lines.pop() as string) : '';
  const negativeStart = lines.findIndex((line) => line.startsWith('Negative prompt: '));
  const promptEnd = negativeStart < 0 ? lines.length : negativeStart;
  const negative = lines.slice(promptEnd).join('\n').replace('Negative prompt: ', '');
  const fields = new Map<string, PythonValue>([
    ['Prompt', lines.slice(0, promptEnd).join('\n')],
    ['Negative prompt', negative],
  ]);
  for (const [, name = '', value = ''] of settings.matchAll(/(\w[\w -]*): ([^,]*)(?:, |$)/g)) {
    const size = /^(\d+)x(\d+)$/.exec(value);
    if (!size) fields.set(name, value);
    else fields.set(`${name}-1`, size[1] as string).set(`${name}-2`, size[2] as string);
  }
  return fields;
}
