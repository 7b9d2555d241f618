import { addressGroup } from './address-group.js';
import type { Throttle } from './throttle.js';

interface Turns {
  running: number;
  readonly waiting: (() => void)[];
}

/**
 * Lets no more logins of one caller be judged at once than could be wrong before it is blocked: who guesses at once
 * learns no more than who guesses one after the other. The others wait.
 */
export class LoginTurns {
  readonly #throttle: Throttle;
  readonly #turns = new Map<string, Turns>();

  constructor(throttle: Throttle) {
    this.#throttle = throttle;
  }

  /**
   * Waits for a turn, which `end` has to give back.
   *
   * @returns for how long the caller is blocked, in milliseconds; 0 where it has its turn.
   */
  async begin(address: string | undefined): Promise<number> {
    const group = addressGroup(address);
    for (;;) {
      const blockedMs = this.#throttle.blockedFor(address);
      if (blockedMs > 0) return blockedMs;
      const turns = this.#turns.get(group) ?? { running: 0, waiting: [] };
      this.#turns.set(group, turns);
      if (turns.running < Math.max(1, this.#throttle.remaining(address))) {
        turns.running += 1;
        return 0;
      }
      await new Promise<void>((resolve) => turns.waiting.push(resolve));
    }
  }

  /** What is to be counted must have been counted. */
  end(address: string | undefined): void {
    const group = addressGroup(address);
    const turns = this.#turns.get(group);
    if (!turns) return;
    turns.running -= 1;
    const remaining = this.#throttle.remaining(address);
    // Where the caller is blocked now, all of them shall hear it.
    const free = remaining > 0 ? remaining - turns.running : turns.waiting.length;
    for (const wake of turns.waiting.splice(0, free)) wake();
    if (turns.running === 0 && turns.waiting.length === 0) this.#turns.delete(group);
  }
}
