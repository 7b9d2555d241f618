import { EventEmitter } from 'node:events';
import type { DemoRequest } from '../demo-shared/demo-request.js';
import { Gate } from '../demo-shared/gate.js';
import type { PythonDict } from '../demo-shared/python-json.js';

export type ExecutionStatus =
  | 'pending'
  | 'running'
  | 'success'
  | 'error'
  | 'interrupted'
  /** Taken out of the queue before it ran. */
  | 'deleted'
  /** The server ended or started anew before it was done. */
  | 'lost';

/** What became of a prompt that was accepted. */
export interface DemoExecution {
  readonly request: DemoRequest;
  readonly promptId: string;
  readonly clientId: string | undefined;
  /** What was taken out of `extra_data` and is shown to nobody. */
  readonly sensitive: PythonDict;
  status: ExecutionStatus;
  /** The nodes whose output was known from an earlier prompt. */
  cachedNodes: readonly string[];
  /** The nodes that ran, in their order. */
  readonly executedNodes: string[];
  /** The files that were written, as absolute paths. */
  readonly files: string[];
}

export interface DemoComfyUIEvents {
  /** Any request, its body whole; WebSocket upgrades too. */
  request: [DemoRequest];
  /** A prompt was accepted. */
  queued: [DemoExecution];
  /** It is at work. */
  started: [DemoExecution];
  /** It has come to the gate and waits there. */
  held: [DemoExecution];
  /** It hangs, because its prompt says so. */
  hanging: [DemoExecution];
  /** It has ended, its history entry exists and all its events are sent; or it was deleted or lost. */
  finished: [DemoExecution];
  /** A WebSocket is open and has been greeted; with its session id. */
  connected: [string];
  /** A WebSocket is closed; with its session id. */
  disconnected: [string];
}

/** What the demo has seen and done, for tests, and a gate to decide when a generation ends. */
export class DemoComfyUIState extends EventEmitter<DemoComfyUIEvents> {
  /** The newest requests of any kind, upgrades included, oldest first. */
  readonly requests: DemoRequest[] = [];
  /** The newest accepted prompts, oldest first. */
  readonly executions: DemoExecution[] = [];
  readonly #gate = new Gate();
  readonly #historySize: number;

  constructor(historySize: number) {
    super();
    this.#historySize = historySize;
  }

  /**
   * From now on an execution stops before the given step of its first sampler, counted from 0, or before its last one
   * where that comes earlier, and goes on only when released. One without a sampler at work stops before its end.
   */
  hold(step = Number.POSITIVE_INFINITY): void {
    this.#gate.close(step);
  }

  /** Lets one execution go on, the one that waits or the next that comes; others are still held. */
  releaseOne(): void {
    this.#gate.letOne();
  }

  /** Lets all go on, and holds nobody any more. */
  release(): void {
    this.#gate.open();
  }

  /** For the server: the step at which executions are held now. */
  get heldAt(): number | undefined {
    return this.#gate.step;
  }

  /** For the server: waits at the gate. */
  async waitAtGate(execution: DemoExecution, signal: AbortSignal): Promise<void> {
    const passed = this.#gate.pass(signal);
    this.emit('held', execution);
    await passed;
  }

  /** For the server: keeps a request. */
  addRequest(request: DemoRequest): void {
    this.#keep(this.requests, request);
    this.emit('request', request);
  }

  /** For the server: keeps an accepted prompt. */
  addExecution(execution: DemoExecution): void {
    this.#keep(this.executions, execution);
  }

  /** For the server: an execution has come to its end. */
  finish(execution: DemoExecution, status: ExecutionStatus): void {
    execution.status = status;
    this.emit('finished', execution);
  }

  #keep<T>(list: T[], item: T): void {
    list.push(item);
    if (list.length > this.#historySize) list.shift();
  }
}
