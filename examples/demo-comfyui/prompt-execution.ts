import { dumpSpaced, type PythonDict } from '../demo-shared/python-json.js';
import type { ComfyFiles } from './comfy-files.js';
import type { DemoComfyUIState } from './demo-state.js';
import { Interrupted, NodeFailure } from './execution-failure.js';
import type { NodeContext, NodeResult, Sampling } from './nodes/node-type.js';
import { NODE_TYPES } from './nodes/registry.js';
import type { OutputCache, WorkflowCache } from './output-cache.js';
import type { PromptEvents } from './prompt-events.js';
import type { HistoryEntry } from './prompt-history.js';
import type { QueuedPrompt } from './prompt-queue.js';
import { runSampling } from './run-sampling.js';
import { classOf, inputsOf, readLink } from './workflow.js';

export interface ExecutionParts {
  readonly prompt: QueuedPrompt;
  readonly events: PromptEvents;
  readonly cache: OutputCache;
  readonly files: ComfyFiles;
  readonly state: DemoComfyUIState;
  readonly generationMs: number;
  /** Aborted when the server ends. */
  readonly ended: AbortSignal;
  readonly die: () => void;
}

/** One prompt at work. */
export class PromptExecution {
  /** The node at work. */
  node: string | undefined;
  readonly #parts: ExecutionParts;
  readonly #interrupt = new AbortController();
  readonly #signal: AbortSignal;
  readonly #cache: WorkflowCache;
  readonly #outputs = new Map<string, NonNullable<NodeResult['ui']>>();
  #wasHeld = false;

  constructor(parts: ExecutionParts) {
    this.#parts = parts;
    this.#signal = AbortSignal.any([this.#interrupt.signal, parts.ended]);
    this.#cache = parts.cache.open(parts.prompt.workflow, parts.files);
  }

  interrupt(): void {
    this.#interrupt.abort();
  }

  /** Resolves to what the history keeps of it, whether it went well or not; to undefined where the server ended. */
  async run(): Promise<HistoryEntry | undefined> {
    const { prompt, events, ended } = this.#parts;
    const { workflow, outputs, execution } = prompt;
    events.message('execution_start');
    execution.cachedNodes = [...workflow.keys()].filter((id) => this.#cache.get(id));
    events.message('execution_cached', { nodes: execution.cachedNodes });
    let isSuccess = false;
    try {
      for (const id of outputs) await this.#need(id);
      await this.#hold(Number.POSITIVE_INFINITY, 0);
      events.message('execution_success');
      isSuccess = true;
    } catch (error) {
      if (!ended.aborted) this.#tell(error);
    }
    this.node = undefined;
    if (ended.aborted) return undefined;
    return { prompt, outputs: this.#outputs, isSuccess, messages: events.messages };
  }

  get wasInterrupted(): boolean {
    return this.#parts.events.messages.at(-1)?.[0] === 'execution_interrupted';
  }

  /** The result of a node, known or made now with all that it needs. */
  async #need(id: string): Promise<NodeResult> {
    const { events, prompt } = this.#parts;
    const known = this.#cache.get(id);
    if (known) {
      if (known.ui && !this.#outputs.has(id)) {
        this.#outputs.set(id, known.ui);
        if (!prompt.execution.executedNodes.includes(id)) events.executed(id, known.ui);
      }
      return known;
    }
    const inputs = new Map<string, unknown>();
    for (const [name, value] of inputsOf(prompt.workflow, id)) {
      const link = readLink(value);
      inputs.set(name, link ? (await this.#need(link.nodeId)).values[link.slot] : value);
    }
    return this.#runNode(id, inputs);
  }

  async #runNode(id: string, inputs: Map<string, unknown>): Promise<NodeResult> {
    const { events, prompt } = this.#parts;
    if (this.#signal.aborted) throw new Interrupted();
    const type = NODE_TYPES.get(classOf(prompt.workflow, id));
    if (!type) throw new Error(`Expected a known kind of node, got ${classOf(prompt.workflow, id)}`);
    this.node = id;
    events.executing(id);
    events.nodeStarted(id);
    const result = await type.run(inputs, this.#context(id));
    this.#cache.set(id, result);
    prompt.execution.executedNodes.push(id);
    if (result.ui) {
      this.#outputs.set(id, result.ui);
      events.executed(id, result.ui);
    }
    events.nodeFinished(id);
    return result;
  }

  #context(id: string): NodeContext {
    const { prompt, files, events, generationMs, ended, die } = this.#parts;
    const pngInfo = prompt.extraData?.get('extra_pnginfo');
    const around = {
      durationMs: generationMs,
      signal: this.#signal,
      hold: (step: number, lastStep: number) => this.#hold(step, lastStep - 1),
      onProgress: events.progress.bind(events, id),
      die,
      hang: () => this.#hang(ended),
    };
    return {
      files,
      execution: prompt.execution,
      ended,
      promptJson: dumpSpaced(prompt.workflow),
      pngInfo: pngInfo instanceof Map ? (pngInfo as PythonDict) : new Map(),
      sample: (sampling: Sampling) => runSampling(sampling, around),
    };
  }

  /** An execution is held once: before the gate's step, or before its last one where it has fewer. */
  async #hold(step: number, lastStep: number): Promise<void> {
    const { state, prompt } = this.#parts;
    const heldAt = state.heldAt;
    if (this.#wasHeld || heldAt === undefined || step < Math.min(heldAt, lastStep)) return;
    this.#wasHeld = true;
    await state.waitAtGate(prompt.execution, this.#signal);
    if (this.#signal.aborted) throw new Interrupted();
  }

  async #hang(ended: AbortSignal): Promise<void> {
    this.#parts.state.emit('hanging', this.#parts.prompt.execution);
    if (ended.aborted) return;
    await new Promise<void>((resolve) => ended.addEventListener('abort', () => resolve(), { once: true }));
  }

  /** Tells of what ended it. */
  #tell(error: unknown): void {
    const { events, prompt } = this.#parts;
    const { executedNodes } = prompt.execution;
    const id = this.node ?? '';
    const where = { node_id: id, node_type: classOf(prompt.workflow, id), executed: executedNodes };
    events.nodeFailed(id);
    if (error instanceof Interrupted) {
      events.message('execution_interrupted', where);
      return;
    }
    const { message } = error instanceof Error ? error : new Error(String(error));
    const inputs = [...inputsOf(prompt.workflow, id)].filter(([, value]) => !readLink(value));
    events.message('execution_error', {
      ...where,
      exception_message: `${message}\n`,
      exception_type: error instanceof NodeFailure ? error.exceptionType : 'Exception',
      traceback: ['  File "/demo/execution.py", line 1, in execute\n'],
      current_inputs: new Map(inputs.map(([name, value]) => [name, [String(value)]])),
      current_outputs: executedNodes,
    });
  }
}
