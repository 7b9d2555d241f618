import type { IncomingHttpHeaders } from 'node:http';
import basicAuth from 'basic-auth';
import { nameFault, passwordFault } from './login-text.js';

/** What a request says of who makes it, by HTTP Basic (RFC 7617). */
export type BasicLogin =
  | { readonly kind: 'login'; readonly name: string; readonly password: string }
  /** Nothing that could be right: nobody has guessed. */
  | { readonly kind: 'absent'; readonly got: string }
  /** Somebody has tried with what can never be right. */
  | { readonly kind: 'impossible'; readonly got: string };

/** Some clients send a header without a login in it when they have none: empty, `Basic`, or `Basic Og==` (a colon). */
export function readBasicLogin({ authorization }: IncomingHttpHeaders): BasicLogin {
  if (authorization === undefined) return { kind: 'absent', got: 'no Authorization header' };
  const header = authorization.trim();
  if (header === '') return { kind: 'absent', got: 'an empty Authorization header' };
  if (!/^basic(\s|$)/i.test(header)) return { kind: 'absent', got: 'another scheme of authorization' };
  if (/^basic$/i.test(header)) return { kind: 'absent', got: 'neither name nor password' };
  const login = basicAuth.parse(header);
  if (!login) return { kind: 'impossible', got: 'something that is not base64 of `name:password`' };
  const { name, pass: password } = login;
  if (name === '') return { kind: 'absent', got: 'an empty name' };
  if (password === '') return { kind: 'absent', got: 'an empty password' };
  const fault = nameFault(name) ?? passwordFault(password);
  return fault === undefined ? { kind: 'login', name, password } : { kind: 'impossible', got: fault };
}
