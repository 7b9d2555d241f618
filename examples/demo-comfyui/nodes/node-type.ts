import type { Picture } from '../../demo-shared/picture/png.js';
import type { PythonDict, PythonValue } from '../../demo-shared/python-json.js';
import type { ComfyFiles } from '../comfy-files.js';
import type { DemoExecution } from '../demo-state.js';

/** The name of a type, or the values to choose from. */
export type InputType = string | readonly string[] | ((files: ComfyFiles) => readonly string[]);

export interface InputSpec {
  readonly type: InputType;
  /** Default, limits and hints, as `/object_info` shows them. */
  readonly config?: { readonly [key: string]: PythonValue };
}

/** What a node is given: an output of another node, or what stands in the workflow. */
export type NodeInputs = ReadonlyMap<string, unknown>;

export interface NodeResult {
  /** In the order of the type's outputs. */
  readonly values: readonly unknown[];
  /** What the history and the event `executed` show of it. */
  readonly ui?: { readonly [key: string]: PythonValue };
}

export interface Sampling {
  readonly steps: number;
  /** Where the words are that make the demo fail. */
  readonly prompt: string;
  /** The picture so far; `progress` from 0 to 1. */
  readonly draw: (progress: number) => Picture;
}

/** What a node can do beyond its inputs. */
export interface NodeContext {
  readonly files: ComfyFiles;
  readonly execution: DemoExecution;
  /** Aborted when the server ends; nothing is written any more. */
  readonly ended: AbortSignal;
  /** The workflow as JSON, for the files that carry it. */
  readonly promptJson: string;
  /** `extra_data.extra_pnginfo`, which goes into PNG files. */
  readonly pngInfo: PythonDict;
  /** Spends the time that sampling takes. Rejects where it is interrupted, or where the prompt asks for a failure. */
  readonly sample: (sampling: Sampling) => Promise<void>;
}

/** A kind of node: what `/object_info` says of it, and what it does. */
export interface NodeType {
  readonly displayName: string;
  readonly category: string;
  readonly required: Readonly<Record<string, InputSpec>>;
  readonly optional?: Readonly<Record<string, InputSpec>>;
  readonly hidden?: Readonly<Record<string, string>>;
  readonly outputs: readonly string[];
  /** True where it shows or saves something, and so makes a workflow worth running. */
  readonly isOutput?: boolean;
  /** What is wrong with an input, beyond what its spec says; the input's own list of values is then not looked at. */
  readonly check?: (inputs: PythonDict, files: ComfyFiles) => { input: string; problem: string } | undefined;
  /** Differs where the node has to run again though its inputs are the same. */
  readonly fingerprint?: (inputs: PythonDict, files: ComfyFiles) => string;
  readonly run: (inputs: NodeInputs, context: NodeContext) => NodeResult | Promise<NodeResult>;
}

export interface Conditioning {
  readonly text: string;
}

export interface Latent {
  readonly width: number;
  readonly height: number;
  readonly batchSize: number;
  /** What it was sampled with; empty for noise. */
  readonly prompt: string;
  readonly seed: bigint;
}

export type Images = readonly Picture[];

export const TEXT: InputSpec = { type: 'STRING', config: { multiline: true, dynamicPrompts: true } };
export const IMAGES: InputSpec = { type: 'IMAGE', config: { tooltip: 'The images to save.' } };

export function filenamePrefix(initial: string): InputSpec {
  return { type: 'STRING', config: { default: initial } };
}

export function integer(initial: bigint, min: bigint, max: bigint): InputSpec {
  return { type: 'INT', config: { default: initial, min, max } };
}

export function float(initial: number, min: number, max: number): InputSpec {
  return { type: 'FLOAT', config: { default: initial, min, max, step: 0.01 } };
}
