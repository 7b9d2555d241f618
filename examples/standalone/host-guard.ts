import type { IncomingMessage } from 'node:http';
import type { RequestHandler } from 'express';

export interface HostGuard {
  admits(req: IncomingMessage): boolean;
  readonly middleware: RequestHandler;
}

/**
 * Answers only to calls by a known name. Without it any web page could make its own name point to this machine and read
 * the pictures through the visitor's browser (DNS rebinding).
 *
 * @param names host names without a port, beside those of loopback.
 */
export function hostGuard(names: readonly string[]): HostGuard {
  const known = new Set([
    'localhost',
    '127.0.0.1',
    '[::1]',
    ...names.map((name) => bracketed(name.toLowerCase())),
  ]);
  const admits = (req: IncomingMessage) => known.has(hostName(req.headers.host ?? ''));
  return {
    admits,
    middleware(req, res, next) {
      if (admits(req)) {
        next();
        return;
      }
      const error = `Expected a Host that is known here, got "${req.headers.host ?? ''}": add it to TRACKER_HOSTS`;
      res.status(403).json({ error });
    },
  };
}

function hostName(host: string): string {
  return host.toLowerCase().replace(/:\d*$/, '');
}

function bracketed(name: string): string {
  return name.includes(':') && !name.startsWith('[') ? `[${name}]` : name;
}
