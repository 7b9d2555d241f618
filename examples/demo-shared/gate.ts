/** Lets a test decide when a generation goes on; open from the start. */
export class Gate {
  #step: number | undefined;
  #passes = 0;
  readonly #waiting: (() => void)[] = [];

  /** The step before which a generation has to wait, counted from 0; undefined while the gate is open. */
  get step(): number | undefined {
    return this.#step;
  }

  close(step: number): void {
    this.#step = step;
    this.#passes = 0;
  }

  /** Lets one through: who waits longest, else who comes next. */
  letOne(): void {
    const next = this.#waiting.shift();
    if (next) next();
    else this.#passes += 1;
  }

  open(): void {
    this.#step = undefined;
    for (const next of this.#waiting.splice(0)) next();
  }

  /** Resolves once the gate lets the caller through, or its signal is aborted. */
  async pass(signal: AbortSignal): Promise<void> {
    if (this.#step === undefined || signal.aborted) return;
    if (this.#passes > 0) {
      this.#passes -= 1;
      return;
    }
    await new Promise<void>((resolve) => {
      const next = (): void => {
        signal.removeEventListener('abort', leave);
        resolve();
      };
      const leave = (): void => {
        this.#waiting.splice(this.#waiting.indexOf(next), 1);
        resolve();
      };
      this.#waiting.push(next);
      signal.addEventListener('abort', leave, { once: true });
    });
  }
}
