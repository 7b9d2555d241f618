import type { Job, JobChange } from '../job.js';

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
  return changedJob(job, job);
}

/** The job with a change made, as a restart would read it; it shares nothing with the change. */
export function changedJob(job: Job, change: JobChange): Job {
  const changed: Record<string, unknown> = { ...job };
  for (const [name, value] of Object.entries(change)) {
    const kept = name === 'id' ? job.id : keptValue(value);
    if (kept === undefined || name === '__proto__') delete changed[name];
    else changed[name] = kept;
  }
  return Object.freeze(changed) as unknown as Job;
}

/** What JSON makes of a value; undefined for what it leaves out. */
function keptValue(value: unknown): unknown {
  const isItself = typeof value === 'string' || typeof value === 'boolean' || Number.isFinite(value);
  if (isItself || value === undefined) return value;
  const json = JSON.stringify(value) as string | undefined;
  const kept = json === undefined ? undefined : parseKept(json);
  return typeof kept === 'object' && kept !== null ? deepFreeze(kept) : kept;
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
