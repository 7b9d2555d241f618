import { urlOf } from './api.js';
import { isRecord } from './exact-json.js';
import { workflowOf } from './job-facts.js';

/**
 * A command that makes the same again: the seed that was drawn is in it. Pictures that went into the request are not
 * kept, and are not in it.
 *
 * @param {import('./api.js').Job} job with its `parameters`, where it has them
 * @param {unknown} seed
 */
export function curlOf(job, seed) {
  const path = job.path ?? (job.backend === 'comfyui' ? '/prompt' : '/sdapi/v1/txt2img');
  const lines = [`curl ${quoted(urlOf(`.${path}`))}`];
  if (job.user !== undefined) lines.push(`-u ${quoted(job.user)}`);
  lines.push(`-H 'Content-Type: application/json'`, `-d ${quoted(JSON.stringify(bodyOf(job, seed)))}`);
  return lines.join(' \\\n  ');
}

/** @param {import('./api.js').Job} job */
export const needsPictures = ({ path = '' }) => path.endsWith('/img2img');

/** @param {import('./api.js').Job} job @param {unknown} seed */
function bodyOf(job, seed) {
  const { backend, prompt, request = {}, parameters } = job;
  if (backend === 'comfyui') return { prompt: workflowOf(job) ?? {} };
  const given = isRecord(parameters) ? parameters : { prompt, ...request };
  const said = Object.entries(given).filter(([, value]) => value !== null && value !== undefined);
  return { ...Object.fromEntries(said), ...(seed !== undefined && { seed }) };
}

/** For a POSIX shell. @param {string} text */
const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;
