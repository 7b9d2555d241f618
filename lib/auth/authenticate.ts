import type { IncomingMessage } from 'node:http';
import { JobTrackerError } from '../errors.js';
import type { Logger } from '../logger.js';
import { readBasicLogin } from './basic-login.js';
import type { Identity, Refusal, UserFunction } from './identity.js';
import type { LoginCheck } from './login-check.js';
import { LoginHash } from './login-hash.js';
import { nameFault } from './login-text.js';
import { LoginTurns } from './login-turns.js';
import { notLoggedIn, tooManyWrongLogins, undecided } from './refusals.js';
import { Throttle } from './throttle.js';
import { withinTime } from './time-limit.js';

const WRONG_LOGINS = { limit: 20, windowMs: 60_000 };
/** So long a function of the host may take: others of the same address may be waiting for it. */
const MAX_ANSWER_MS = 30_000;

/** A request, with the address of its client as Express knows it behind the proxies that the host trusts. */
export type IdentifiableRequest = IncomingMessage & { readonly ip?: string | undefined };

export interface AuthenticatorOptions {
  /** Knows the right logins. Absent: nobody has to log in. */
  readonly login?: LoginCheck | undefined;
  /** Says who makes a request, ahead of the name in the login. */
  readonly user?: UserFunction | undefined;
  /** The names of the admins. Without `login` and `user` everybody is one. */
  readonly admins?: readonly string[] | undefined;
  readonly logger: Logger;
  /** Counts wrong logins. Default: 20 in a minute. */
  readonly throttle?: Throttle | undefined;
}

/** Says who makes a request, and keeps out who has no right to make it. */
export class Authenticator {
  /** Whether people have to log in. */
  readonly required: boolean;
  /** Whether people are told apart at all. */
  readonly knowsNames: boolean;
  readonly #login: LoginCheck | undefined;
  readonly #user: UserFunction | undefined;
  readonly #admins: readonly string[];
  readonly #logger: Logger;
  readonly #throttle: Throttle;
  readonly #turns: LoginTurns;
  readonly #hash = new LoginHash();
  readonly #known = new WeakMap<IncomingMessage, Promise<Identity | Refusal>>();

  constructor({ login, user, admins = [], logger, throttle }: AuthenticatorOptions) {
    this.required = login !== undefined;
    this.knowsNames = login !== undefined || user !== undefined;
    this.#login = login;
    this.#user = user;
    this.#admins = [...admins];
    this.#logger = logger;
    this.#throttle = throttle ?? new Throttle(WRONG_LOGINS);
    this.#turns = new LoginTurns(this.#throttle);
  }

  /** Never rejects. Asks once per request, however often it is called for it. */
  identify(req: IdentifiableRequest): Promise<Identity | Refusal> {
    let known = this.#known.get(req);
    if (!known) {
      known = this.#identify(req).catch((error: unknown) => {
        this.#logger.error('It could not be told who makes a request', error);
        return undecided('It cannot be told who makes this request; the log says why');
      });
      this.#known.set(req, known);
    }
    return known;
  }

  async #identify(req: IdentifiableRequest): Promise<Identity | Refusal> {
    const loggedIn = this.#login && (await this.#logIn(req, this.#login));
    if (loggedIn && typeof loggedIn !== 'string') return loggedIn;
    const user = this.#user && (await this.#ask(req, this.#user));
    if (user && typeof user !== 'string') return user;
    const name = user || loggedIn;
    const isEverybodyAdmin = !this.#login && !this.#user;
    return { name, isAdmin: isEverybodyAdmin || (name !== undefined && this.#admins.includes(name)) };
  }

  /** The name that somebody has logged in with. */
  async #logIn(req: IdentifiableRequest, login: LoginCheck): Promise<string | Refusal> {
    const given = readBasicLogin(req.headers);
    if (given.kind === 'absent') return notLoggedIn(given.got);
    // Once the client has gone, its socket no longer knows.
    const address = req.ip ?? req.socket.remoteAddress;
    const blockedMs = await this.#turns.begin(address);
    if (blockedMs > 0) return tooManyWrongLogins(this.#throttle, blockedMs);
    try {
      if (given.kind === 'login') return await this.#judge(given.name, given.password, address, login);
      this.#throttle.count(address);
      return notLoggedIn(given.got);
    } finally {
      this.#turns.end(address);
    }
  }

  async #judge(
    name: string,
    password: string,
    address: string | undefined,
    login: LoginCheck,
  ): Promise<string | Refusal> {
    try {
      const verdict = await withinTime(
        login.check(name, password),
        MAX_ANSWER_MS,
        `Expected the check of a login to end within ${MAX_ANSWER_MS / 1000} seconds`,
      );
      if (verdict === true) return name;
      this.#throttle.count(address);
      return notLoggedIn('a name and a password that do not fit');
    } catch (error) {
      // A check that cannot tell of every login may still let some in, so that this could be used for guessing. But who
      // just asks again while it lasts must not block everybody behind the same address.
      this.#throttle.count(address, this.#hash.of(name, password).toString('base64'));
      if (error instanceof JobTrackerError && error.code === 'LOGIN_UNCHECKED')
        return undecided(error.message);
      this.#logger.error('A login could not be checked', error);
      return undecided('This login could not be checked; the log says why');
    }
  }

  /** Who makes a request, as the host's own function says. */
  async #ask(req: IdentifiableRequest, user: UserFunction): Promise<string | undefined | Refusal> {
    try {
      const answer: unknown = await withinTime(
        user(req),
        MAX_ANSWER_MS,
        `Expected it to answer within ${MAX_ANSWER_MS / 1000} seconds`,
      );
      if (answer === undefined || answer === null || answer === '') return undefined;
      if (typeof answer !== 'string') throw new Error(`Expected a name or undefined, got ${typeof answer}`);
      const fault = nameFault(answer);
      if (fault !== undefined) throw new Error(`Expected a name, got ${fault}`);
      return answer;
    } catch (error) {
      this.#logger.error('The function in `user` failed', error);
      return undecided('The function in `user` failed; the log says why');
    }
  }
}
