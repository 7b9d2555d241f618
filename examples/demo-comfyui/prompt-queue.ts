import type { PythonDict, PythonValue } from '../demo-shared/python-json.js';
import type { DemoExecution } from './demo-state.js';
import type { Workflow } from './workflow.js';

/** A prompt that was accepted. */
export interface QueuedPrompt {
  /** A float where the client gave it, else an integer; the lowest goes first. */
  readonly number: bigint | number;
  readonly id: string;
  readonly workflow: Workflow;
  /** Without what is sensitive; null only where an old server takes what it cannot run. */
  readonly extraData: PythonDict | null;
  /** The ids of the output nodes to run. */
  readonly outputs: readonly string[];
  readonly execution: DemoExecution;
}

/** A prompt as `/queue` and the history show it. */
export function describePrompt({ number, id, workflow, extraData, outputs }: QueuedPrompt): PythonValue {
  return [number, id, workflow, extraData, outputs];
}

/** What waits and what runs, in memory only. */
export class PromptQueue {
  running: QueuedPrompt | undefined;
  #pending: QueuedPrompt[] = [];
  #counter = 0n;
  #isClosed = false;
  #wake: () => void = () => {};
  readonly #onChange: (remaining: number) => void;

  /** @param onChange is told how many prompts wait or run. */
  constructor(onChange: (remaining: number) => void) {
    this.#onChange = onChange;
  }

  /** The next to run first. */
  get pending(): readonly QueuedPrompt[] {
    return this.#pending;
  }

  get remaining(): number {
    return this.#pending.length + (this.running ? 1 : 0);
  }

  /** Counts up with every call; negative for who wants to the front. */
  nextNumber(isFront: boolean): bigint {
    const number = isFront ? -this.#counter : this.#counter;
    this.#counter += 1n;
    return number;
  }

  put(prompt: QueuedPrompt): void {
    this.#pending.push(prompt);
    this.#pending.sort((a, b) => Number(a.number) - Number(b.number) || (a.id < b.id ? -1 : 1));
    this.#changed();
    this.#wake();
  }

  /** Resolves to the next prompt, which then runs; to undefined once the queue is closed. */
  async take(): Promise<QueuedPrompt | undefined> {
    while (this.#pending.length === 0 && !this.#isClosed) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    if (this.#isClosed) return undefined;
    this.running = this.#pending.shift();
    this.#changed();
    return this.running;
  }

  close(): void {
    this.#isClosed = true;
    this.#wake();
  }

  /** Nothing runs any more. */
  finish(): void {
    this.running = undefined;
    this.#changed();
  }

  /** Takes waiting prompts out. Returns them. */
  remove(isWanted: (prompt: QueuedPrompt) => boolean): QueuedPrompt[] {
    const removed = this.#pending.filter(isWanted);
    this.#pending = this.#pending.filter((prompt) => !removed.includes(prompt));
    if (removed.length > 0) this.#changed();
    return removed;
  }

  #changed(): void {
    this.#onChange(this.remaining);
  }
}
