/** One holder at a time, in the order of asking. */
export class FifoLock {
  #last: Promise<void> = Promise.resolve();

  /** Resolves to the function that gives the lock back. */
  async acquire(): Promise<() => void> {
    const before = this.#last;
    let giveBack = (): void => {};
    this.#last = new Promise((resolve) => {
      giveBack = resolve;
    });
    await before;
    return giveBack;
  }
}
