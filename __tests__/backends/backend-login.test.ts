import { afterEach, describe, expect, jest, test } from '@jest/globals';
import { createDemoA1111, type DemoA1111, type DemoA1111Options } from '../../examples/demo-backend.js';
import { Authenticator } from '../../lib/auth/authenticate.js';
import { automatic1111 } from '../../lib/backends/automatic1111.js';
import { BackendLogin } from '../../lib/backends/backend-login.js';
import { RecentLogins } from '../../lib/backends/recent-logins.js';
import { inspectingLogger } from '../helpers/inspected-log.js';
import { startRawServer } from '../helpers/raw-http.js';
import {
  gate,
  type Script,
  type ScriptedBackend,
  startScriptedBackend,
} from '../helpers/scripted-backend.js';

const cleanups: (() => unknown)[] = [];

afterEach(async () => {
  jest.useRealTimers();
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

interface Asked {
  readonly login: BackendLogin;
  readonly log: string[];
  readonly clock: { ms: number };
}

function loginAt(url: string): Asked {
  const log: string[] = [];
  const clock = { ms: 1_000_000 };
  const login = new BackendLogin({
    url: new URL(url),
    backend: automatic1111,
    logger: inspectingLogger(log),
    now: () => clock.ms,
  });
  return { login, log, clock };
}

async function startDemo(options: DemoA1111Options, port = 0): Promise<DemoA1111 & { url: string }> {
  const demo = createDemoA1111({ generationMs: 0, ...options });
  cleanups.push(() => demo.close());
  return { ...demo, url: await demo.listen(port) };
}

const realTimers = ['nextTick', 'setImmediate', 'queueMicrotask', 'performance'] as const;
const everythingButDate = [
  ...realTimers,
  'setTimeout',
  'clearTimeout',
  'setInterval',
  'clearInterval',
] as const;
const everythingButTimeouts = [...realTimers, 'Date'] as const;

const portOf = (url: string) => Number(new URL(url).port);
const apiAuth = 'ann:apple,bob:pear:with:colons';

/** A backend to which these logins are right, and which keeps what it was asked. */
async function startScripted(
  isRight: (login: string) => boolean,
  script: (answer: () => void, login: string) => void = (answer) => answer(),
): Promise<ScriptedBackend & { asked: string[] }> {
  const asked: string[] = [];
  const serve: Script = (res, _body, req) => {
    const given = String(req.headers.authorization).replace('Basic ', '');
    const login = Buffer.from(given, 'base64').toString();
    asked.push(login);
    script(() => {
      res.statusCode = isRight(login) ? 200 : 401;
      res.end('{}');
    }, login);
  };
  const backend = await startScriptedBackend(serve);
  cleanups.push(() => backend.close());
  return Object.assign(backend, { asked });
}

const isAnn = (login: string) => login === 'ann:apple';

async function uncheckedBy(login: BackendLogin, name = 'ann', password = 'apple'): Promise<string> {
  const failure: unknown = await login.check(name, password).then(
    (verdict) => verdict,
    (error: unknown) => error,
  );
  expect(failure).toMatchObject({ name: 'JobTrackerError', code: 'LOGIN_UNCHECKED' });
  return (failure as Error).message;
}

describe('an Automatic1111 with --api-auth', () => {
  test.each([
    ['ann', 'apple', true],
    ['bob', 'pear:with:colons', true],
    ['ann', 'pear', false],
    ['ann', 'pear:with:colons', false],
    ['nobody', 'apple', false],
    ['zoë', 'äpple', false],
  ])('%s with %s: %s', async (name, password, verdict) => {
    const { url } = await startDemo({ apiAuth });
    const { login, log } = loginAt(url);
    expect(await login.check(name, password)).toBe(verdict);
    expect(log).toEqual([]);
  });

  test("is asked with the client's credentials, and never with those of its URL", async () => {
    const { url } = await startDemo({ apiAuth });
    const { login } = loginAt(url.replace('://', '://ann:apple@'));
    expect(await login.check('ann', 'wrong')).toBe(false);
    expect(await login.check('ann', 'apple')).toBe(true);
  });

  test('is asked at its progress, below the path of its URL', async () => {
    const paths: unknown[] = [];
    const backend = await startScripted(isAnn);
    const { script } = backend;
    backend.script = (res, body, req) => {
      paths.push(`${req.method} ${req.url}`);
      return script(res, body, req);
    };
    await loginAt(`${backend.url}/base/`).login.check('ann', 'wrong');
    expect(paths).toEqual(['GET /base/sdapi/v1/progress?skip_current_image=true']);
  });
});

describe('a good verdict', () => {
  test('is remembered for ten minutes', async () => {
    const backend = await startScripted(isAnn);
    const { login, clock } = loginAt(backend.url);
    expect(await login.check('ann', 'apple')).toBe(true);
    expect(backend.asked.filter(isAnn)).toHaveLength(1);
    clock.ms += 10 * 60_000 - 1;
    expect(await login.check('ann', 'apple')).toBe(true);
    expect(backend.asked.filter(isAnn)).toHaveLength(1);
    clock.ms += 1;
    expect(await login.check('ann', 'apple')).toBe(true);
    expect(backend.asked.filter(isAnn)).toHaveLength(2);
  });

  test('is remembered by the real clock, where no other is given', async () => {
    jest.useFakeTimers({ now: 1_000_000, doNotFake: [...everythingButDate] });
    const backend = await startScripted(isAnn);
    const logger = inspectingLogger([]);
    const login = new BackendLogin({ url: new URL(backend.url), backend: automatic1111, logger });
    await login.check('ann', 'apple');
    await login.check('ann', 'apple');
    expect(backend.asked.filter(isAnn)).toHaveLength(1);
    jest.setSystemTime(1_000_000 + 10 * 60_000);
    await login.check('ann', 'apple');
    expect(backend.asked.filter(isAnn)).toHaveLength(2);
  });

  test('is good for that name and that password only', async () => {
    const backend = await startScripted(isAnn);
    const { login } = loginAt(backend.url);
    await login.check('ann', 'apple');
    for (const [name, password] of [
      ['ann', 'appl'],
      ['bob', 'apple'],
      ['an', 'napple'],
      ['ann', 'apple:'],
    ] as const)
      expect(await login.check(name, password)).toBe(false);
  });

  test('a wrong one is not remembered', async () => {
    let added = false;
    const backend = await startScripted((login) => added && isAnn(login));
    const { login } = loginAt(backend.url);
    expect(await login.check('ann', 'apple')).toBe(false);
    added = true;
    expect(await login.check('ann', 'apple')).toBe(true);
  });

  test('holds while the backend is down, and not for others; it is asked again once it is up', async () => {
    const first = await startDemo({ apiAuth });
    const { login, clock } = loginAt(first.url);
    expect(await login.check('ann', 'apple')).toBe(true);
    await first.close();
    expect(await login.check('ann', 'apple')).toBe(true);
    expect(await uncheckedBy(login, 'bob', 'pear:with:colons')).toBe(
      `Automatic1111 cannot be asked whether this login is right: ${first.url} cannot be reached (ECONNREFUSED). ` +
        'Check that it runs, was started with --api, and that this is its address.',
    );
    await uncheckedBy(login, 'ann', 'wrong');
    clock.ms += 10 * 60_000;
    await uncheckedBy(login, 'ann', 'apple');
    await startDemo({ apiAuth }, portOf(first.url));
    expect(await login.check('ann', 'apple')).toBe(true);
    expect(await login.check('bob', 'pear:with:colons')).toBe(true);
    expect(await login.check('ann', 'wrong')).toBe(false);
  });

  test('is kept as a hash that another process cannot have', async () => {
    const backend = await startScripted(() => true);
    const added = jest.spyOn(RecentLogins.prototype, 'add');
    cleanups.push(() => added.mockRestore());
    backend.script = (res, _body, req) => {
      const given = String(req.headers.authorization);
      res.statusCode = given === `Basic ${Buffer.from('ann:apple').toString('base64')}` ? 200 : 401;
      res.end();
    };
    await loginAt(backend.url).login.check('ann', 'apple');
    await loginAt(backend.url).login.check('ann', 'apple');
    const [[one], [other]] = added.mock.calls as [[string], [string]];
    expect(one).toMatch(/^[A-Za-z0-9+/]{43}=$/);
    expect(one).not.toBe(other);
  });

  test('the 1,000 latest are remembered', () => {
    const clock = { ms: 0 };
    const recent = new RecentLogins(() => clock.ms);
    for (let n = 0; n < 1_000; n += 1) recent.add(`login ${n}`);
    recent.add('login 1');
    expect(recent.has('login 0')).toBe(true);
    recent.add('login 1000');
    recent.add('login 1001');
    const known = [0, 1, 2, 3, 1_001].map((n) => recent.has(`login ${n}`));
    expect(known).toEqual([false, true, false, true, true]);
    clock.ms -= 1;
    // A clock that was set back makes nothing last longer.
    expect(recent.has('login 1001')).toBe(false);
  });
});

describe('many questions', () => {
  test('about the same login at once are one', async () => {
    const { opened, open } = gate();
    const backend = await startScripted(isAnn, (answer) => void opened.then(answer));
    const { login } = loginAt(backend.url);
    const right = Array.from({ length: 20 }, () => login.check('ann', 'apple'));
    const wrong = Array.from({ length: 20 }, () => login.check('ann', 'wrong'));
    await backend.received(2);
    open();
    expect(new Set(await Promise.all(right))).toEqual(new Set([true]));
    expect(new Set(await Promise.all(wrong))).toEqual(new Set([false]));
    expect(backend.asked.filter((one) => one.startsWith('ann:'))).toHaveLength(2);
  });

  test('a failure is shared by those who wait, and by nobody after', async () => {
    let status = 500;
    const backend = await startScripted(isAnn);
    const { script } = backend;
    backend.script = (res, body, req) => {
      if (status === 200) return script(res, body, req);
      res.statusCode = status;
      res.end();
    };
    const { login } = loginAt(backend.url);
    await Promise.all([uncheckedBy(login), uncheckedBy(login)]);
    expect(backend.bodies).toHaveLength(1);
    status = 200;
    expect(await login.check('ann', 'apple')).toBe(true);
  });

  test('of 2,000 wrong logins nothing is kept', async () => {
    const backend = await startScripted(isAnn);
    const set = jest.spyOn(Map.prototype, 'set');
    cleanups.push(() => set.mockRestore());
    const { login } = loginAt(backend.url);
    for (let n = 0; n < 2_000; n += 50) {
      const verdicts = Array.from({ length: 50 }, (_, i) => login.check(`name ${n + i}`, 'wrong'));
      expect((await Promise.all(verdicts)).includes(true)).toBe(false);
    }
    // Whatever map had one of them in it has none now.
    const hashes = set.mock.calls.flatMap(([key], at) =>
      /^[A-Za-z0-9+/]{43}=$/.test(String(key))
        ? [{ key, map: set.mock.contexts[at] as Map<unknown, unknown> }]
        : [],
    );
    set.mockRestore();
    expect(hashes).toHaveLength(2_000);
    expect(hashes.filter(({ key, map }) => map.has(key))).toEqual([]);
    expect(backend.asked).toHaveLength(2_000);
  });
});

describe('a backend that lets everybody in', () => {
  test('vouches for nobody, and is said so once', async () => {
    const { url } = await startDemo({});
    const { login, log } = loginAt(url);
    const error =
      `Automatic1111 at ${url} lets everybody in, so that it cannot tell whose login is right: ` +
      'start it with --api-auth, or give `auth` a list or a function';
    expect(await uncheckedBy(login, 'ann', 'secret')).toBe(error);
    expect(await uncheckedBy(login, 'bob', 'secret')).toBe(error);
    expect(log).toEqual([error]);
  });

  test('is said so again when it has refused in between', async () => {
    let isOpen = true;
    const backend = await startScripted((login) => isOpen || isAnn(login));
    const { login, log } = loginAt(backend.url);
    await uncheckedBy(login);
    isOpen = false;
    expect(await login.check('ann', 'apple')).toBe(true);
    expect(log).toHaveLength(1);
    isOpen = true;
    await uncheckedBy(login, 'bob', 'pear');
    expect(log).toHaveLength(2);
  });

  test('is asked with another random login each time', async () => {
    const backend = await startScripted(() => true);
    const { login } = loginAt(backend.url);
    for (let n = 0; n < 5; n += 1) await uncheckedBy(login);
    const random = backend.asked.filter((one) => !isAnn(one));
    expect(new Set(random).size).toBe(5);
    for (const one of random) expect(one).toMatch(/^[0-9a-f]{32}:[0-9a-f]{32}$/);
  });

  test('started anew without --api-auth lets no stranger in, not for a minute', async () => {
    const first = await startDemo({ apiAuth });
    const { login, log, clock } = loginAt(first.url);
    expect(await login.check('ann', 'apple')).toBe(true);
    await first.close();
    await startDemo({}, portOf(first.url));
    expect(await uncheckedBy(login, 'root', 'guessed')).toMatch(/lets everybody in/);
    expect(await login.check('ann', 'apple')).toBe(true);
    clock.ms += 10 * 60_000;
    expect(await uncheckedBy(login, 'ann', 'apple')).toMatch(/lets everybody in/);
    expect(log).toHaveLength(1);
  });

  test('and one that cannot be asked the second time remembers nothing', async () => {
    const backend = await startScripted(isAnn);
    const { script } = backend;
    backend.script = async (res, body, req) => {
      if (backend.bodies.length === 1) await script(res, body, req);
      else res.destroy();
    };
    const { login } = loginAt(backend.url);
    expect(await uncheckedBy(login)).toMatch(/cannot be asked whether this login is right/);
    expect(await uncheckedBy(login)).toMatch(/cannot be asked whether this login is right/);
  });
});

describe('a backend that does not say yes or no', () => {
  test.each([
    [204, true],
    [401, false],
    [403, false],
  ])('%d is an answer', async (status, verdict) => {
    const backend = await startScripted(isAnn);
    backend.script = (res, _body, req) => {
      const isRandom = !String(req.headers.authorization).endsWith(
        Buffer.from('ann:apple').toString('base64'),
      );
      res.statusCode = isRandom ? 403 : status;
      res.end();
    };
    expect(await loginAt(backend.url).login.check('ann', 'apple')).toBe(verdict);
  });

  test.each([302, 404, 405, 429, 500, 502, 503])('%d is none', async (status) => {
    const backend = await startScripted(() => true);
    backend.script = (res) => {
      res.statusCode = status;
      res.end('a word of its own');
    };
    const { login, log } = loginAt(backend.url);
    expect(await uncheckedBy(login)).toBe(
      `Automatic1111 at ${backend.url} cannot tell whether this login is right: it answered ${status}. ` +
        'Check that it runs, was started with --api, and that this is its address.',
    );
    expect(log).toEqual([]);
  });

  test('one that was started without --api is told so', async () => {
    const { url } = await startDemo({ api: false });
    expect(await uncheckedBy(loginAt(url).login)).toBe(
      `Automatic1111 at ${url} cannot tell whether this login is right: it answered 404. ` +
        'It does not know its own API: start it with --api.',
    );
  });

  test('silence ends after five seconds', async () => {
    jest.useFakeTimers({ doNotFake: [...everythingButTimeouts] });
    const server = await startRawServer((socket) => void socket.resume());
    cleanups.push(() => server.close());
    const message = uncheckedBy(loginAt(server.url).login);
    jest.advanceTimersByTime(4_999);
    expect(jest.getTimerCount()).toBe(1);
    jest.advanceTimersByTime(1);
    expect(await message).toMatch(`${server.url} did not answer within 5 seconds. Check that it runs`);
  });

  test('no message holds a secret', async () => {
    const server = await startRawServer((socket) => socket.destroy());
    cleanups.push(() => server.close());
    const { login, log } = loginAt(server.url.replace('://', '://url-name:url-secret@'));
    const failure: unknown = await login.check('ann', 'apple-secret').catch((error: unknown) => error);
    inspectingLogger(log).error(failure);
    expect(log.join()).toMatch(/cannot be asked/);
    expect(log.join()).not.toMatch(/\bann\b|secret|url-name|Basic|YW5u/);
  });
});

test('behind the throttle, 20 wrong logins of 100 at once reach the backend', async () => {
  const backend = await startScripted(isAnn);
  const { login, log } = loginAt(backend.url);
  const authenticator = new Authenticator({ login, logger: inspectingLogger(log) });
  const statuses = await Promise.all(
    Array.from({ length: 100 }, async (_, n) => {
      const authorization = `Basic ${Buffer.from(`ann:wrong ${n}`).toString('base64')}`;
      const who = await authenticator.identify({ headers: { authorization }, ip: '10.0.0.1' } as never);
      return 'status' in who ? who.status : 200;
    }),
  );
  expect(statuses.filter((status) => status === 401)).toHaveLength(20);
  expect(statuses.filter((status) => status === 429)).toHaveLength(80);
  expect(backend.asked).toHaveLength(20);
});
