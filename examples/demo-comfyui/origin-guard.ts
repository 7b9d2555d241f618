import type { IncomingHttpHeaders } from 'node:http';
import { isIPv4 } from 'node:net';

/** True for what a page of another site may have sent: ComfyUI refuses it with 403. */
export function isForeign({ host, origin, ...headers }: IncomingHttpHeaders): boolean {
  if (headers['sec-fetch-site'] === 'cross-site') return true;
  if (host === undefined || origin === undefined || !isLoopback(host)) return false;
  const originHost = hostOf(origin);
  return originHost !== undefined && originHost !== host.toLowerCase();
}

/** Host and port as they stand in the origin; undefined for what has none, such as `null`. */
function hostOf(origin: string): string | undefined {
  return /^[a-z][a-z\d+.-]*:\/\/([^/]+)/i.exec(origin)?.[1]?.toLowerCase();
}

function isLoopback(host: string): boolean {
  const name = host.toLowerCase().replace(/:\d+$/, '');
  return name === 'localhost' || name === '[::1]' || (isIPv4(name) && name.startsWith('127.'));
}
