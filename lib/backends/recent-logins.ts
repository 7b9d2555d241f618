const REMEMBERED_MS = 10 * 60 * 1000;
const MAX_REMEMBERED = 1_000;

/** The hashes of logins that were right within the last ten minutes: the 1,000 latest at most. */
export class RecentLogins {
  readonly #now: () => number;
  /** When each was found right; the oldest first. */
  readonly #foundMs = new Map<string, number>();

  /** @param now the time in milliseconds. */
  constructor(now: () => number = () => Date.now()) {
    this.#now = now;
  }

  has(login: string): boolean {
    const foundMs = this.#foundMs.get(login);
    if (foundMs === undefined) return false;
    const ageMs = this.#now() - foundMs;
    // A clock that was set back must not keep anything for longer.
    if (ageMs >= 0 && ageMs < REMEMBERED_MS) return true;
    this.#foundMs.delete(login);
    return false;
  }

  add(login: string): void {
    // Anew, so that it stands last.
    this.#foundMs.delete(login);
    const [oldest] = this.#foundMs.keys();
    if (this.#foundMs.size >= MAX_REMEMBERED && oldest !== undefined) this.#foundMs.delete(oldest);
    this.#foundMs.set(login, this.#now());
  }
}
