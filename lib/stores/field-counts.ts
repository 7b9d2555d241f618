import type { Job } from '../job.js';

/** What jobs are counted by. */
const FIELDS = ['ip', 'status', 'backend'] as const;
type Field = (typeof FIELDS)[number];

/** One value of a field that jobs are counted by. */
export interface Trait {
  readonly field: Field;
  readonly value: string;
}

/** The trait that a query asks for, where it asks for exactly one. */
export function onlyTraitOf(query: Readonly<Partial<Record<Field, string | undefined>>>): Trait | undefined {
  const [trait, another] = FIELDS.flatMap((field) => {
    const value = query[field];
    return value === undefined ? [] : [{ field, value }];
  });
  return another ? undefined : trait;
}

/** How many jobs there are with each address, status and backend. */
export class FieldCounts {
  readonly #counts = FIELDS.map((field) => ({ field, counts: new Map<string, number>() }));

  of({ field, value }: Trait): number {
    return this.#counts.find((one) => one.field === field)?.counts.get(value) ?? 0;
  }

  /** A job was added, changed or removed. */
  changed(previous: Job | undefined, job: Job | undefined): void {
    for (const { field, counts } of this.#counts) {
      const before = previous?.[field];
      const now = job?.[field];
      if (before === now) continue;
      if (before !== undefined) add(counts, before, -1);
      if (now !== undefined) add(counts, now, 1);
    }
  }
}

function add(counts: Map<string, number>, value: string, difference: number): void {
  const count = (counts.get(value) ?? 0) + difference;
  if (count === 0) counts.delete(value);
  else counts.set(value, count);
}
