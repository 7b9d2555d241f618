import { isList, type PythonDict, type PythonValue } from '../demo-shared/python-json.js';

/** An output of another node, as a workflow names it: `["4", 0]`. */
export interface Link {
  readonly nodeId: string;
  readonly slot: number;
}

/** A workflow in the form of the API: nodes by their ids. */
export type Workflow = ReadonlyMap<string, PythonValue>;

/** The node as it stands in the workflow; empty where it is none. */
export function nodeOf(workflow: Workflow, id: string): PythonDict {
  const node = workflow.get(id);
  return node instanceof Map ? node : new Map();
}

export function classOf(workflow: Workflow, id: string): string {
  return String(nodeOf(workflow, id).get('class_type'));
}

/** The inputs of a node; validation brings them to their types in place, as ComfyUI does. */
export function inputsOf(workflow: Workflow, id: string): Map<string, PythonValue> {
  const inputs = nodeOf(workflow, id).get('inputs');
  return inputs instanceof Map ? inputs : new Map();
}

/** Undefined for what is no link. */
export function readLink(value: PythonValue | undefined): Link | undefined {
  if (value === undefined || !isList(value) || value.length !== 2) return undefined;
  const [nodeId, slot] = value;
  return typeof nodeId === 'string' && typeof slot === 'bigint' ? { nodeId, slot: Number(slot) } : undefined;
}
