import type { Job } from '../job.js';

/** What jobs are found and counted by. */
export const TRAITS = ['ip', 'status', 'backend'] as const;
export type TraitName = (typeof TRAITS)[number];

/** One value of one trait. */
export interface Trait {
  readonly name: TraitName;
  readonly value: string;
}

/** The trait that a query asks for, where it asks for exactly one. */
export function onlyTraitOf(query: Readonly<Partial<Pick<Job, TraitName>>>): Trait | undefined {
  const [trait, another] = TRAITS.flatMap((name) => {
    const value = query[name];
    return value === undefined ? [] : [{ name, value }];
  });
  return another ? undefined : trait;
}

const NOTHING = -1;

/**
 * One trait of the jobs in a list, by their places there: numbers that stand for its values. A hundred thousand numbers
 * are looked through in a fraction of the time that the jobs themselves would take.
 */
export class TraitColumn {
  readonly #numbers = new Map<string, number>();
  /** How many jobs have the value with this number. */
  readonly #counts: number[] = [];
  #column: number[] = [];

  /** The job in this place has another value; undefined: there is none any more. */
  set(place: number, value: string | undefined): void {
    const before = this.#column[place] ?? NOTHING;
    const now = value === undefined ? NOTHING : this.#numberOf(value);
    if (before === now) return;
    if (before !== NOTHING) this.#counts[before] = this.#countAt(before) - 1;
    if (now !== NOTHING) this.#counts[now] = this.#countAt(now) + 1;
    this.#column[place] = now;
  }

  /** How many jobs have this value. */
  count(value: string): number {
    const number = this.#numbers.get(value);
    return number === undefined ? 0 : this.#countAt(number);
  }

  /** The last places in front of `end` whose jobs have this value, at most so many, the last one first. */
  lastPlaces(value: string, end: number, limit: number): number[] {
    const number = this.#numbers.get(value);
    const column = this.#column;
    const places: number[] = [];
    if (number === undefined) return places;
    for (let place = end - 1; place >= 0 && places.length < limit; place -= 1) {
      if (column[place] === number) places.push(place);
    }
    return places;
  }

  clear(): void {
    this.#numbers.clear();
    this.#counts.length = 0;
    this.#column = [];
  }

  #numberOf(value: string): number {
    const known = this.#numbers.get(value);
    if (known !== undefined) return known;
    const number = this.#counts.push(0) - 1;
    this.#numbers.set(value, number);
    return number;
  }

  #countAt(number: number): number {
    return this.#counts[number] ?? 0;
  }
}
