import type { IncomingMessage, ServerResponse } from 'node:http';

/** What `Access-Control-Expose-Headers` has to name, because browsers keep these headers from a page otherwise. */
export const EXPOSED_HEADERS = 'X-Job-ID, Location, Link, Retry-After, X-Total-Count';

const SAFE_METHODS = ['GET', 'HEAD', 'OPTIONS'];
/** What a page may send to another site without that being asked first (Fetch standard, "CORS-safelisted"). */
const SIMPLE_TYPE = /^(?:application\/x-www-form-urlencoded|multipart\/form-data|text\/plain)\s*(?:;|$)/i;

/**
 * True where a browser sent the request from a page of another origin: its `Origin` (`null` counts as another one) is
 * not the host that the request was sent to. False without an `Origin` header.
 */
export function isCrossOrigin(req: IncomingMessage): boolean {
  const { origin, host } = req.headers;
  if (origin === undefined) return false;
  try {
    return new URL(origin).host !== host;
  } catch {
    return true;
  }
}

/**
 * True where a page of another site asks for a change. A browser sends stored credentials by itself, so that this may not
 * be its user's wish. What the browser says in `Sec-Fetch-Site` counts first: a reverse proxy in front may have changed
 * the `Host` that `Origin` is else compared with.
 */
export function isForeignChange(req: IncomingMessage, res: ServerResponse): boolean {
  if (SAFE_METHODS.includes(req.method ?? '')) return false;
  const { origin } = req.headers;
  // The host's own CORS rules let this very origin in.
  if (origin !== undefined && res.getHeader('access-control-allow-origin') === origin) return false;
  return isForeign(req);
}

/** True where a browser says that a page of another site has sent the request. */
export function isForeign(req: IncomingMessage): boolean {
  const site = req.headers['sec-fetch-site'];
  return site === undefined ? isCrossOrigin(req) : site !== 'same-origin' && site !== 'none';
}

/** True for a request that a browser sends to another site without asking that site first, by a preflight. */
export function isSimpleRequest(req: IncomingMessage): boolean {
  const type = req.headers['content-type'];
  return ['GET', 'HEAD', 'POST'].includes(req.method ?? '') && (type === undefined || SIMPLE_TYPE.test(type));
}

/** True for the question, sent without credentials, whether a page of another origin may send a request (Fetch standard). */
export function isPreflight(req: IncomingMessage): boolean {
  const { origin, 'access-control-request-method': method, 'content-length': length = '0' } = req.headers;
  const hasBody = length !== '0' || req.headers['transfer-encoding'] !== undefined;
  return req.method === 'OPTIONS' && origin !== undefined && method !== undefined && !hasBody;
}
