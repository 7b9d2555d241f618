import { timingSafeEqual } from 'node:crypto';
import type { LoginCheck } from './login-check.js';
import { LoginHash } from './login-hash.js';
import { nameFault, passwordFault } from './login-text.js';

/** Names with their passwords. */
export type CredentialList = ReadonlyMap<string, string>;

/**
 * Reads `name:password,name2:password2`, the form of A1111's `--api-auth`. A password may hold colons, but no comma.
 *
 * @returns a sentence's end that says what is wrong, without any password, where something is.
 */
export function parseCredentialList(text: string): CredentialList | string {
  const credentials = new Map<string, string>();
  const entries = text.split(',');
  for (const [index, entry] of entries.entries()) {
    const place = entries.length === 1 ? 'one' : `an entry (number ${index + 1})`;
    const colon = entry.indexOf(':');
    if (colon === -1) return `${place} without a colon`;
    const name = entry.slice(0, colon).trim();
    const password = entry.slice(colon + 1);
    if (name === '') return `${place} without a name`;
    if (password.trim() === '') return `${place} without a password`;
    const fault = nameFault(name) ?? passwordFault(password);
    if (fault !== undefined) return `${place} with ${fault}`;
    if (credentials.has(name)) return `the name "${name}" twice`;
    credentials.set(name, password);
  }
  return credentials;
}

/** Checks logins against a list, in a time that tells nothing of names or passwords. */
export class CredentialListCheck implements LoginCheck {
  readonly #hash = new LoginHash();
  readonly #hashes: readonly Buffer[];

  constructor(list: CredentialList) {
    this.#hashes = [...list].map(([name, password]) => this.#hash.of(name, password));
  }

  check(name: string, password: string): boolean {
    const given = this.#hash.of(name, password);
    let known = false;
    // All of them, always.
    for (const hash of this.#hashes) known = timingSafeEqual(hash, given) || known;
    return known;
  }
}
