const FINISHED_KEPT = 16;

/** Which tasks wait, run and are done, as `/internal/progress` tells; kept with A1111's own forgetfulness. */
export class TaskList {
  #current: string | undefined;
  readonly #pending = new Set<string>();
  readonly #finished: string[] = [];

  /** Oldest first. */
  get pending(): readonly string[] {
    return [...this.#pending];
  }

  add(id: string): void {
    this.#pending.add(id);
  }

  start(id: string): void {
    this.#current = id;
    this.#pending.delete(id);
  }

  /** Called for a success only: in A1111 a task that fails stays the current one until the next starts. */
  finish(id: string): void {
    if (this.#current === id) this.#current = undefined;
    this.#finished.push(id);
    if (this.#finished.length > FINISHED_KEPT) this.#finished.shift();
  }

  isActive(id: string): boolean {
    return this.#current === id;
  }

  isFinished(id: string): boolean {
    return this.#finished.includes(id);
  }

  /** From 0; -1 where the task does not wait. */
  positionOf(id: string): number {
    return this.pending.indexOf(id);
  }
}
