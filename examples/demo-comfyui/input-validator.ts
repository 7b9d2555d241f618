import { isList, type PythonValue } from '../demo-shared/python-json.js';
import { coerceInput, NotConvertible } from './coerce-input.js';
import type { ComfyFiles } from './comfy-files.js';
import type { NodeType } from './nodes/node-type.js';
import { describeInput, NODE_TYPES } from './nodes/registry.js';
import { classOf, inputsOf, readLink, type Workflow } from './workflow.js';

export interface Problem {
  readonly type: string;
  readonly message: string;
  readonly details: string;
  readonly extra_info: { readonly [key: string]: PythonValue };
}

export interface NodeVerdict {
  /** Also false where only a node before it is not valid. */
  readonly isValid: boolean;
  readonly problems: readonly Problem[];
}

/** Checks the inputs of nodes and of all nodes before them, each once, and brings them to their types. */
export class InputValidator {
  /** By the ids of the nodes that have been looked at. */
  readonly verdicts = new Map<string, NodeVerdict>();
  readonly #workflow: Workflow;
  readonly #files: ComfyFiles;
  readonly #open = new Set<string>();

  constructor(workflow: Workflow, files: ComfyFiles) {
    this.#workflow = workflow;
    this.#files = files;
  }

  validate(id: string): NodeVerdict {
    const known = this.verdicts.get(id);
    if (known) return known;
    const type = NODE_TYPES.get(classOf(this.#workflow, id));
    if (!type) return this.#fail(id, `'${id}'`);
    if (this.#open.has(id)) return this.#fail(id, 'the workflow runs in a circle');
    this.#open.add(id);
    const verdict = this.#validateNode(id, type);
    this.#open.delete(id);
    const failed = this.verdicts.get(id);
    if (failed) return failed;
    this.verdicts.set(id, verdict);
    return verdict;
  }

  #validateNode(id: string, type: NodeType): NodeVerdict {
    const inputs = inputsOf(this.#workflow, id);
    const problems: Problem[] = [];
    let isValid = true;
    const refused = type.check?.(inputs, this.#files);
    for (const [name, spec] of Object.entries({ ...type.required, ...type.optional })) {
      const config = describeInput(spec, this.#files);
      const value = inputs.get(name);
      if (value === undefined) {
        if (name in type.required) {
          problems.push(problem('required_input_missing', 'Required input is missing', name, {}, name));
        }
      } else if (isList(value)) {
        const found = this.#checkLink(id, name, value, config);
        if (found.problem) problems.push(found.problem);
        isValid &&= found.isValid;
      } else {
        const found = checkValue(inputs, name, config, type.check !== undefined);
        if (found) problems.push(found);
        if (refused?.input === name) {
          const details = `${name} - ${refused.problem}`;
          const extra = { input_config: config, received_value: value };
          const message = 'Custom validation failed for node';
          problems.push(problem('custom_validation_failed', message, details, extra, name));
        }
      }
    }
    return { isValid: isValid && problems.length === 0, problems };
  }

  #checkLink(
    id: string,
    name: string,
    value: PythonValue,
    config: readonly PythonValue[],
  ): { isValid: boolean; problem?: Problem } {
    const link = readLink(value);
    if (!link) {
      const message = 'Bad linked input, must be a length-2 list of [node_id, slot_index]';
      const extra = { input_config: config, received_value: value };
      return { isValid: false, problem: problem('bad_linked_input', message, name, extra, name) };
    }
    if (!this.#workflow.has(link.nodeId)) return this.#fail(id, `'${link.nodeId}'`);
    const received = NODE_TYPES.get(classOf(this.#workflow, link.nodeId))?.outputs[link.slot];
    if (received === undefined) return this.#fail(id, 'tuple index out of range');
    const expected = config[0] as PythonValue;
    if (expected !== '*' && received !== expected) {
      const details = `${name}, received_type(${received}) mismatch input_type(${String(expected)})`;
      const extra = { input_config: config, received_type: received, linked_node: value };
      const message = 'Return type mismatch between linked nodes';
      return { isValid: false, problem: problem('return_type_mismatch', message, details, extra, name) };
    }
    return { isValid: this.validate(link.nodeId).isValid };
  }

  /** What ComfyUI makes of an exception while it validates. */
  #fail(id: string, details: string): NodeVerdict {
    const message = 'Exception when validating inner node';
    const found = { type: 'exception_during_inner_validation', message, details, extra_info: {} };
    const verdict = { isValid: false, problems: [found] };
    this.verdicts.set(id, verdict);
    return verdict;
  }
}

function checkValue(
  inputs: Map<string, PythonValue>,
  name: string,
  config: readonly PythonValue[],
  hasOwnCheck: boolean,
): Problem | undefined {
  const [type = null, limits] = config;
  const given = inputs.get(name) as PythonValue;
  let value: PythonValue;
  try {
    value = coerceInput(given, type);
  } catch (error) {
    if (!(error instanceof NotConvertible)) throw error;
    const message = `Failed to convert an input value to a ${String(type)} value`;
    const extra = { input_config: config, received_value: given, exception_message: error.message };
    const details = `${name}, ${String(given)}, ${error.message}`;
    return problem('invalid_input_type', message, details, extra, name);
  }
  inputs.set(name, value);
  const extra = { input_config: config, received_value: value };
  const { min, max } = (limits ?? {}) as { min?: bigint | number; max?: bigint | number };
  if (typeof value === 'bigint' || typeof value === 'number') {
    if (min !== undefined && value < min) {
      const message = `Value ${value} smaller than min of ${min}`;
      return problem('value_smaller_than_min', message, name, extra, name);
    }
    if (max !== undefined && value > max) {
      return problem('value_bigger_than_max', `Value ${value} bigger than max of ${max}`, name, extra, name);
    }
  }
  if (isList(type) && !hasOwnCheck && !type.includes(value)) {
    const list = `[${type.map((item) => `'${String(item)}'`).join(', ')}]`;
    const details = `${name}: '${String(value)}' not in ${list}`;
    return problem('value_not_in_list', 'Value not in list', details, extra, name);
  }
  return undefined;
}

function problem(
  type: string,
  message: string,
  details: string,
  extra: Problem['extra_info'],
  input_name: string,
): Problem {
  return { type, message, details, extra_info: { input_name, ...extra } };
}
