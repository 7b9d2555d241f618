import type { IncomingMessage } from 'node:http';
import { isIP } from 'node:net';

/** Says why a request is not answered; undefined where it is. */
export type HostGuard = (req: IncomingMessage) => string | undefined;

/**
 * Admits only calls by a known name. Without it any web page could make its own name point to this machine and read the
 * pictures through the visitor's browser (DNS rebinding).
 *
 * @param names host names without a port, beside those of loopback.
 */
export function hostGuard(names: readonly string[]): HostGuard {
  const known = new Set(['localhost', '127.0.0.1', '::1', ...names].map(asInHost));
  return ({ headers: { host = '' } }) => {
    const name = host.toLowerCase().replace(/:\d*$/, '');
    if (known.has(name)) return undefined;
    return `Expected a Host that is known here, got "${host}": add it to TRACKER_HOSTS`;
  };
}

function asInHost(name: string): string {
  return isIP(name) === 6 ? `[${name.toLowerCase()}]` : name.toLowerCase();
}
