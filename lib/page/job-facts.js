import { isRecord, parseExact, textOf } from './exact-json.js';

/** @typedef {[name: string, value: unknown]} Fact */

/** What people look for first, and under which names the backends have it. */
const FIRST = /** @type {const} */ ([
  ['Seed', 'seed', 'noise_seed'],
  ['Steps', 'steps'],
  ['Sampler', 'sampler_name', 'sampler_index'],
  ['Scheduler', 'scheduler'],
  ['CFG scale', 'cfg_scale', 'cfg'],
  ['Size'],
  ['Model', 'sd_model_name', 'ckpt_name', 'unet_name'],
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
  const workflow = workflowOf(job);
  const parameters = workflow || !isRecord(job.parameters) ? {} : defined(job.parameters);
  const inputs = workflow ? inputsOf(workflow) : {};
  /** @type {Record<string, unknown>} */
  const known = { ...inputs, ...job.request, ...parameters, ...defined(info) };
  known.seed = seedOf(job, info, n) ?? inputs.seed;
  /** @type {Fact[]} */
  const facts = FIRST.map(([title, ...names]) => {
    if (title === 'Size') return [title, sizeOf(known)];
    return [title, names.map((name) => known[name]).find((value) => value !== undefined && value !== '')];
  });
  const prompt = Array.isArray(info.all_prompts) ? info.all_prompts[at(info, n)] : undefined;
  const asked = Object.entries({ ...job.request, ...parameters }).filter(([name]) => !/prompt$/.test(name));
  return {
    seed: known.seed,
    facts: facts.filter(([, value]) => value !== undefined && value !== null),
    prompt: textOr(prompt, textOr(known.prompt, job.prompt)),
    negativePrompt: textOr(known.negative_prompt, ''),
    all: workflow ? nodesOf(workflow) : asked,
  };
}

/**
 * A ComfyUI workflow as it was sent: nodes by their ids.
 *
 * @param {import('./api.js').Job} job
 * @returns {Record<string, Node> | undefined}
 * @typedef {{ class_type: string, inputs?: Record<string, unknown> }} Node
 */
export function workflowOf({ workflow, parameters }) {
  const graph = workflow ?? parameters;
  if (!isRecord(graph)) return undefined;
  const nodes = Object.values(graph);
  const isGraph =
    nodes.length > 0 && nodes.every((node) => isRecord(node) && typeof node.class_type === 'string');
  return isGraph ? /** @type {Record<string, Node>} */ (graph) : undefined;
}

/** What its nodes were given; what leads to another node is a list. @param {Record<string, Node>} workflow */
function inputsOf(workflow) {
  /** @type {Record<string, unknown>} */
  const found = {};
  for (const { inputs } of Object.values(workflow)) {
    for (const [name, value] of Object.entries(isRecord(inputs) ? inputs : {})) {
      if (!Array.isArray(value)) found[name] ??= value;
    }
  }
  return found;
}

/** @param {Record<string, Node>} workflow @returns {Fact[]} */
const nodesOf = (workflow) =>
  Object.entries(workflow).map(([id, { class_type: type, inputs }]) => [`${id} ${type}`, inputs ?? {}]);

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
