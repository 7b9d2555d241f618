/** Random numbers that a seed gives again. */
export interface SeededRandom {
  /** A whole number from `least` to `most`, both included. */
  integer(least: number, most: number): number;
  /** True so often, out of 1. */
  chance(share: number): boolean;
  pick<T>(values: readonly T[]): T;
}

/** The generator is mulberry32: 32 bits of state, good enough to choose faults by. */
export function seededRandom(seed: number): SeededRandom {
  let state = seed >>> 0;
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  const integer = (least: number, most: number) => least + Math.floor(next() * (most - least + 1));
  return {
    integer,
    chance: (share) => next() < share,
    pick: (values) => values[integer(0, values.length - 1)] as (typeof values)[number],
  };
}

/** The seed that an environment variable asks for, else a fresh one; it is printed, so that a failure can be had again. */
export function seedFrom(variable: string): number {
  const seed = Number(process.env[variable] ?? Math.floor(Math.random() * 2 ** 32));
  process.stdout.write(`${variable}=${seed}\n`);
  return seed;
}
