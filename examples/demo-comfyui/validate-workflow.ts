import type { PythonValue } from '../demo-shared/python-json.js';
import type { ComfyFiles } from './comfy-files.js';
import { InputValidator, type Problem } from './input-validator.js';
import { NODE_TYPES } from './nodes/registry.js';
import { requireObject } from './request-json.js';
import { classOf, type Workflow } from './workflow.js';

export type Verdict =
  | { readonly isValid: true; readonly outputs: readonly string[]; readonly nodeErrors: PythonValue }
  | { readonly isValid: false; readonly error: PythonValue; readonly nodeErrors: PythonValue };

/**
 * Checks a workflow as ComfyUI does before it takes it into its queue; outputs that are not valid are left out as long
 * as one is. Brings the inputs to their types in place.
 *
 * @param targets the only output nodes to run; all where undefined.
 */
export function validateWorkflow(
  workflow: Workflow,
  files: ComfyFiles,
  targets: readonly string[] | undefined,
): Verdict {
  const outputs: string[] = [];
  for (const [id, value] of workflow) {
    const node = requireObject(value, `node ${id}`);
    if (!node.has('class_type')) {
      return unknownType(`Node 'ID #${id}' has no class_type. The workflow may be corrupted.`, id);
    }
    const type = NODE_TYPES.get(classOf(workflow, id));
    if (!type) {
      return unknownType(
        `Node '${classOf(workflow, id)}' not found. Its custom node may not be installed.`,
        id,
      );
    }
    if (type.isOutput && (targets?.includes(id) ?? true)) outputs.push(id);
  }
  if (outputs.length === 0) return refuse('prompt_no_outputs', 'Prompt has no outputs', '');
  return validateOutputs(workflow, files, outputs);
}

function validateOutputs(workflow: Workflow, files: ComfyFiles, outputs: readonly string[]): Verdict {
  const validator = new InputValidator(workflow, files);
  const good: string[] = [];
  const details: string[] = [];
  const nodeErrors = new Map<string, { errors: readonly Problem[]; dependents: string[] }>();
  for (const output of outputs) {
    const { isValid, problems } = validator.validate(output);
    if (isValid) {
      good.push(output);
      continue;
    }
    details.push(...problems.map((problem) => `${problem.message}: ${problem.details}`));
    for (const [id, verdict] of validator.verdicts) {
      if (verdict.problems.length === 0) continue;
      const known = nodeErrors.get(id) ?? { errors: verdict.problems, dependents: [] };
      known.dependents.push(output);
      nodeErrors.set(id, known);
    }
  }
  const errors: PythonValue = new Map(
    [...nodeErrors].map(([id, { errors, dependents }]): [string, PythonValue] => [
      id,
      {
        errors: errors.map((error) => ({ ...error })),
        dependent_outputs: dependents,
        class_type: classOf(workflow, id),
      },
    ]),
  );
  if (good.length > 0) return { isValid: true, outputs: good, nodeErrors: errors };
  const message = 'Prompt outputs failed validation';
  return refuse('prompt_outputs_failed_validation', message, details.join('\n'), errors);
}

function unknownType(message: string, id: string): Verdict {
  return refuse('missing_node_type', message, `Node ID '#${id}'`);
}

function refuse(type: string, message: string, details: string, nodeErrors: PythonValue = {}): Verdict {
  return { isValid: false, error: { type, message, details, extra_info: {} }, nodeErrors };
}
