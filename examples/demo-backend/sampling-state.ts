import { setTimeout as sleep } from 'node:timers/promises';
import type { PythonValue } from '../demo-shared/python-json.js';
import type { GenerationParameters } from './generation-parameters.js';
import { jobTimestamp } from './infotext.js';

/** What the backend is doing: one for the whole server, as A1111's `shared.state`. */
export class SamplingState {
  /** The generation that runs, or ran last. */
  parameters: GenerationParameters | undefined;
  #skipped = false;
  #interrupted = false;
  #job = '';
  #jobCount = 0;
  #jobNumber = 0;
  #timestamp = '0';
  #step = 0;
  #steps = 0;
  #startedMs = 0;
  #isClosed = false;
  #wake = new AbortController();

  begin(parameters: GenerationParameters): void {
    this.parameters = parameters;
    this.#job = `scripts_${parameters.mode}`;
    this.#jobCount = parameters.iterations;
    this.#jobNumber = 0;
    this.#step = 0;
    this.#steps = parameters.steps;
    this.#timestamp = jobTimestamp(new Date());
    this.#startedMs = performance.now();
    this.#skipped = false;
    this.#interrupted = this.#isClosed;
    this.#wake = new AbortController();
  }

  beginIteration(number: number): void {
    if (this.#jobCount > 1) this.#job = `Batch ${number + 1} out of ${this.#jobCount}`;
    this.#jobNumber = number;
    this.#step = 0;
    if (this.#skipped) this.#wake = new AbortController();
    this.#skipped = false;
  }

  end(): void {
    this.#job = '';
    this.#jobCount = 0;
  }

  interrupt(): void {
    this.#interrupted = true;
    this.#wake.abort();
  }

  skip(): void {
    this.#skipped = true;
    this.#wake.abort();
  }

  /** Ends what runs, and everything that begins from now on. */
  close(): void {
    this.#isClosed = true;
    this.interrupt();
  }

  get isInterrupted(): boolean {
    return this.#interrupted;
  }

  /** Aborted once the iteration has to end early. */
  get signal(): AbortSignal {
    return this.#wake.signal;
  }

  /** Steps done in this iteration. */
  get step(): number {
    return this.#step;
  }

  set step(step: number) {
    this.#step = step;
  }

  get isIdle(): boolean {
    return this.#jobCount === 0;
  }

  get elapsedSeconds(): number {
    return (performance.now() - this.#startedMs) / 1000;
  }

  /** From 0 to 1, over all iterations. */
  get progress(): number {
    if (this.isIdle || this.#steps <= 0) return 0;
    return Math.min(1, (this.#jobNumber + this.#step / this.#steps) / this.#jobCount);
  }

  /** Counts up with every step, so that a client can tell a new preview from the one it has. */
  get previewId(): number {
    return this.#jobNumber * Math.max(0, this.#steps) + this.#step;
  }

  /** Resolves at that time of `performance.now()`, or once the iteration has to end early. */
  async waitUntil(timeMs: number): Promise<void> {
    const leftMs = timeMs - performance.now();
    if (leftMs <= 0 || this.signal.aborted) return;
    await sleep(leftMs, undefined, { signal: this.signal, ref: false }).catch((error: unknown) => {
      if (!this.signal.aborted) throw error;
    });
  }

  /** The `state` of `/sdapi/v1/progress`. */
  toDict(): PythonValue {
    return {
      skipped: this.#skipped,
      interrupted: this.#interrupted,
      stopping_generation: false,
      job: this.#job,
      job_count: BigInt(this.#jobCount),
      job_timestamp: this.#timestamp,
      job_no: BigInt(this.#jobNumber),
      sampling_step: BigInt(this.#step),
      sampling_steps: BigInt(this.#steps),
    };
  }
}
