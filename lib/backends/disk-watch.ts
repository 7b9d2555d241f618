/** Notices when nothing moves on a disk any more. */
export class DiskWatch {
  /** Resolves, once and for ever, when nothing has moved for as long as was allowed. */
  readonly standstill: Promise<undefined>;
  #stillForMs: number | undefined;
  #timer: NodeJS.Timeout | undefined;
  #resolve: () => void = () => {};

  constructor() {
    this.standstill = new Promise((resolve) => {
      this.#resolve = () => resolve(undefined);
    });
  }

  /** For how long nothing had moved when the disk was given up; undefined where it has not been. */
  get stillForMs(): number | undefined {
    return this.#stillForMs;
  }

  /**
   * From now on something has to move every so often. Takes the place of an earlier call.
   *
   * @returns what ends this expectation, and does nothing where another has taken its place.
   */
  expect(everyMs: number): () => void {
    clearTimeout(this.#timer);
    const timer = setTimeout(() => {
      this.#stillForMs ??= everyMs;
      this.#resolve();
    }, everyMs).unref();
    this.#timer = timer;
    return () => {
      if (this.#timer !== timer) return;
      clearTimeout(timer);
      this.#timer = undefined;
    };
  }

  /** Something has moved. */
  moved(): void {
    this.#timer?.refresh();
  }
}
