import type { IncomingMessage } from 'node:http';

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
