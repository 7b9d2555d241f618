import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, test } from '@jest/globals';
import type { Express } from 'express';
import { createProxyMiddleware } from 'http-proxy-middleware';
import { WebSocket, WebSocketServer } from 'ws';
import type { JobTrackerOptions } from '../lib/index.js';
import { type Answer, call, post } from './helpers/client.js';
import { type Gateway, startGateway } from './helpers/gateway.js';
import { rawClient } from './helpers/raw-http.js';
import { sampleImages } from './helpers/sample-images.js';
import {
  answerWith,
  type ScriptedBackend,
  sendAnswer,
  startScriptedBackend,
} from './helpers/scripted-backend.js';
import { tempFolders } from './helpers/temp-folder.js';

const newFolder = tempFolders();
const answer = answerWith([sampleImages.png as Buffer]);
const basic = (login: string) => `Basic ${Buffer.from(login).toString('base64')}`;
const ann = { Authorization: basic('ann:one') };
const auth = 'ann:one,bob:two';

const cleanups: (() => unknown)[] = [];

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function startBackend(): Promise<ScriptedBackend> {
  const backend = await startScriptedBackend((res) => sendAnswer(res, answer));
  cleanups.push(() => backend.close());
  return backend;
}

async function start(options: JobTrackerOptions & { front?: (app: Express) => void }): Promise<Gateway> {
  const gateway = await startGateway({ dir: await newFolder(), env: {}, ...options });
  cleanups.push(() => gateway.close());
  return gateway;
}

const modes = {
  forward: (url: string): JobTrackerOptions => ({ a1111: url }),
  wrap: (url: string): JobTrackerOptions & { behind: (app: Express) => void } => ({
    behind: (app) => app.use(createProxyMiddleware({ target: url })),
  }),
};

describe.each(Object.keys(modes) as (keyof typeof modes)[])('a generation in %s mode', (mode) => {
  test.each([
    ['no login', {}],
    ['a wrong password', { Authorization: basic('ann:two') }],
    ['a wrong name', { Authorization: basic('eve:one') }],
    ['an empty login', { Authorization: 'Basic Og==' }],
    ['a bearer token', { Authorization: 'Bearer ann:one' }],
  ])('%s: 401, and nothing reaches the backend', async (_name, headers) => {
    const backend = await startBackend();
    const gateway = await start({ ...modes[mode](backend.url), auth });
    const { status, headers: answered } = await post(`${gateway.url}/sdapi/v1/txt2img`, {}, { headers })
      .answer;
    expect([status, answered['www-authenticate'], answered['x-job-id']]).toEqual([
      401,
      'Basic realm="sd-job-tracker", charset="UTF-8"',
      undefined,
    ]);
    expect(backend.bodies).toEqual([]);
    expect((await gateway.tracker.jobs.list()).total).toBe(0);
  });

  test('is its maker’s, and the login stays here', async () => {
    const backend = await startBackend();
    const gateway = await start({ ...modes[mode](backend.url), auth });
    const made = await post(`${gateway.url}/sdapi/v1/txt2img`, { prompt: 'a bay' }, { headers: ann }).answer;
    expect([made.status, made.body.equals(answer)]).toEqual([200, true]);
    const job = await gateway.ended(made.headers['x-job-id'] as string);
    expect([job.status, job.user]).toEqual(['Completed', 'ann']);
    expect(backend.headers[0]?.authorization).toBeUndefined();
    expect(JSON.stringify(job)).not.toMatch(/one|Basic/);
  });

  test.each([
    '/sdapi/v1/%74xt2img',
    '/sdapi/v1/%2574xt2img',
    '//sdapi/v1/txt2img',
    '/sdapi//v1/img2img',
    '/sdapi%2fv1%2Ftxt2img',
    '/sdapi/v1\\txt2img',
    '/x/../sdapi/v1/txt2img',
    '/sdapi/v1/%2e/txt2img',
    '/sdapi/v1/txt2img/../txt2img',
    '/SDAPI/v1/TXT2IMG',
    '/sdapi/v1/txt2img/',
    '/sdapi/v1/%74xt2img?%zz',
  ])('is covered and tracked however its path is written: %s', async (path) => {
    const backend = await startBackend();
    const gateway = await start({ ...modes[mode](backend.url), auth });
    const ask = (headers: string) => {
      const client = rawClient(
        gateway.port,
        `POST ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: 2\r\n${headers}\r\n{}`,
      );
      cleanups.push(() => client.socket.destroy());
      return client.until('\r\n\r\n');
    };
    expect(await ask('')).toMatch(/^HTTP\/1\.1 401 /);
    expect(backend.bodies).toEqual([]);
    expect(await ask(`Authorization: ${ann.Authorization}\r\n`)).toMatch(
      /^HTTP\/1\.1 200 .*\r\nX-Job-ID: /is,
    );
  });

  test('by img2img is covered, too', async () => {
    const backend = await startBackend();
    const gateway = await start({ ...modes[mode](backend.url), auth });
    expect((await post(`${gateway.url}/sdapi/v1/img2img`, {}).answer).status).toBe(401);
  });

  test('is covered also while the tracking is off', async () => {
    const backend = await startBackend();
    const gateway = await start({ ...modes[mode](backend.url), auth, enabled: false });
    const url = `${gateway.url}/sdapi/v1/txt2img`;
    expect((await post(url, {}).answer).status).toBe(401);
    const made = await post(url, {}, { headers: ann }).answer;
    expect([made.status, made.headers['x-job-id']]).toEqual([200, undefined]);
    expect((await gateway.tracker.jobs.list()).total).toBe(0);
  });

  test('a large body of somebody who is not let in is refused all the same', async () => {
    const backend = await startBackend();
    const gateway = await start({ ...modes[mode](backend.url), auth });
    const body = Buffer.alloc(3_000_000, ' ');
    expect((await post(`${gateway.url}/sdapi/v1/img2img`, body).answer).status).toBe(401);
    expect(backend.bodies).toEqual([]);
  });

  test('a page of another site cannot ask for one with the login that its visitor’s browser keeps', async () => {
    const backend = await startBackend();
    const gateway = await start({ ...modes[mode](backend.url), auth });
    const url = `${gateway.url}/sdapi/v1/txt2img`;
    for (const foreign of [
      { Origin: 'https://evil.example' },
      { 'Sec-Fetch-Site': 'cross-site' },
      { Origin: 'null' },
    ]) {
      const headers = { ...ann, ...foreign, 'Content-Type': 'text/plain' };
      const { status, body } = await post(url, '{}', { headers }).answer;
      expect([status, body.toString()]).toEqual([
        403,
        '{"error":"Expected a change to come from this site, got one from another site"}',
      ]);
    }
    expect(backend.bodies).toEqual([]);
    // This kind is asked for in advance, and who answers that has let it in.
    expect((await post(url, {}, { headers: { ...ann, Origin: 'https://app.example' } }).answer).status).toBe(
      200,
    );
    expect((await post(url, '{}', { headers: { ...ann, 'Content-Type': 'text/plain' } }).answer).status).toBe(
      200,
    );
  });

  test('a host’s own login names the maker, and nobody’s generation passes', async () => {
    const backend = await startBackend();
    const user = (req: IncomingMessage) => req.headers['x-user'] as string | undefined;
    const gateway = await start({ ...modes[mode](backend.url), user });
    const make = async (headers: Record<string, string>) => {
      const { headers: answered } = await post(`${gateway.url}/sdapi/v1/txt2img`, {}, { headers }).answer;
      return (await gateway.ended(answered['x-job-id'] as string)).user;
    };
    expect(await make({ 'X-User': 'ann', ...ann })).toBe('ann');
    expect(await make({})).toBeUndefined();
    // It is the host's: the tracker knows nothing of it.
    expect(backend.headers.map(({ authorization }) => authorization)).toEqual([basic('ann:one'), undefined]);
  });

  test('a function of the host that fails stops no generation', async () => {
    const backend = await startBackend();
    const user = () => {
      throw new Error('no session');
    };
    const gateway = await start({ ...modes[mode](backend.url), user });
    const made = await post(`${gateway.url}/sdapi/v1/txt2img`, {}).answer;
    expect(made.status).toBe(200);
    const job = await gateway.ended(made.headers['x-job-id'] as string);
    expect([job.status, job.user]).toEqual(['Completed', undefined]);
    expect((await call(`${gateway.url}/sdapi/v1/jobs`).answer).status).toBe(503);
    expect(gateway.log.join('\n')).toContain('The function in `user` failed');
  });
});

describe('what else is forwarded', () => {
  test('needs a login in forward mode, but for preflights', async () => {
    const backend = await startBackend();
    const gateway = await start({ a1111: backend.url, auth });
    for (const [method, path] of [
      ['GET', '/'],
      ['GET', '/sdapi/v1/options'],
      ['POST', '/sdapi/v1/interrupt'],
      ['OPTIONS', '/sdapi/v1/txt2img'],
      ['GET', '/sdapi/v1/job/Job00001/unknown'],
      ['GET', '/job-tracker/health/x'],
      ['HEAD', '/'],
    ] as const) {
      expect([path, (await call(gateway.url + path, { method }).answer).status]).toEqual([path, 401]);
    }
    expect(backend.bodies).toEqual([]);
    const preflight = { Origin: 'https://app.example', 'Access-Control-Request-Method': 'POST' };
    const url = `${gateway.url}/sdapi/v1/txt2img`;
    expect((await call(url, { method: 'OPTIONS', headers: preflight }).answer).status).toBe(200);
    const withBody = { method: 'OPTIONS', headers: { ...preflight, 'Content-Length': '1' }, body: 'x' };
    expect((await call(url, withBody).answer).status).toBe(401);
    expect((await call(`${gateway.url}/`, { headers: ann }).answer).status).toBe(200);
    expect(backend.headers.map(({ authorization }) => authorization)).toEqual([undefined, undefined]);
  });

  test('is the host’s in wrap mode', async () => {
    const backend = await startBackend();
    const gateway = await start({ ...modes.wrap(backend.url), auth });
    expect((await call(`${gateway.url}/`, { headers: ann }).answer).status).toBe(200);
    expect((await call(`${gateway.url}/sdapi/v1/options`).answer).status).toBe(200);
    expect(backend.headers[0]?.authorization).toBe(basic('ann:one'));
  });

  test('without logins the client’s own goes on', async () => {
    const backend = await startBackend();
    const gateway = await start({ a1111: backend.url.replace('//', '//me:pw@') });
    await post(`${gateway.url}/sdapi/v1/txt2img`, {}, { headers: ann }).answer;
    await call(`${gateway.url}/`).answer;
    expect(backend.headers.map(({ authorization }) => authorization)).toEqual([basic('ann:one'), undefined]);
  });

  test('with logins the gateway logs in by what its URL holds', async () => {
    const backend = await startBackend();
    const gateway = await start({ a1111: backend.url.replace('//', '//me:p%40w@'), auth });
    await post(`${gateway.url}/sdapi/v1/txt2img`, {}, { headers: ann }).answer;
    await call(`${gateway.url}/`, { headers: ann }).answer;
    expect(backend.headers.map(({ authorization }) => authorization)).toEqual([
      basic('me:p@w'),
      basic('me:p@w'),
    ]);
  });
});

describe('guessing', () => {
  const status = async (gateway: Gateway, path: string, headers = {}): Promise<Answer> =>
    call(gateway.url + path, { headers }).answer;

  test('after 20 wrong logins in a minute from one address nobody is judged there', async () => {
    const gateway = await start({ auth });
    for (let n = 1; n <= 20; n += 1) {
      const headers = { Authorization: basic(`ann:guess${n}`) };
      expect((await status(gateway, '/sdapi/v1/jobs', headers)).status).toBe(401);
    }
    const refused = await status(gateway, '/sdapi/v1/jobs', ann);
    expect(refused.status).toBe(429);
    expect(Number(refused.headers['retry-after'])).toBeGreaterThan(0);
    expect((await status(gateway, '/sdapi/v1/jobs')).status).toBe(401);
    expect((await status(gateway, '/job-tracker/health')).status).toBe(200);
  });

  test('addresses count as the host’s proxies tell them, and not as anybody claims', async () => {
    for (const [trusts, expected] of [
      [true, 200],
      [false, 429],
    ] as const) {
      const gateway = await start({ auth, front: (app) => app.set('trust proxy', trusts) });
      for (let n = 1; n <= 20; n += 1) {
        const headers = { Authorization: basic('ann:guess'), 'X-Forwarded-For': '192.0.2.1' };
        await status(gateway, '/sdapi/v1/jobs', headers);
      }
      const headers = { ...ann, 'X-Forwarded-For': '192.0.2.2' };
      expect((await status(gateway, '/sdapi/v1/jobs', headers)).status).toBe(expected);
    }
  });

  test('of one user’s jobs is that user’s own affair', async () => {
    const gateway = await start({ auth });
    for (let n = 100; n < 200; n += 1) {
      await status(gateway, `/sdapi/v1/job/Unkno${n}`, { Authorization: basic('bob:two') });
    }
    const ask = async (headers: object) => (await status(gateway, '/sdapi/v1/job/Unknown1', headers)).status;
    expect(await ask({ Authorization: basic('bob:two') })).toBe(429);
    expect(await ask(ann)).toBe(404);
  });

  test('what pages of other sites make a browser ask for does not count, and polling counts once', async () => {
    const gateway = await start({});
    for (let n = 100; n < 220; n += 1) {
      await status(gateway, `/sdapi/v1/job/Unkno${n}`, { 'Sec-Fetch-Site': 'cross-site' });
      await status(gateway, '/sdapi/v1/job/Unknown1');
    }
    expect((await status(gateway, '/sdapi/v1/job/Unknown2')).status).toBe(404);
  });

  test('after 100 ids that are not there in a minute none is looked up', async () => {
    const backend = await startBackend();
    const gateway = await start({ a1111: backend.url });
    const { headers } = await post(`${gateway.url}/sdapi/v1/txt2img`, {}).answer;
    for (let n = 100; n < 200; n += 1) {
      expect((await status(gateway, `/sdapi/v1/job/Unkno${n}`)).status).toBe(404);
    }
    const refused = await status(gateway, `/sdapi/v1/job/${headers['x-job-id']}`);
    expect([refused.status, refused.body.toString()]).toEqual([
      429,
      '{"error":"Too many requests for jobs that are not there"}',
    ]);
    expect(Number(refused.headers['retry-after'])).toBeGreaterThan(0);
    expect((await status(gateway, '/sdapi/v1/jobs')).status).toBe(200);
  });
});

describe('WebSockets', () => {
  interface SocketBackend {
    readonly url: string;
    readonly seen: IncomingMessage[];
  }

  async function startSocketBackend(): Promise<SocketBackend> {
    const server = createServer();
    const sockets = new WebSocketServer({ server });
    const seen: IncomingMessage[] = [];
    sockets.on('connection', (socket, req) => {
      seen.push(req);
      socket.on('message', (data) => socket.send(String(data)));
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    cleanups.push(async () => {
      for (const socket of sockets.clients) socket.terminate();
      await closed(server);
    });
    return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, seen };
  }

  const closed = (server: Server) => new Promise((resolve) => server.close(resolve));

  /** What comes back of a word that is sent, or the status of the refusal. */
  async function echo(gateway: Gateway, headers: Record<string, string>): Promise<string | number> {
    const socket = new WebSocket(`ws://127.0.0.1:${gateway.port}/queue/join`, { headers });
    cleanups.push(() => socket.terminate());
    return new Promise((resolve, reject) => {
      socket.once('open', () => socket.send('hello'));
      socket.once('message', (data) => resolve(String(data)));
      socket.once('unexpected-response', (_req, res) => resolve(res.statusCode ?? 0));
      socket.once('error', reject);
    });
  }

  const upgrading: Readonly<Record<string, (backend: SocketBackend) => Promise<Gateway>>> = {
    'forward mode, a list': (backend) => start({ a1111: backend.url, auth }),
    'wrap mode, a list': (backend) => startWrapped(backend, { auth }),
    'wrap mode, a function': (backend) =>
      startWrapped(backend, { auth: async (name, password) => `${name}:${password}` === 'ann:one' }),
  };

  async function startWrapped(backend: SocketBackend, options: JobTrackerOptions): Promise<Gateway> {
    const proxy = createProxyMiddleware({ target: backend.url });
    const gateway = await start(options);
    gateway.server.removeAllListeners('upgrade');
    gateway.server.on('upgrade', (req, socket, head) => {
      if (gateway.tracker.upgrade(req, socket, head)) proxy.upgrade(req, socket as never, head);
    });
    return gateway;
  }

  test.each(Object.keys(upgrading))('%s', async (name) => {
    const backend = await startSocketBackend();
    const gateway = await (upgrading[name] as (backend: SocketBackend) => Promise<Gateway>)(backend);
    expect(await echo(gateway, {})).toBe(401);
    expect(await echo(gateway, { Authorization: basic('ann:two') })).toBe(401);
    expect(await echo(gateway, { ...ann, Origin: 'https://evil.example' })).toBe(403);
    expect(await echo(gateway, { ...ann, 'Sec-Fetch-Site': 'cross-site' })).toBe(403);
    expect(backend.seen).toHaveLength(0);
    expect(await echo(gateway, ann)).toBe('hello');
    expect(await echo(gateway, { ...ann, Origin: gateway.url })).toBe('hello');
    expect(backend.seen).toHaveLength(2);
    if (name.startsWith('forward')) expect(backend.seen[0]?.headers.authorization).toBeUndefined();
  });

  test('a host’s own logins are asked for, because no middleware has seen them', async () => {
    const backend = await startSocketBackend();
    const user = (req: IncomingMessage) => req.headers['x-user'] as string | undefined;
    for (const gateway of [
      await start({ a1111: backend.url, user }),
      await startWrapped(backend, { user }),
    ]) {
      expect(await echo(gateway, {})).toBe(403);
      expect(await echo(gateway, { 'X-User': 'ann', Origin: 'https://evil.example' })).toBe(403);
      expect(await echo(gateway, { 'X-User': 'ann' })).toBe('hello');
    }
    expect(backend.seen).toHaveLength(2);
  });

  test('a second listener for upgrades is warned of: it forwards whatever is decided', async () => {
    const backend = await startSocketBackend();
    const gateway = await startWrapped(backend, { auth });
    expect(await echo(gateway, ann)).toBe('hello');
    expect(gateway.log).toEqual([]);
    gateway.server.on('upgrade', () => {});
    await echo(gateway, ann);
    await echo(gateway, ann);
    expect(gateway.log).toEqual([expect.stringContaining('Expected one listener for upgrades, got more')]);
  });

  test('without logins they pass, at once', async () => {
    const backend = await startSocketBackend();
    expect(await echo(await start({ a1111: backend.url }), {})).toBe('hello');
    expect(await echo(await startWrapped(backend, {}), {})).toBe('hello');
  });

  test('wrong logins count by the address that the host’s proxies tell', async () => {
    const backend = await startSocketBackend();
    const gateway = await start({ a1111: backend.url, auth, front: (app) => app.set('trust proxy', true) });
    await call(gateway.url).answer;
    for (let n = 1; n <= 20; n += 1) {
      const headers = { Authorization: basic('ann:guess'), 'X-Forwarded-For': '192.0.2.1' };
      expect(await echo(gateway, headers)).toBe(401);
    }
    expect(await echo(gateway, { ...ann, 'X-Forwarded-For': '192.0.2.1' })).toBe(429);
    expect(await echo(gateway, { ...ann, 'X-Forwarded-For': '192.0.2.2' })).toBe('hello');
  });

  test('a client that leaves while its login is checked harms nobody', async () => {
    const backend = await startSocketBackend();
    const checks: ((verdict: boolean) => void)[] = [];
    let noticed = () => {};
    const checking = new Promise<void>((resolve) => {
      noticed = resolve;
    });
    const gateway = await start({
      a1111: backend.url,
      auth: () =>
        new Promise<boolean>((resolve) => {
          checks.push(resolve);
          noticed();
        }),
    });
    const { socket } = rawClient(
      gateway.port,
      'GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n' +
        `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: ${ann.Authorization}\r\n\r\n`,
    );
    await checking;
    socket.resetAndDestroy();
    checks[0]?.(true);
    const connections = () =>
      new Promise<number>((resolve) => gateway.server.getConnections((_error, count) => resolve(count)));
    while ((await connections()) > 0) await new Promise((resolve) => setImmediate(resolve));
    expect((await call(`${gateway.url}/sdapi/v1/jobs`).answer).status).toBe(401);
    expect(gateway.log).toEqual([]);
  });

  test.each(['forward', 'wrap'])(
    'an offer of HTTP/2 does not lead past the login in %s mode',
    async (mode) => {
      const backend = await startBackend();
      const gateway =
        mode === 'forward'
          ? await start({ a1111: backend.url, auth })
          : await startWrapped({ url: backend.url, seen: [] }, { auth });
      const client = rawClient(
        gateway.port,
        'POST /sdapi/v1/txt2img HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n' +
          'HTTP2-Settings: AAMAAABkAAQAAP__\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}',
      );
      cleanups.push(() => client.socket.destroy());
      await client.until('HTTP/1.1 401');
      expect(backend.bodies).toEqual([]);
    },
  );
});
