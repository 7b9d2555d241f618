/** Lets one in at a time, in the order in which they came. */
export class Turns {
  #last: Promise<void> = Promise.resolve();

  /** Resolves when it is the caller's turn, which `end` has to give back. */
  async take(): Promise<Turn> {
    const turn = new Turn(() => this.#enter());
    await turn.begin();
    return turn;
  }

  async #enter(): Promise<() => void> {
    const before = this.#last;
    let leave = () => {};
    this.#last = new Promise((resolve) => {
      leave = resolve;
    });
    await before;
    return leave;
  }
}

/** A turn, which may be given back and taken up again. */
export class Turn {
  readonly #enter: () => Promise<() => void>;
  #leave: () => void = () => {};

  constructor(enter: () => Promise<() => void>) {
    this.#enter = enter;
  }

  async begin(): Promise<void> {
    this.#leave = await this.#enter();
  }

  /** Lets the next one in. May be called twice. */
  end(): void {
    this.#leave();
  }
}
