/** So many removed ids may lie in a list at least before it is cleared of them. */
const SLACK = 1000;

/** Ids in the order in which they were added, which are removed cheaply: a Map cannot be walked backwards. */
export class IdList {
  /** Removed ones stay in for a while. */
  #ids: string[];
  readonly #removed = new Set<string>();

  constructor(ids: Iterable<string> = []) {
    this.#ids = [...ids];
  }

  get size(): number {
    return this.#ids.length - this.#removed.size;
  }

  add(id: string): void {
    // It would be in the list twice.
    if (this.#removed.has(id)) this.#clear();
    this.#ids.push(id);
  }

  /** @param id one that is in the list. */
  remove(id: string): void {
    this.#removed.add(id);
    if (this.#removed.size > SLACK + this.#ids.length / 2) this.#clear();
  }

  /** The first added first. */
  *[Symbol.iterator](): Generator<string> {
    for (const id of this.#ids) if (!this.#removed.has(id)) yield id;
  }

  /** At most so many ids, the last added first; from the one that was added before `before`, where that is given. */
  newest(limit: number, before?: string): string[] {
    const newest: string[] = [];
    const start = before === undefined ? this.#ids.length : this.#ids.lastIndexOf(before);
    for (let at = start - 1; at >= 0 && newest.length < limit; at -= 1) {
      const id = this.#ids[at] as string;
      if (!this.#removed.has(id)) newest.push(id);
    }
    return newest;
  }

  #clear(): void {
    this.#ids = [...this];
    this.#removed.clear();
  }
}
