import type { IncomingMessage } from 'node:http';
import { isIPv4 } from 'node:net';
import { isCrossOrigin } from '../http/cross-origin.js';

/**
 * ComfyUI's own rule, for when it is not there to apply it: nothing for a page that a browser says is another site's, nor,
 * where the host is this machine, for one of another origin.
 */
export function isRefusedByOrigin(req: IncomingMessage): boolean {
  if (req.headers['sec-fetch-site'] === 'cross-site') return true;
  return isLoopback(req.headers.host ?? '') && isCrossOrigin(req);
}

function isLoopback(host: string): boolean {
  const name = host.toLowerCase().replace(/:\d*$/, '');
  return name === 'localhost' || name === '[::1]' || (isIPv4(name) && name.startsWith('127.'));
}
