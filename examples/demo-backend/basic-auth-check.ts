import { httpException } from './api-error.js';

/**
 * Checks an `Authorization` header as A1111 does with `--api-auth`. Throws a 401 `ApiError`; there is no
 * `WWW-Authenticate`, because A1111 loses it too.
 */
export function checkBasicAuth(header: string | undefined, expected: string): void {
  const [, credentials] = /^basic (.*)$/i.exec(header ?? '') ?? [];
  if (credentials === undefined) throw httpException(401, 'Not authenticated');
  const given = Buffer.from(credentials, 'base64').toString();
  if (!given.includes(':')) throw httpException(401, 'Invalid authentication credentials');
  if (!expected.split(',').includes(given)) throw httpException(401, 'Incorrect username or password');
}
