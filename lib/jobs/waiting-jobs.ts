/** A place where jobs wait. */
export interface WaitingPlace {
  /** 1 for the next to be let in; undefined for a job that does not wait there. */
  positionOf(id: string): number | undefined;
  /** The jobs that wait, by id, each with its position. */
  readonly positions: Iterable<readonly [id: string, position: number]>;
}

/** The jobs that wait, wherever that is: in the tracker's own queue, or in a backend's. */
export class WaitingJobs implements WaitingPlace {
  readonly #places: readonly WaitingPlace[];

  constructor(places: readonly WaitingPlace[]) {
    this.#places = places;
  }

  positionOf(id: string): number | undefined {
    for (const place of this.#places) {
      const position = place.positionOf(id);
      if (position !== undefined) return position;
    }
    return undefined;
  }

  get positions(): (readonly [id: string, position: number])[] {
    return this.#places.flatMap(({ positions }) => [...positions]);
  }
}
