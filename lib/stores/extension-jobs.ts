import { BACKEND_NAMES, type BackendName, JOB_STATUSES, type Job, type JobStatus } from '../job.js';
import { deepFreeze } from './kept-job.js';

/** The extension's ids are 8 to 10 characters long. */
const ID = /^[A-Za-z0-9]{8,10}$/;

/** True for a record that the A1111 extension wrote: it tracks one backend only and does not name it. */
export function isExtensionRecord(value: unknown): boolean {
  return typeof value === 'object' && value !== null && !('backend' in value);
}

/**
 * Makes a job of a record that another program may have written: the A1111 extension (`{id, prompt, ip, timestamp,
 * status}` with `output_paths`, or with one `output_path` that may be null), or a person with an editor. Undefined if
 * the record makes no sense. Members that are not known here are kept.
 */
export function jobFromForeignRecord(value: unknown): Job | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const { id, prompt, ip, timestamp, status, output_paths, output_path, backend, path, ...others } =
    value as Record<string, unknown>;
  const paths = pathsOf(output_paths ?? output_path);
  if (typeof id !== 'string' || !ID.test(id) || paths === undefined) return undefined;
  if (!isTextOrAbsent(prompt) || !isTextOrAbsent(ip)) return undefined;
  if (typeof timestamp !== 'number' || !Number.isFinite(timestamp)) return undefined;
  if (!JOB_STATUSES.includes(status as JobStatus)) return undefined;
  return deepFreeze({
    ...others,
    id,
    prompt: prompt ?? '',
    ip: ip ?? '',
    timestamp: Math.floor(timestamp),
    status: status as JobStatus,
    output_paths: paths,
    backend: BACKEND_NAMES.includes(backend as BackendName) ? (backend as BackendName) : 'a1111',
    // The extension does not say which route it was. The commoner of the two is put in, so that whoever reads a path
    // always meets one that the backend has.
    path: typeof path === 'string' && path !== '' ? path : '/sdapi/v1/txt2img',
  } satisfies Job) as Job;
}

function pathsOf(value: unknown): string[] | undefined {
  if (value === undefined || value === null || value === '') return [];
  const paths = typeof value === 'string' ? [value] : value;
  if (!Array.isArray(paths) || !paths.every((path) => typeof path === 'string')) return undefined;
  return paths;
}

function isTextOrAbsent(value: unknown): value is string | null | undefined {
  return value === undefined || value === null || typeof value === 'string';
}
