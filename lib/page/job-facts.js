import { isRecord, parseExact, textOf } from './exact-json.js';

/** @typedef {[name: string, value: unknown]} Fact */

/** What people look for first, and under which names the backends have it. */
const FIRST = /** @type {const} */ ([
  ['Seed', 'seed'],
  ['Steps', 'steps'],
  ['Sampler', 'sampler_name', 'sampler_index'],
  ['Scheduler', 'scheduler'],
  ['CFG scale', 'cfg_scale', 'cfg'],
  ['Size'],
  ['Model', 'sd_model_name', 'ckpt_name'],
  ['Model hash', 'sd_model_hash'],
  ['VAE', 'sd_vae_name'],
  ['Denoising', 'denoising_strength', 'denoise'],
  ['Clip skip', 'clip_skip'],
  ['Batch', 'batch_size'],
  ['Batches', 'n_iter'],
]);

/**
 * What is known of how a picture was made: what the backend has said goes before what was asked for.
 *
 * @param {import('./api.js').Job} job
 * @param {number} n which of the pictures: each has a seed of its own
 */
export function factsOf(job, n) {
  const info = infoOf(job);
  const parameters = isRecord(job.parameters) ? job.parameters : {};
  /** @type {Record<string, unknown>} */
  const known = { ...job.request, ...defined(parameters), ...defined(info), seed: seedOf(job, info, n) };
  /** @type {Fact[]} */
  const facts = FIRST.map(([title, ...names]) => {
    if (title === 'Size') return [title, sizeOf(known)];
    return [title, names.map((name) => known[name]).find((value) => value !== undefined && value !== '')];
  });
  const prompts = /** @type {unknown} */ (info.all_prompts);
  return {
    seed: known.seed,
    facts: facts.filter(([, value]) => value !== undefined && value !== null),
    prompt:
      Array.isArray(prompts) && typeof prompts[at(info, n)] === 'string'
        ? String(prompts[at(info, n)])
        : textOr(known.prompt, job.prompt),
    negativePrompt: textOr(known.negative_prompt, ''),
    all: Object.entries({ ...job.request, ...defined(parameters) }).filter(([name]) => !/prompt$/.test(name)),
  };
}

/** A1111 says it as a text that holds JSON. @param {import('./api.js').Job} job @returns {Record<string, unknown>} */
function infoOf({ info }) {
  if (typeof info !== 'string') return isRecord(info) ? info : {};
  try {
    const parsed = parseExact(info);
    return isRecord(parsed) ? parsed : {};
  } catch {
    return {};
  }
}

/** Where picture `n` stands in lists of all: a grid may come before them. @param {Record<string, unknown>} info @param {number} n */
const at = (info, n) => Math.max(0, n - (Number(info.index_of_first_image) || 0));

/** @param {import('./api.js').Job} job @param {Record<string, unknown>} info @param {number} n */
function seedOf({ request }, info, n) {
  const seeds = info.all_seeds;
  const seed = (Array.isArray(seeds) ? seeds[at(info, n)] : undefined) ?? info.seed ?? request?.seed;
  // "Draw one": which one it was is not known.
  return seed === -1 || seed === null ? undefined : seed;
}

/** @param {Record<string, unknown>} known */
function sizeOf({ width, height }) {
  return width === undefined || height === undefined ? undefined : `${textOf(width)} × ${textOf(height)}`;
}

/** @param {Record<string, unknown>} record @returns {Record<string, unknown>} */
const defined = (record) =>
  Object.fromEntries(Object.entries(record).filter(([, value]) => value !== null && value !== undefined));

/** @param {unknown} value @param {string} otherwise */
const textOr = (value, otherwise) => (typeof value === 'string' && value !== '' ? value : otherwise);
