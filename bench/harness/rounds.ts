/** One of those that are measured side by side. */
export interface Contender<T> {
  readonly name: string;
  /** Does one round; what it resolves to is kept. It must throw where the results are not what they should be. */
  readonly run: (round: { readonly isWarmUp: boolean }) => Promise<T>;
}

/**
 * Lets all contenders do one round after the other, the first one again at the end of the next round, so that nobody
 * always comes first or always follows the same one. A first round, which fills caches and lets V8 compile, does not
 * count.
 *
 * @returns what each has given, in the order of the rounds, by its name.
 */
export async function inRounds<T>(
  rounds: number,
  contenders: readonly Contender<T>[],
): Promise<Map<string, T[]>> {
  const results = new Map<string, T[]>(contenders.map(({ name }) => [name, []]));
  for (let round = 0; round <= rounds; round += 1) {
    const order = round % 2 === 0 ? contenders : [...contenders].reverse();
    for (const { name, run } of order) {
      const result = await run({ isWarmUp: round === 0 });
      if (round > 0) results.get(name)?.push(result);
    }
  }
  return results;
}

/** One number of each round of a contender. */
export function valuesOf<T>(
  results: ReadonlyMap<string, readonly T[]>,
  name: string,
  value: (result: T) => number,
): number[] {
  const found = results.get(name);
  if (!found) throw new Error(`Expected results of ${name}, got none`);
  return found.map(value);
}
