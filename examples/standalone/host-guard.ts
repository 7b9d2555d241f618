import type { IncomingMessage } from 'node:http';
import { isIP } from 'node:net';

/** What a page may send to another site without that being asked first. */
const SIMPLE_TYPE = /^(?:application\/x-www-form-urlencoded|multipart\/form-data|text\/plain)\s*(?:;|$)/i;

/** Says why a request is not answered; undefined where it is. */
export type HostGuard = (req: IncomingMessage) => string | undefined;

/**
 * Admits only calls by a known name. Without it any web page could make its own name point to this machine and read the
 * pictures through the visitor's browser (DNS rebinding).
 *
 * And no page of another site may send what its visitor's browser would send without asking, or open a WebSocket.
 *
 * @param names host names without a port, beside those of loopback.
 * @param origins of pages that may all the same.
 */
export function hostGuard(names: readonly string[], origins: readonly string[] | '*' = []): HostGuard {
  const known = new Set(['localhost', '127.0.0.1', '::1', ...names].map(asInHost));
  // Such a gateway is called by any address of its machine, and nobody can make an address point elsewhere.
  const knowsAddresses = names.some((name) => name === '0.0.0.0' || name === '::');
  return (req) => {
    const { host = '', origin } = req.headers;
    const name = host.toLowerCase().replace(/:\d*$/, '');
    if (!known.has(name) && !(knowsAddresses && isIP(name.replace(/^\[(.*)\]$/, '$1')) !== 0))
      return `Expected a Host that is known here, got "${host}": add it to TRACKER_HOSTS`;
    if (
      origin !== undefined &&
      rides(req) &&
      !isOwn(origin, host) &&
      origins !== '*' &&
      !origins.includes(origin)
    )
      return `Expected a page of this gateway, got one of "${origin}": add it to TRACKER_CORS`;
    return undefined;
  };
}

/** Whether a page of another site can make its visitor's browser send this without asking us first. */
function rides({ method, headers }: IncomingMessage): boolean {
  if (headers.upgrade !== undefined) return true;
  const type = headers['content-type'];
  return method === 'POST' && (type === undefined || SIMPLE_TYPE.test(type));
}

function isOwn(origin: string, host: string): boolean {
  return URL.canParse(origin) && new URL(origin).host === host.toLowerCase();
}

function asInHost(name: string): string {
  return isIP(name) === 6 ? `[${name.toLowerCase()}]` : name.toLowerCase();
}
