import type { IncomingMessage } from 'node:http';

/** What `Access-Control-Expose-Headers` has to name, because browsers keep these headers from a page otherwise. */
export const EXPOSED_HEADERS = 'X-Job-ID, Location, Link, Retry-After, X-Total-Count';

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
