import { createHmac, randomBytes } from 'node:crypto';
import type { Request } from 'express';

/** Nobody can guess a password by what is kept of it; a restart forgets it. */
const key = randomBytes(32);

/**
 * Who makes a request: the user, else address, `User-Agent`, and the credentials that somebody behind may ask for.
 * Undefined where several may hide behind one address: a request that came through a proxy which the host does not trust
 * to say for whom, or over a socket that has no address.
 */
export function callerOf(req: Request, user: string | undefined): string | undefined {
  if (user !== undefined) return JSON.stringify(['user', user]);
  if (!req.ip || !tellsItsClient(req)) return undefined;
  return JSON.stringify(['address', req.ip, req.headers['user-agent'] ?? '', ...credentialsOf(req)]);
}

/** Every address that the proxies have told is vouched for. */
function tellsItsClient({ ips, headers }: Request): boolean {
  const addresses = headers['x-forwarded-for'];
  // Express does not read `Forwarded` (RFC 7239).
  if (addresses === undefined) return headers.forwarded === undefined;
  return ips.length === [addresses].flat().join(',').split(',').length;
}

function credentialsOf({ headers: { authorization, cookie } }: Request): string[] {
  if (authorization === undefined && cookie === undefined) return [];
  const credentials = JSON.stringify([authorization, cookie]);
  return [createHmac('sha256', key).update(credentials).digest('base64url')];
}
