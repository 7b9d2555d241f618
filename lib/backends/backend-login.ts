import { randomBytes } from 'node:crypto';
import type { LoginCheck } from '../auth/login-check.js';
import { LoginHash } from '../auth/login-hash.js';
import { JobTrackerError, messageOf } from '../errors.js';
import { callBackend } from '../http/backend-call.js';
import type { Logger } from '../logger.js';
import type { Backend } from './backend.js';
import { RecentLogins } from './recent-logins.js';

const TIMEOUT_MS = 5_000;

export interface BackendLoginOptions {
  readonly url: URL;
  readonly backend: Pick<Backend, 'title' | 'hint' | 'advise' | 'loginPath'>;
  readonly logger: Logger;
  /** The time in milliseconds. Default: `Date.now`. */
  readonly now?: (() => number) | undefined;
}

/**
 * Leaves it to a backend which logins are right. A good verdict is remembered for ten minutes, also while the backend is
 * down. It counts only where the backend refuses a login that cannot be right.
 */
export class BackendLogin implements LoginCheck {
  readonly #url: URL;
  readonly #backend: BackendLoginOptions['backend'];
  readonly #logger: Logger;
  readonly #hash = new LoginHash();
  readonly #good: RecentLogins;
  /** Questions under way. */
  readonly #asking = new Map<string, Promise<boolean>>();
  #isOpen = false;

  constructor({ url, backend, logger, now }: BackendLoginOptions) {
    this.#url = url;
    this.#backend = backend;
    this.#logger = logger;
    this.#good = new RecentLogins(now);
  }

  async check(name: string, password: string): Promise<boolean> {
    const login = this.#hash.of(name, password).toString('base64');
    if (this.#good.has(login)) return true;
    let asking = this.#asking.get(login);
    if (!asking) {
      asking = this.#ask(name, password, login).finally(() => this.#asking.delete(login));
      this.#asking.set(login, asking);
    }
    return asking;
  }

  async #ask(name: string, password: string, login: string): Promise<boolean> {
    if (!(await this.#letsIn(name, password))) return false;
    // Each time, and after the login itself: the backend may have been started anew since it last refused somebody.
    await this.#expectRefusal();
    this.#good.add(login);
    return true;
  }

  async #expectRefusal(): Promise<void> {
    const isOpen = await this.#letsIn(randomBytes(16).toString('hex'), randomBytes(16).toString('hex'));
    const wasOpen = this.#isOpen;
    this.#isOpen = isOpen;
    if (!isOpen) return;
    const error =
      `${this.#place} lets everybody in, so that it cannot tell whose login is right: ` +
      'start it with --api-auth, or give `auth` a list or a function';
    if (!wasOpen) this.#logger.error(error);
    throw new JobTrackerError('LOGIN_UNCHECKED', error);
  }

  async #letsIn(name: string, password: string): Promise<boolean> {
    const { title, hint, advise, loginPath } = this.#backend;
    const authorization = `Basic ${Buffer.from(`${name}:${password}`).toString('base64')}`;
    const { status, body } = await callBackend(this.#url, {
      path: loginPath,
      headers: { authorization },
      timeoutMs: TIMEOUT_MS,
    }).catch((cause: unknown) => {
      const error = `${title} cannot be asked whether this login is right: ${messageOf(cause)}. ${hint}`;
      throw new JobTrackerError('LOGIN_UNCHECKED', error, { cause });
    });
    if (status >= 200 && status < 300) return true;
    if (status === 401 || status === 403) return false;
    throw new JobTrackerError(
      'LOGIN_UNCHECKED',
      `${this.#place} cannot tell whether this login is right: it answered ${status}. ` +
        (advise(status, body.toString()) ?? hint),
    );
  }

  get #place(): string {
    return `${this.#backend.title} at ${this.#url.origin}`;
  }
}
