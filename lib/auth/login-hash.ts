import { createHmac, randomBytes } from 'node:crypto';

/** Hashes logins under a key that nobody knows and that ends with the process: what is kept of them tells nothing. */
export class LoginHash {
  readonly #key = randomBytes(32);

  /** @param name without a colon, so that no two logins read the same. */
  of(name: string, password: string): Buffer {
    return createHmac('sha256', this.#key).update(`${name}:${password}`).digest();
  }
}
