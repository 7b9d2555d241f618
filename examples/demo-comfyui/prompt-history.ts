import type { PythonValue } from '../demo-shared/python-json.js';
import { describePrompt, type QueuedPrompt } from './prompt-queue.js';

/** A message that was sent while the prompt ran: its type and its data. */
export type StatusMessage = readonly [string, { readonly [key: string]: PythonValue }];

export interface HistoryEntry {
  readonly prompt: QueuedPrompt;
  /** What the output nodes show, by their ids. */
  readonly outputs: ReadonlyMap<string, { readonly [key: string]: PythonValue }>;
  readonly isSuccess: boolean;
  readonly messages: readonly StatusMessage[];
}

/** Prompts that have ended, oldest first, in memory only. */
export class PromptHistory {
  readonly #entries = new Map<string, HistoryEntry>();
  readonly #maxEntries: number;

  constructor(maxEntries: number) {
    this.#maxEntries = maxEntries;
  }

  get entries(): readonly HistoryEntry[] {
    return [...this.#entries.values()];
  }

  get(id: string): HistoryEntry | undefined {
    return this.#entries.get(id);
  }

  /** As in ComfyUI the oldest goes once there are more than the limit, so that one more than it is kept. */
  add(entry: HistoryEntry): void {
    const [oldest] = this.#entries.keys();
    if (this.#entries.size > this.#maxEntries && oldest !== undefined) this.#entries.delete(oldest);
    this.#entries.set(entry.prompt.id, entry);
  }

  delete(id: string): void {
    this.#entries.delete(id);
  }

  clear(): void {
    this.#entries.clear();
  }

  /** The entries from `offset` on; the last ones where it is negative. `maxItems` of 0 still shows one, as there. */
  page(maxItems: number | undefined, offset: number): HistoryEntry[] {
    const entries = this.entries;
    const start = offset < 0 && maxItems !== undefined ? entries.length - maxItems : offset;
    const from = Math.max(0, start);
    return entries.slice(from, maxItems === undefined ? undefined : from + Math.max(1, maxItems));
  }
}

/** Entries as `/history` shows them. */
export function describeEntries(entries: readonly HistoryEntry[]): PythonValue {
  return new Map(entries.map((entry) => [entry.prompt.id, describeEntry(entry)]));
}

function describeEntry({ prompt, outputs, isSuccess, messages }: HistoryEntry): PythonValue {
  const meta = [...outputs.keys()].map((id): [string, PythonValue] => [
    id,
    { node_id: id, display_node: id, parent_node: null, real_node_id: id },
  ]);
  return {
    prompt: describePrompt(prompt),
    outputs,
    status: { status_str: isSuccess ? 'success' : 'error', completed: isSuccess, messages },
    meta: new Map(meta),
  };
}
