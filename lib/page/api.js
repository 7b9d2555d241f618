import { parseExact } from './exact-json.js';

/**
 * @typedef {object} Job as the tracker's routes give it
 * @property {string} id
 * @property {string} prompt
 * @property {string} ip
 * @property {number} timestamp unix seconds
 * @property {'Pending' | 'Processing' | 'Completed' | 'Failed'} status
 * @property {string[]} output_paths
 * @property {string} backend
 * @property {string} [path]
 * @property {string} [user]
 * @property {Record<string, unknown>} [request]
 * @property {number} [started_at]
 * @property {number} [finished_at]
 * @property {{ code: string, message: string, status?: number }} [error]
 * @property {number} [bytes]
 * @property {number} [queue_position]
 * @property {number} [progress] 0 to 1
 * @property {string} [disturbed_by]
 * @property {string} [retry_of]
 * @property {unknown} [info]
 * @property {unknown} [parameters]
 * @property {unknown} [workflow] of ComfyUI
 *
 * @typedef {{ id: string, progress?: number, step?: number, steps?: number, eta_seconds?: number, text?: string }} Progress
 * @typedef {{ tracking_enabled: boolean, retention_days: number, fixed_by_environment: string[], problem?: string }} Settings
 * @typedef {{ ok: boolean, error?: string }} PartHealth
 * @typedef {{ ok: boolean, store?: PartHealth, images?: PartHealth, backends?: Record<string, PartHealth>,
 *   queue?: { running: number, waiting: number },
 *   disk?: { free_bytes?: number, total_bytes?: number, images_bytes: number } }} Health
 */

/** An answer that is none of success; the message is the tracker's own sentence. */
export class ApiError extends Error {
  /** @param {string} message @param {number} status 0 where there was no answer */
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/**
 * The address of one of the tracker's routes, by its path below the mount: the page itself is at `<mount>/job-tracker`.
 * Without the login that somebody may have written into the page's address: a browser refuses to fetch by that.
 *
 * @param {string} path
 */
export const urlOf = (path) => new URL(path, location.origin + location.pathname).href;

/** @param {Job} job */
export const isFinished = ({ status }) => status === 'Completed' || status === 'Failed';

/** @param {string} id */
export const jobUrl = (id) => urlOf(`sdapi/v1/job/${encodeURIComponent(id)}`);
/** @param {string} id @param {number} n */
export const imageUrl = (id, n) => `${jobUrl(id)}/images/${n}`;
/** @param {string} id @param {number} n */
export const thumbnailUrl = (id, n) => `${imageUrl(id, n)}/thumbnail`;
/** @param {string} id */
export const zipUrl = (id) => `${jobUrl(id)}/zip`;

/**
 * @param {string} url
 * @param {{ method?: string, body?: unknown, signal?: AbortSignal | undefined }} [options]
 * @returns {Promise<{ data: unknown, headers: Headers, status: number }>}
 * @throws {ApiError}
 */
export async function call(url, { method = 'GET', body, signal } = {}) {
  const response = await fetch(url, {
    method,
    cache: 'no-store',
    ...(signal && { signal }),
    ...(body !== undefined && {
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify(body),
    }),
  }).catch((error) => {
    if (error.name === 'AbortError') throw error;
    throw new ApiError('The gateway does not answer', 0);
  });
  const text = await response.text();
  /** @type {unknown} */
  let data;
  try {
    data = text === '' ? undefined : parseExact(text);
  } catch {
    throw new ApiError(
      `Expected JSON from the gateway, got an answer with status ${response.status}`,
      response.status,
    );
  }
  const { headers, status } = response;
  // A gateway that is not well says so with 503, and tells how.
  if (response.ok || /** @type {Health} */ (data)?.store !== undefined) return { data, headers, status };
  const { error } = /** @type {{ error?: unknown }} */ (data ?? {});
  throw new ApiError(typeof error === 'string' ? error : `The gateway answered with ${status}`, status);
}

/**
 * @param {Record<string, string | number | undefined>} query
 * @param {AbortSignal} [signal]
 * @returns {Promise<{ jobs: Job[], total: number, hasMore: boolean }>} newest first
 */
export async function listJobs(query, signal) {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== '') parameters.set(name, String(value));
  }
  const { data, headers } = await call(urlOf(`sdapi/v1/jobs?${parameters}`), { signal });
  const jobs = /** @type {Job[]} */ (data);
  return {
    jobs,
    total: Number(headers.get('X-Total-Count') ?? jobs.length),
    hasMore: /rel="?next/.test(headers.get('Link') ?? ''),
  };
}

/** With `info` and `parameters`, without the pictures. @param {string} id @param {AbortSignal} [signal] */
export async function getJob(id, signal) {
  return /** @type {Job} */ ((await call(`${jobUrl(id)}?images=none`, { signal })).data);
}

/** @param {string} id @returns {Promise<{ job: Job, isEnding: boolean }>} */
export async function cancelJob(id) {
  const { data, status } = await call(`${jobUrl(id)}/cancel`, { method: 'POST' });
  return { job: /** @type {Job} */ (data), isEnding: status === 202 };
}

/** @param {string} id @returns {Promise<Job>} the new job */
export async function retryJob(id) {
  return /** @type {Job} */ ((await call(`${jobUrl(id)}/retry`, { method: 'POST' })).data);
}

/** @param {string} id */
export async function deleteJob(id) {
  await call(jobUrl(id), { method: 'DELETE' });
}

/** @param {Partial<Settings>} [changes] */
export async function settings(changes) {
  const options = changes ? { method: 'PATCH', body: changes } : {};
  return /** @type {Settings} */ ((await call(urlOf('job-tracker/settings'), options)).data);
}

/** @param {{ older_than?: number | string, dry_run?: boolean }} options @returns {Promise<{ jobs: number, bytes: number }>} */
export async function purge(options) {
  const { data } = await call(urlOf('job-tracker/purge'), { method: 'POST', body: options });
  return /** @type {{ jobs: number, bytes: number }} */ (data);
}

export async function health() {
  return /** @type {Health} */ ((await call(urlOf('job-tracker/health'))).data);
}
