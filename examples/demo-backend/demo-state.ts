import { EventEmitter } from 'node:events';
import type { DemoRequest } from '../demo-shared/demo-request.js';
import { Gate } from '../demo-shared/gate.js';

/** What became of a generation request. */
export interface DemoGeneration {
  readonly request: DemoRequest;
  /** The task's id, once the request has been understood. */
  taskId?: string;
  /** The PNG files that were made, in the order of the answer; also with `send_images: false`. */
  images: readonly Buffer[];
  /** Of the answer, once it is known. */
  status?: number;
  /** The answer's body before compression, once it is known. */
  answer?: Buffer;
  /** True once the whole answer was handed over to the client's connection. */
  wasDelivered: boolean;
}

export interface DemoEvents {
  /** Any request, its body whole. */
  request: [DemoRequest];
  /** A generation request, its body whole. */
  received: [DemoGeneration];
  /** It has the queue's lock and samples. */
  started: [DemoGeneration];
  /** It has come to the gate and waits there. */
  held: [DemoGeneration];
  /** Its images are made, or it has failed; the next one may start. */
  finished: [DemoGeneration];
  /** Its answer has been handed over, or found nobody any more. */
  answered: [DemoGeneration];
}

/** What the demo has seen and done, for tests, and a gate to decide when a generation ends. */
export class DemoState extends EventEmitter<DemoEvents> {
  /** The newest requests of any kind, upgrades included, oldest first. */
  readonly requests: DemoRequest[] = [];
  /** The newest generation requests, oldest first. */
  readonly generations: DemoGeneration[] = [];
  /** Generations that wait for the lock. */
  waiting = 0;
  /** Generations at work: 0 or 1, as long as the lock holds. */
  running = 0;
  /** The most that were at work at once. */
  maxRunning = 0;
  readonly #gate = new Gate();
  readonly #historySize: number;

  constructor(historySize: number) {
    super();
    this.#historySize = historySize;
  }

  /**
   * From now on a generation stops before the given step, counted from 0 over all its iterations, or before its last
   * one where that comes earlier, and goes on only when released. `hold(0)` stops it before it has done anything.
   */
  hold(step = Number.POSITIVE_INFINITY): void {
    this.#gate.close(step);
  }

  /** Lets one generation go on, the one that waits or the next that comes; others are still held. */
  releaseOne(): void {
    this.#gate.letOne();
  }

  /** Lets all go on, and holds nobody any more. */
  release(): void {
    this.#gate.open();
  }

  /** For the server: the step at which generations are held now. */
  get heldAt(): number | undefined {
    return this.#gate.step;
  }

  /** For the server: waits at the gate. */
  async waitAtGate(generation: DemoGeneration, signal: AbortSignal): Promise<void> {
    const passed = this.#gate.pass(signal);
    this.emit('held', generation);
    await passed;
  }

  /** For the server: keeps a request. */
  addRequest(request: DemoRequest): void {
    this.#keep(this.requests, request);
    this.emit('request', request);
  }

  /** For the server: keeps a generation request. */
  addGeneration(request: DemoRequest): DemoGeneration {
    const generation: DemoGeneration = { request, images: [], wasDelivered: false };
    this.#keep(this.generations, generation);
    this.emit('received', generation);
    return generation;
  }

  /** For the server: a generation has begun to sample. */
  startRunning(generation: DemoGeneration): void {
    this.running += 1;
    this.maxRunning = Math.max(this.maxRunning, this.running);
    this.emit('started', generation);
  }

  /** For the server: it has ended, well or not. */
  stopRunning(generation: DemoGeneration): void {
    this.running -= 1;
    this.emit('finished', generation);
  }

  #keep<T>(list: T[], item: T): void {
    list.push(item);
    if (list.length > this.#historySize) list.shift();
  }
}
