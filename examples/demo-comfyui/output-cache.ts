import { createHash } from 'node:crypto';
import { dumpCompact, type PythonValue } from '../demo-shared/python-json.js';
import type { ComfyFiles } from './comfy-files.js';
import type { NodeResult } from './nodes/node-type.js';
import { NODE_TYPES } from './nodes/registry.js';
import { classOf, inputsOf, readLink, type Workflow } from './workflow.js';

/** What the nodes of one workflow made, or made earlier. */
export interface WorkflowCache {
  get(id: string): NodeResult | undefined;
  set(id: string, result: NodeResult): void;
}

/** Results of nodes by all that they depend on, kept from one workflow to the next, as ComfyUI's own cache is. */
export class OutputCache {
  #results = new Map<string, NodeResult>();

  /** What no node of this workflow can use is forgotten. */
  open(workflow: Workflow, files: ComfyFiles): WorkflowCache {
    const signatures = new Map<string, string>();
    for (const id of workflow.keys()) sign(workflow, id, files, signatures);
    const wanted = new Set(signatures.values());
    const results = new Map([...this.#results].filter(([signature]) => wanted.has(signature)));
    this.#results = results;
    const key = (id: string): string => signatures.get(id) ?? '';
    return {
      get: (id) => results.get(key(id)),
      set: (id, result) => results.set(key(id), result),
    };
  }
}

function sign(workflow: Workflow, id: string, files: ComfyFiles, signatures: Map<string, string>): string {
  const known = signatures.get(id);
  if (known !== undefined) return known;
  signatures.set(id, ''); // for a circle, which validation refuses where a node in it is to run
  const inputs = inputsOf(workflow, id);
  const named = [...inputs].sort(([a], [b]) => (a < b ? -1 : 1));
  const parts = named.map(([name, value]): PythonValue => {
    const link = readLink(value);
    return link ? [name, sign(workflow, link.nodeId, files, signatures), BigInt(link.slot)] : [name, value];
  });
  const fingerprint = NODE_TYPES.get(classOf(workflow, id))?.fingerprint?.(inputs, files) ?? '';
  const text = dumpCompact([classOf(workflow, id), fingerprint, parts]);
  const signature = createHash('sha256').update(text).digest('hex');
  signatures.set(id, signature);
  return signature;
}
