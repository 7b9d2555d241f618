import { canonicalPath } from '../http/canonical-path.js';

/** What ComfyUI remembers, and we in its place. */
export type HistoryRoute =
  | { readonly kind: 'history' | 'view' }
  | { readonly kind: 'entry'; readonly promptId: string }
  /** Written in a way that ComfyUI itself does not know, but whatever stands in front of it may. */
  | { readonly kind: 'odd' };

const CANONICAL = /^(?:\/api)?\/(?:history(?:\/.*)?|view)$/;

/** True for the paths of the history and of files, in whichever way they are written. `path` is without the query. */
export function isHistoryPath(path: string): boolean {
  return CANONICAL.test(canonicalPath(path));
}

/** Which route a request is for; undefined for none of these. ComfyUI has each of them twice, at `/` and at `/api/`. */
export function historyRoute(method: string | undefined, path: string): HistoryRoute | undefined {
  if (!isHistoryPath(path)) return undefined;
  const [first, ...rest] = path.split('/').slice(1).map(decoded);
  const [name, promptId, ...further] = first === 'api' ? rest : [first, ...rest];
  const isPlain = (name === 'history' || name === 'view') && further.length === 0;
  const isRead = method === 'GET' || method === 'HEAD';
  if (!isPlain || promptId === '' || (name === 'view' && promptId !== undefined)) {
    return isRead || method === 'POST' ? { kind: 'odd' } : undefined;
  }
  if (promptId !== undefined) return isRead ? { kind: 'entry', promptId } : undefined;
  return isRead || (name === 'history' && method === 'POST') ? { kind: name } : undefined;
}

function decoded(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    // ComfyUI takes it as it stands.
    return segment;
  }
}
