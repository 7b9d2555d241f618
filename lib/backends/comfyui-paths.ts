import { canonicalPath } from '../http/canonical-path.js';

/** ComfyUI has all of its routes twice. */
const NEWS_PATHS = new Set(['/ws', '/api/ws']);
/** Prompts leave the queue, or the history, by these. */
const REMOVAL_PATHS = /^(?:\/api)?\/(?:queue|history)$|^\/api\/jobs\/(?:[^/]+\/)?cancel$/;
const INTERRUPT_PATHS = /^(?:\/api)?\/interrupt$/;

/** True for the WebSocket on which ComfyUI tells its clients how their prompts get on. `path` as in `Backend`. */
export function isNewsSocket(path: string): boolean {
  return NEWS_PATHS.has(canonicalPath(path));
}

/**
 * What a request may do to prompts that ComfyUI has: `removal` takes some out of the queue or the history, `interrupt`
 * ends the one at work. `path` as in `Backend`.
 */
export function promptChange(method: string | undefined, path: string): 'removal' | 'interrupt' | undefined {
  if (method !== 'POST') return undefined;
  const canonical = canonicalPath(path);
  if (REMOVAL_PATHS.test(canonical)) return 'removal';
  return INTERRUPT_PATHS.test(canonical) ? 'interrupt' : undefined;
}
