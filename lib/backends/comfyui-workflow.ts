import type { RequestFields } from '../job.js';
import { asPlainJson } from '../json/python-json.js';
import { MAX_FIELD_LENGTH, MAX_PROMPT_LENGTH, objectOf, shortened } from './request-values.js';

/** A node of a workflow in ComfyUI's API format. An input is a value, or a link: a node's id and the number of its output. */
interface Node {
  readonly class_type: string;
  readonly inputs: Readonly<Record<string, unknown>>;
}
type Nodes = ReadonlyMap<string, Node>;

export interface WorkflowFacts {
  /** The text that the picture is made of, as far as it can be found; `''` where it cannot. */
  readonly prompt: string;
  readonly fields: RequestFields;
}

/** Under these names text encoders have their text, the more telling ones first. */
const TEXT_INPUTS = [
  'text',
  'text_g',
  't5xxl',
  'clip_l',
  'prompt',
  'positive_prompt',
  'value',
  'string',
  'text_l',
];
/** What a record holds, under the names that Automatic1111 has for it, and the inputs in which nodes have it. */
const FIELDS: readonly (readonly [field: string, inputs: readonly string[]])[] = [
  ['seed', ['seed', 'noise_seed']],
  ['steps', ['steps']],
  ['width', ['width']],
  ['height', ['height']],
  ['cfg_scale', ['cfg', 'guidance']],
  ['sampler_name', ['sampler_name']],
  ['scheduler', ['scheduler']],
  ['batch_size', ['batch_size']],
  ['denoising_strength', ['denoise']],
  ['model', ['ckpt_name', 'unet_name', 'model_name']],
];
const MOST_NODES = 5_000;
const MOST_STEPS = 200;

/** What a workflow says of itself. Nothing in it makes this throw; what is no workflow says nothing. */
export function readWorkflow(text: string | undefined): WorkflowFacts {
  const nodes = nodesOf(text);
  const sampler = [...nodes.values()].find(({ inputs }) => isLink(inputs.positive)) ?? guiderOf(nodes);
  const fields: Record<string, string | number | boolean> = {};
  // How far a prompt has come is reckoned by it.
  const count = [...nodes.values()].filter(({ class_type }) => class_type !== '').length;
  if (count > 0) fields.nodes = count;
  const negative = sampler ? textBehind(nodes, sampler.inputs.negative, 'negative') : undefined;
  if (negative) fields.negative_prompt = shortened(negative, MAX_FIELD_LENGTH);
  // What the sampler says of itself goes before what any other node says.
  const ordered = sampler ? [sampler, ...nodes.values()] : [...nodes.values()];
  for (const [field, names] of FIELDS) {
    const value = firstScalar(ordered, names);
    if (value !== undefined) fields[field] = value;
  }
  const start = sampler?.inputs.positive ?? sampler?.inputs.conditioning;
  const prompt = textBehind(nodes, start, 'positive') ?? anyText(nodes) ?? '';
  return { prompt: shortened(prompt, MAX_PROMPT_LENGTH), fields };
}

function nodesOf(text: string | undefined): Nodes {
  const nodes = new Map<string, Node>();
  for (const [id, node] of Object.entries(objectOf(parsed(text))).slice(0, MOST_NODES)) {
    const { class_type, inputs } = objectOf(node);
    nodes.set(id, { class_type: typeof class_type === 'string' ? class_type : '', inputs: objectOf(inputs) });
  }
  return nodes;
}

/** Integers that JavaScript cannot hold come as their text. */
function parsed(text: string | undefined): unknown {
  try {
    const exact = text?.replace(/"(?:[^"\\]|\\.)*"|-?\b\d{16,}\b(?![.eE])/g, (token) =>
      token.startsWith('"') || Number.isSafeInteger(Number(token)) ? token : `"${token}"`,
    );
    return exact === undefined ? undefined : JSON.parse(asPlainJson(exact));
  } catch {
    // ComfyUI will say what is wrong with it.
    return undefined;
  }
}

/** Newer workflows have a guider in front of the sampler, with one conditioning. */
function guiderOf(nodes: Nodes): Node | undefined {
  return [...nodes.values()].find(
    ({ class_type, inputs }) => /guider/i.test(class_type) && isLink(inputs.conditioning),
  );
}

/** The text of the encoder from which a conditioning comes, through whatever nodes lie between. */
function textBehind(nodes: Nodes, link: unknown, side: 'positive' | 'negative'): string | undefined {
  const open: unknown[] = [link];
  const seen = new Set<Node>();
  while (open.length > 0 && seen.size < MOST_STEPS) {
    const next = open.shift();
    const node = isLink(next) ? nodes.get(String(next[0])) : undefined;
    if (!node || seen.has(node)) continue;
    seen.add(node);
    const text = ownText(node);
    if (text !== undefined) return text;
    const { inputs } = node;
    // A node with both sides in it passes each on by itself.
    open.push(...(isLink(inputs[side]) ? [inputs[side]] : Object.values(inputs).filter(isLink)));
  }
  return undefined;
}

function ownText({ inputs }: Node): string | undefined {
  for (const name of TEXT_INPUTS) {
    const value = inputs[name];
    if (typeof value === 'string' && value.trim() !== '') return value;
  }
  return undefined;
}

/** Where nothing leads from a sampler to a text: that of the first encoder. */
function anyText(nodes: Nodes): string | undefined {
  for (const node of nodes.values()) {
    const text = /text|prompt/i.test(node.class_type) ? ownText(node) : undefined;
    if (text !== undefined) return text;
  }
  return undefined;
}

function firstScalar(
  nodes: readonly Node[],
  names: readonly string[],
): string | number | boolean | undefined {
  for (const { inputs } of nodes) {
    for (const name of names) {
      const value = inputs[name];
      if (typeof value === 'number' && Number.isFinite(value)) return value;
      if (typeof value === 'string' && value !== '') return shortened(value, MAX_FIELD_LENGTH);
    }
  }
  return undefined;
}

function isLink(value: unknown): value is readonly [string | number, number] {
  return (
    Array.isArray(value) &&
    value.length === 2 &&
    (typeof value[0] === 'string' || typeof value[0] === 'number') &&
    typeof value[1] === 'number'
  );
}
