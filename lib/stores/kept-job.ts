import type { Job } from '../job.js';

/** The records by id, in the order in which the jobs were created. */
export type JobMap = Map<string, Job>;

/** Parses JSON that comes from a file; throws a SyntaxError. Keys `__proto__` are dropped at every depth. */
export function parseKept(text: string): unknown {
  const value: unknown = JSON.parse(text);
  // JSON.parse makes `__proto__` an own key, which Object.assign then takes for the prototype. Escapes can hide the name,
  // but only escapes of this kind, so that almost no record has to be searched.
  if (text.includes('__proto__') || text.includes('\\u005')) dropProtoKeys(value);
  return value;
}

function dropProtoKeys(value: unknown): void {
  const open = [value];
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    if (typeof next !== 'object' || next === null) continue;
    Reflect.deleteProperty(next, '__proto__');
    for (const inner of Object.values(next)) open.push(inner);
  }
}

/** Takes a parsed record of our own for a job and freezes it; undefined if it is none. */
export function keptJob(value: unknown): Job | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  if (typeof (value as { id?: unknown }).id !== 'string') return undefined;
  return deepFreeze(value) as Job;
}

/** The job exactly as a restart would read it, sharing nothing with the one given. */
export function detachedJob(job: Job): Job {
  return deepFreeze(parseKept(JSON.stringify(job))) as Job;
}

export function deepFreeze(value: unknown): unknown {
  const open = [value];
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    Object.freeze(next);
    for (const inner of Object.values(next as object)) {
      if (typeof inner === 'object' && inner !== null) open.push(inner);
    }
  }
  return value;
}
