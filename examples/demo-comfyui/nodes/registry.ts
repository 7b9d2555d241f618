import type { PythonValue } from '../../demo-shared/python-json.js';
import type { ComfyFiles } from '../comfy-files.js';
import { LOADERS } from './loaders.js';
import type { InputSpec, NodeType } from './node-type.js';
import { OTHER_MEDIA } from './other-media.js';
import { SAMPLING } from './sampling.js';
import { SAVING } from './saving.js';

/** All kinds of nodes that the demo knows, by their `class_type`. */
export const NODE_TYPES: ReadonlyMap<string, NodeType> = new Map(
  Object.entries({ ...LOADERS, ...SAMPLING, ...SAVING, ...OTHER_MEDIA }),
);

/** A node type as `/object_info` describes it. */
export function describeNodeType(name: string, type: NodeType, files: ComfyFiles): PythonValue {
  const { required, optional, hidden } = type;
  return {
    input: {
      required: describeInputs(required, files),
      ...(optional ? { optional: describeInputs(optional, files) } : {}),
      ...(hidden ? { hidden } : {}),
    },
    input_order: {
      required: Object.keys(required),
      ...(optional ? { optional: Object.keys(optional) } : {}),
      ...(hidden ? { hidden: Object.keys(hidden) } : {}),
    },
    output: type.outputs,
    output_is_list: type.outputs.map(() => false),
    output_name: type.outputs,
    name,
    display_name: type.displayName,
    description: '',
    python_module: 'nodes',
    category: type.category,
    output_node: type.isOutput ?? false,
  };
}

/** An input as a list of its type and, where there is more to say, its config. */
export function describeInput(input: InputSpec, files: ComfyFiles): readonly PythonValue[] {
  const type = typeof input.type === 'function' ? input.type(files) : input.type;
  return input.config ? [type, input.config] : [type];
}

function describeInputs(inputs: Readonly<Record<string, InputSpec>>, files: ComfyFiles): PythonValue {
  return Object.fromEntries(
    Object.entries(inputs).map(([name, input]) => [name, describeInput(input, files)]),
  );
}
