import type { ComfyFiles } from './comfy-files.js';
import type { DemoComfyUIState, ExecutionStatus } from './demo-state.js';
import { OutputCache } from './output-cache.js';
import { type PreviewRule, PromptEvents } from './prompt-events.js';
import { PromptExecution } from './prompt-execution.js';
import { PromptHistory } from './prompt-history.js';
import { PromptQueue, type QueuedPrompt } from './prompt-queue.js';
import type { SocketHub } from './socket-hub.js';

export interface ProcessParts {
  readonly files: ComfyFiles;
  readonly hub: SocketHub;
  readonly state: DemoComfyUIState;
  readonly generationMs: number;
  readonly maxHistory: number;
  readonly previews: PreviewRule;
  /** Ends the server and starts it anew. */
  readonly die: () => void;
}

/** All that a restart of ComfyUI loses: the queue, the history and what the nodes made; and the worker. */
export class ComfyProcess {
  readonly queue: PromptQueue;
  readonly history: PromptHistory;
  readonly #parts: ProcessParts;
  readonly #cache = new OutputCache();
  readonly #ended = new AbortController();
  #execution: PromptExecution | undefined;

  constructor(parts: ProcessParts) {
    this.#parts = parts;
    this.queue = new PromptQueue((remaining) => {
      if (!this.#ended.signal.aborted) parts.hub.sendStatus(remaining);
    });
    this.history = new PromptHistory(parts.maxHistory);
  }

  /** The node at work for a client; undefined where there is none. */
  nodeOf(clientId: string): string | undefined {
    const isTheirs = this.queue.running?.execution.clientId === clientId;
    return isTheirs ? this.#execution?.node : undefined;
  }

  /** Works the queue off, one prompt after another. Resolves once the process has ended. */
  async work(): Promise<void> {
    for (;;) {
      const prompt = await this.queue.take();
      if (!prompt) return;
      if (prompt.extraData === null) return; // it kills the worker of an old server, and the queue waits for ever
      await this.#run(prompt);
    }
  }

  /** Interrupts what runs, if anything does and it is the wanted one. Returns whether that was so. */
  interrupt(promptId?: string): boolean {
    const { running } = this.queue;
    if (!running || (promptId !== undefined && running.id !== promptId)) return false;
    this.#execution?.interrupt();
    return true;
  }

  /** Takes waiting prompts out of the queue. Returns how many. */
  remove(isWanted: (prompt: QueuedPrompt) => boolean): number {
    const removed = this.queue.remove(isWanted);
    for (const { execution } of removed) this.#parts.state.finish(execution, 'deleted');
    return removed.length;
  }

  /** Ends all at once; what was not done is lost. */
  end(): void {
    if (this.#ended.signal.aborted) return;
    this.#ended.abort();
    const { running, pending } = this.queue;
    this.queue.close();
    for (const { execution } of [...(running ? [running] : []), ...pending]) {
      this.#parts.state.finish(execution, 'lost');
    }
  }

  async #run(prompt: QueuedPrompt): Promise<void> {
    const { files, hub, state, generationMs, previews, die } = this.#parts;
    const events = new PromptEvents(prompt, hub, previews);
    const execution = new PromptExecution({
      prompt,
      events,
      cache: this.#cache,
      files,
      state,
      generationMs,
      ended: this.#ended.signal,
      die,
    });
    this.#execution = execution;
    prompt.execution.status = 'running';
    state.emit('started', prompt.execution);
    const entry = await execution.run();
    this.#execution = undefined;
    if (!entry || this.#ended.signal.aborted) return;
    this.history.add(entry);
    this.queue.finish();
    events.executing(null);
    const failure: ExecutionStatus = execution.wasInterrupted ? 'interrupted' : 'error';
    state.finish(prompt.execution, entry.isSuccess ? 'success' : failure);
  }
}
