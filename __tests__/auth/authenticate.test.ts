import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, jest, test } from '@jest/globals';
import express from 'express';
import { Authenticator, type AuthenticatorOptions } from '../../lib/auth/authenticate.js';
import { CredentialListCheck } from '../../lib/auth/credential-list.js';
import { type Identity, isRefusal, type Refusal, type UserFunction } from '../../lib/auth/identity.js';
import { checkByFunction, type LoginCheck, type LoginFunction } from '../../lib/auth/login-check.js';
import { Throttle } from '../../lib/auth/throttle.js';
import { JobTrackerError } from '../../lib/errors.js';
import { call } from '../helpers/client.js';
import { inspectingLogger } from '../helpers/inspected-log.js';
import { rawClient } from '../helpers/raw-http.js';
import { gate } from '../helpers/scripted-backend.js';

const list = new CredentialListCheck(
  new Map([
    ['ann', 'apple-secret'],
    ['root', 'r00t-secret'],
  ]),
);
const basic = (name: string, password: string) =>
  `Basic ${Buffer.from(`${name}:${password}`).toString('base64')}`;
const right = basic('ann', 'apple-secret');
const wrong = (n = 0) => basic('ann', `wrong-secret-${n}`);

const cleanups: (() => unknown)[] = [];

afterEach(async () => {
  jest.useRealTimers();
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

interface Who {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: Partial<Identity & { error: string }>;
}

interface Door {
  readonly port: number;
  readonly log: string[];
  readonly clock: { ms: number };
  /** Knocks with this header, from this address. */
  knock(authorization?: string, from?: string): Promise<Who>;
}

/** An Express app behind a proxy that it trusts, which says who somebody is. */
async function startDoor(options: Omit<AuthenticatorOptions, 'logger'>): Promise<Door> {
  const log: string[] = [];
  const clock = { ms: 1_000_000 };
  const throttle = new Throttle({ limit: 20, windowMs: 60_000, now: () => clock.ms });
  const authenticator = new Authenticator({ throttle, logger: inspectingLogger(log), ...options });
  const app = express();
  app.set('trust proxy', true);
  app.use(async (req, res) => {
    const who: Identity | Refusal = await authenticator.identify(req);
    if (isRefusal(who)) res.status(who.status).set(who.headers).json({ error: who.error });
    else res.json(who);
  });
  const server = createServer(app);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  cleanups.push(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  const { port } = server.address() as AddressInfo;
  return {
    port,
    log,
    clock,
    async knock(authorization, from = '10.0.0.1') {
      const headers = { 'X-Forwarded-For': from, ...(authorization !== undefined && { authorization }) };
      const answer = await call(`http://127.0.0.1:${port}/`, { headers }).answer;
      return { status: answer.status, headers: answer.headers, body: JSON.parse(answer.body.toString()) };
    },
  };
}

const byFunction = (login: LoginFunction): LoginCheck => checkByFunction(login, inspectingLogger([]));
const statusesOf = (answers: readonly Who[]) => answers.map(({ status }) => status);
const countOf = (answers: readonly Who[], status: number) =>
  statusesOf(answers).filter((one) => one === status).length;
const times = <T>(count: number, make: (n: number) => T): T[] =>
  Array.from({ length: count }, (_, n) => make(n));

async function wrongTimes(door: Door, count: number, from?: string): Promise<Who[]> {
  const answers: Who[] = [];
  for (let n = 0; n < count; n += 1) answers.push(await door.knock(wrong(n), from));
  return answers;
}

describe('who somebody is', () => {
  test('everybody is an admin without a name where nobody has to log in', async () => {
    const door = await startDoor({});
    expect((await door.knock()).body).toEqual({ isAdmin: true });
    expect((await door.knock(wrong())).body).toEqual({ isAdmin: true });
  });

  test('`required` says whether people have to log in', () => {
    const logger = inspectingLogger([]);
    expect(new Authenticator({ logger }).required).toBe(false);
    expect(new Authenticator({ user: () => 'ann', logger }).required).toBe(false);
    expect(new Authenticator({ login: list, logger }).required).toBe(true);
  });

  test.each<[string, UserFunction, Partial<Identity>]>([
    ['a name', () => 'ann', { name: 'ann', isAdmin: false }],
    ['a promise of a name', async () => 'ann', { name: 'ann', isAdmin: false }],
    ['the name of an admin', () => 'root', { name: 'root', isAdmin: true }],
    ['undefined', () => undefined, { isAdmin: false }],
    ['null', () => null, { isAdmin: false }],
    ["''", () => '', { isAdmin: false }],
    [
      'what the request says',
      (req) => req.headers['x-forwarded-for'] as string,
      { name: '10.0.0.1', isAdmin: false },
    ],
  ])('`user` gives %s', async (_name, user, identity) => {
    const door = await startDoor({ user, admins: ['root'] });
    expect((await door.knock()).body).toEqual(identity);
    expect(door.log).toEqual([]);
  });

  test.each<[string, () => unknown, RegExp]>([
    [
      'throws',
      () => {
        throw new Error('no session');
      },
      /no session/,
    ],
    ['rejects', () => Promise.reject(new Error('no session')), /no session/],
    ['gives a number', () => 7, /Expected a name or undefined, got number/],
    ['gives false', () => false, /Expected a name or undefined, got boolean/],
    ['gives an object', () => ({ name: 'root' }), /Expected a name or undefined, got object/],
    ['gives a line break', () => 'ro\not', /Expected a name, got a name with a control character/],
    ['gives a book', () => 'x'.repeat(257), /Expected a name, got a name of more than 256 characters/],
  ])('a `user` that %s lets nobody in', async (_name, user, logged) => {
    const door = await startDoor({ user: user as UserFunction, admins: ['root'] });
    const { status, body } = await door.knock();
    expect(status).toBe(503);
    expect(body).toEqual({ error: 'The function in `user` failed; the log says why' });
    expect(door.log).toHaveLength(1);
    expect(door.log[0]).toMatch(logged);
  });

  test('a login gives the name; admins are those who are named', async () => {
    const door = await startDoor({ login: list, admins: ['root'] });
    expect((await door.knock(right)).body).toEqual({ name: 'ann', isAdmin: false });
    expect((await door.knock(basic('root', 'r00t-secret'))).body).toEqual({ name: 'root', isAdmin: true });
  });

  test('with a login, nobody is an admin unless named', async () => {
    const door = await startDoor({ login: list });
    expect((await door.knock(right)).body).toEqual({ name: 'ann', isAdmin: false });
  });

  test('`user` goes ahead of the name in the login, and is asked only about who is let in', async () => {
    const asked: unknown[] = [];
    const user: UserFunction = (req) => {
      asked.push(req.headers.authorization);
      return req.headers.authorization === right ? 'root' : undefined;
    };
    const door = await startDoor({ login: list, user, admins: ['root'] });
    expect((await door.knock(right)).body).toEqual({ name: 'root', isAdmin: true });
    expect((await door.knock(basic('root', 'r00t-secret'))).body).toEqual({ name: 'root', isAdmin: true });
    expect((await door.knock(wrong())).status).toBe(401);
    expect((await door.knock()).status).toBe(401);
    expect(asked).toEqual([right, basic('root', 'r00t-secret')]);
  });

  test('the same request is judged once, also by many at once', async () => {
    let calls = 0;
    const login = byFunction(() => ++calls > 0);
    const authenticator = new Authenticator({ login, logger: inspectingLogger([]) });
    const app = express();
    app.use(async (req, res) => {
      const all = await Promise.all(times(5, () => authenticator.identify(req)));
      // What the host's code does to the request later changes nothing.
      delete req.headers.authorization;
      res.json([...all, await authenticator.identify(req)]);
    });
    const server = createServer(app).listen(0, '127.0.0.1');
    await once(server, 'listening');
    cleanups.push(() => server.close());
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
    const { body } = await call(url, { headers: { authorization: right } }).answer;
    expect(JSON.parse(body.toString())).toEqual(times(6, () => ({ name: 'ann', isAdmin: false })));
    expect(calls).toBe(1);
    await call(url, { headers: { authorization: right } }).answer;
    expect(calls).toBe(2);
  });

  test('what fails unexpectedly lets nobody in', async () => {
    const log: string[] = [];
    const authenticator = new Authenticator({ login: list, logger: inspectingLogger(log) });
    const req = {
      headers: { authorization: right },
      get ip(): string {
        throw new Error('trust proxy is broken');
      },
    };
    const who = await authenticator.identify(req as never);
    expect(who).toMatchObject({ status: 503 });
    expect(log[0]).toMatch(/trust proxy is broken/);
  });
});

describe('a login that is not right', () => {
  test('is answered with 401, and how to log in', async () => {
    const door = await startDoor({ login: list });
    const { status, headers, body } = await door.knock(wrong());
    expect(status).toBe(401);
    expect(headers['www-authenticate']).toBe('Basic realm="sd-job-tracker", charset="UTF-8"');
    expect(body).toEqual({
      error: 'Expected a name and a password by HTTP Basic, got a name and a password that do not fit',
    });
  });

  test('reads the same whether the name is known or not', async () => {
    const door = await startDoor({ login: list });
    const known = await door.knock(basic('ann', 'x'));
    const unknown = await door.knock(basic('nobody', 'x'));
    expect(unknown.body).toEqual(known.body);
  });

  test('is never repeated, neither in the answer nor in the log', async () => {
    const failing = byFunction((_name, password) => {
      if (password.endsWith('1')) throw new Error('no database');
      return false;
    });
    const door = await startDoor({ login: failing });
    const answers = [
      ...(await wrongTimes(door, 3)),
      await door.knock(`Basic ann:wrong-secret`),
      await door.knock(basic('a\nnn', 'wrong-secret')),
      await door.knock('wrong-secret'),
    ];
    expect(statusesOf(answers)).toEqual([401, 503, 401, 401, 401, 401]);
    expect(JSON.stringify(answers) + door.log.join()).not.toMatch(/wrong-secret|ann\b/);
  });

  test.each([
    ['absent', undefined],
    ['empty', ''],
    ['another scheme', 'Bearer abc'],
    ['of a client without a login', 'Basic Og=='],
    ['without a password', basic('ann', '')],
  ])('a header that is %s is 401 however often it comes, and counts for nothing', async (_name, header) => {
    const door = await startDoor({ login: list });
    for (let n = 0; n < 30; n += 1) expect((await door.knock(header)).status).toBe(401);
    expect((await door.knock(right)).status).toBe(200);
  });

  test('a check that fails is logged, and answered with 503', async () => {
    const door = await startDoor({ login: byFunction(() => Promise.reject(new Error('no database'))) });
    const { status, body } = await door.knock(right);
    expect(status).toBe(503);
    expect(body).toEqual({ error: 'This login could not be checked; the log says why' });
    expect(door.log).toHaveLength(1);
    expect(door.log[0]).toMatch(/no database/);
  });

  test('a check that cannot tell says so itself', async () => {
    const login: LoginCheck = {
      check: () => Promise.reject(new JobTrackerError('LOGIN_UNCHECKED', 'The backend is down')),
    };
    const door = await startDoor({ login });
    const { status, body } = await door.knock(right);
    expect(status).toBe(503);
    expect(body).toEqual({ error: 'The backend is down' });
    expect(door.log).toEqual([]);
  });

  test('a check that gives something that only looks true lets nobody in', async () => {
    const door = await startDoor({ login: { check: () => 'true' as unknown as boolean } });
    expect((await door.knock(right)).status).toBe(401);
  });

  test.each(['login', 'user'] as const)(
    'a %s function that never answers ends after half a minute',
    async (which) => {
      jest.useFakeTimers();
      const forever = new Promise<never>(() => {});
      const log: string[] = [];
      const authenticator = new Authenticator({
        [which]: which === 'login' ? byFunction(() => forever) : () => forever,
        logger: inspectingLogger(log),
      });
      const identity = authenticator.identify({ headers: { authorization: right }, ip: '10.0.0.1' } as never);
      await jest.advanceTimersByTimeAsync(30_000);
      expect(await identity).toMatchObject({ status: 503 });
      expect(log[0]).toMatch(/within 30 seconds/);
      expect(jest.getTimerCount()).toBe(0);
    },
  );
});

test('a judged login leaves no timer behind', async () => {
  jest.useFakeTimers();
  const logger = inspectingLogger([]);
  const authenticator = new Authenticator({ login: list, user: () => undefined, logger });
  const who = await authenticator.identify({ headers: { authorization: right }, ip: '10.0.0.1' } as never);
  expect(who).toEqual({ name: 'ann', isAdmin: false });
  expect(jest.getTimerCount()).toBe(0);
});

describe('too many wrong logins', () => {
  test('20 are judged; then everything is 429 until the minute is over, also what is right', async () => {
    const asked: string[] = [];
    const login: LoginCheck = {
      check(name, password) {
        asked.push(password);
        return list.check(name, password);
      },
    };
    const door = await startDoor({ login });
    expect(statusesOf(await wrongTimes(door, 20))).toEqual(times(20, () => 401));
    door.clock.ms += 20_500;
    const refused = await door.knock(right);
    expect(refused.status).toBe(429);
    expect(refused.headers['retry-after']).toBe('40');
    expect(refused.headers['www-authenticate']).toBeUndefined();
    expect(refused.body.error).toBe(
      'Expected fewer than 20 wrong logins in 60 seconds from one address, got more: try again in 40 seconds',
    );
    expect((await door.knock('Basic x')).status).toBe(429);
    expect((await door.knock()).status).toBe(401);
    expect(asked).toHaveLength(20);
    door.clock.ms += 39_499;
    expect((await door.knock(right)).headers['retry-after']).toBe('1');
    door.clock.ms += 1;
    expect((await door.knock(right)).status).toBe(200);
  });

  test.each([
    ['malformed ones', 'Basic !'],
    ['names with control characters', basic('a\0', 'x')],
    ['names that are too long', basic('a'.repeat(300), 'x')],
    ['tabs in place of spaces', right.replace(' ', '\t')],
  ])('%s count as well', async (_name, header) => {
    const door = await startDoor({ login: list });
    for (let n = 0; n < 20; n += 1) expect((await door.knock(header)).status).toBe(401);
    expect((await door.knock(right)).status).toBe(429);
  });

  test('right ones do not count, and take nothing back', async () => {
    const door = await startDoor({ login: list });
    for (let n = 0; n < 20; n += 1) {
      expect((await door.knock(right)).status).toBe(200);
      expect((await door.knock(wrong())).status).toBe(401);
    }
    expect((await door.knock(right)).status).toBe(429);
  });

  test('count for each address', async () => {
    const door = await startDoor({ login: list });
    await wrongTimes(door, 20, '10.0.0.1');
    expect((await door.knock(right, '10.0.0.2')).status).toBe(200);
    expect((await door.knock(right, '::ffff:10.0.0.1')).status).toBe(429);
  });

  test('hopping within one /64 gains nothing', async () => {
    const door = await startDoor({ login: list });
    const answers: Who[] = [];
    for (let n = 0; n < 25; n += 1) answers.push(await door.knock(wrong(n), `2001:db8:1:2:${n}::${n}`));
    expect([countOf(answers, 401), countOf(answers, 429)]).toEqual([20, 5]);
    expect((await door.knock(right, '2001:db8:1:3::1')).status).toBe(200);
  });

  test('where no proxy is known, the address of the socket counts', async () => {
    const authenticator = new Authenticator({ login: list, logger: inspectingLogger([]) });
    const from = (remoteAddress: string | undefined, authorization: string) =>
      authenticator.identify({ headers: { authorization }, socket: { remoteAddress } } as never);
    for (let n = 0; n < 20; n += 1) await from('10.0.0.1', wrong(n));
    expect(await from('10.0.0.1', right)).toMatchObject({ status: 429 });
    expect(await from('10.0.0.2', right)).toMatchObject({ name: 'ann' });
    for (let n = 0; n < 20; n += 1) await from(undefined, wrong(n));
    expect(await from(undefined, right)).toMatchObject({ status: 429 });
  });

  test('of two Authorization headers the first is judged, and only it', async () => {
    const door = await startDoor({ login: list });
    const knock = async (first: string, second: string) => {
      const head = `GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Forwarded-For: 10.0.0.1\r\n`;
      const client = rawClient(
        door.port,
        `${head}Authorization: ${first}\r\nAuthorization: ${second}\r\n\r\n`,
      );
      await client.ended;
      return Number(client.text.split(' ')[1]);
    };
    expect(await knock(right, wrong())).toBe(200);
    for (let n = 0; n < 20; n += 1) expect(await knock(wrong(n), right)).toBe(401);
    expect(await knock(right, right)).toBe(429);
  });
});

describe('many logins at the same time', () => {
  test('of 100 wrong ones, 20 are judged', async () => {
    const { opened, open } = gate();
    let asked = 0;
    let atOnce = 0;
    const login = byFunction(async () => {
      asked += 1;
      atOnce = Math.max(atOnce, asked);
      await opened;
      return false;
    });
    const door = await startDoor({ login });
    const answers = times(100, (n) => door.knock(wrong(n)));
    while (asked < 20) await new Promise((resolve) => setImmediate(resolve));
    // Those that are right have to wait as well, or else they would tell.
    const last = door.knock(right);
    const elsewhere = door.knock(wrong(), '10.0.0.2');
    while (asked < 21) await new Promise((resolve) => setImmediate(resolve));
    open();
    const all = await Promise.all(answers);
    expect([countOf(all, 401), countOf(all, 429)]).toEqual([20, 80]);
    expect((await last).status).toBe(429);
    expect((await elsewhere).status).toBe(401);
    expect(asked).toBe(21);
    expect((await door.knock(right, '10.0.0.2')).status).toBe(401);
  });

  test('of 100 right ones, none is refused', async () => {
    const door = await startDoor({
      login: byFunction(async () => {
        await new Promise((resolve) => setImmediate(resolve));
        return true;
      }),
    });
    const all = await Promise.all(times(100, () => door.knock(right)));
    expect(countOf(all, 200)).toBe(100);
  });

  test('of 100 that are wrong but for one, no more than 20 wrong ones are judged, in any order', async () => {
    for (const seed of [0, 10, 19, 20, 50, 99]) {
      let judgedWrong = 0;
      const login = byFunction(async (name, password) => {
        await new Promise((resolve) => setTimeout(resolve, password.length % 3));
        if (list.check(name, password)) return true;
        judgedWrong += 1;
        return false;
      });
      const door = await startDoor({ login });
      await Promise.all(times(100, (n) => door.knock(n === seed ? right : wrong(n))));
      expect(judgedWrong).toBe(20);
    }
  });

  test('those who wait come in one after the other when only one may still be wrong', async () => {
    let running = 0;
    let atOnce = 0;
    const login = byFunction(async (_name, password) => {
      running += 1;
      atOnce = Math.max(atOnce, running);
      await new Promise((resolve) => setImmediate(resolve));
      running -= 1;
      return password === 'apple-secret';
    });
    const door = await startDoor({ login });
    await wrongTimes(door, 19);
    atOnce = 0;
    const all = await Promise.all(times(30, () => door.knock(right)));
    expect([countOf(all, 200), atOnce]).toEqual([30, 1]);
  });

  test('a check that cannot tell frees the turn, too', async () => {
    const login = byFunction(async (_name, password) => {
      await new Promise((resolve) => setImmediate(resolve));
      if (password !== 'apple-secret') throw new Error('no database');
      return true;
    });
    const door = await startDoor({ login });
    const all = await Promise.all(times(50, () => door.knock(wrong())));
    expect(countOf(all, 503)).toBe(50);
    expect((await door.knock(right)).status).toBe(200);
  });
});

describe('while a check cannot tell of everybody', () => {
  /** As a backend that is down: it is remembered that ann came in. */
  const login: LoginCheck = {
    async check(name, password) {
      if (list.check(name, password)) return true;
      throw new JobTrackerError('LOGIN_UNCHECKED', 'The backend is down');
    },
  };

  test('it cannot be used for guessing', async () => {
    const door = await startDoor({ login });
    const answers = await wrongTimes(door, 25);
    expect([countOf(answers, 503), countOf(answers, 429)]).toEqual([20, 5]);
    expect((await door.knock(right)).status).toBe(429);
  });

  test('who just asks again and again does not block others behind the same address', async () => {
    const door = await startDoor({ login });
    for (let n = 0; n < 50; n += 1) expect((await door.knock(wrong(n % 3))).status).toBe(503);
    expect((await door.knock(right)).status).toBe(200);
  });
});
