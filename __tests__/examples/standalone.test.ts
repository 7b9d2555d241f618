import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import http, { createServer } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import { WebSocket } from 'ws';
import { createDemoA1111, type DemoA1111, type DemoA1111Options } from '../../examples/demo-backend.js';
import { type Standalone, startStandalone } from '../../examples/standalone.js';
import { type Job, jobTracker } from '../../lib/index.js';
import { call, getJson, post } from '../helpers/client.js';
import { rawClient } from '../helpers/raw-http.js';
import { type StandaloneProcess, startStandaloneProcess } from '../helpers/standalone-process.js';
import { tempFolders } from '../helpers/temp-folder.js';

const newFolder = tempFolders();
const small = { width: 64, height: 64, steps: 2 };
const cleanups: (() => unknown)[] = [];

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function startBackend(options: DemoA1111Options = {}): Promise<DemoA1111 & { url: string }> {
  const backend = createDemoA1111({ generationMs: 0, ...options });
  const url = await backend.listen();
  cleanups.push(() => backend.close());
  return { ...backend, url };
}

async function start(env: Readonly<Record<string, string>> = {}): Promise<Standalone> {
  const gateway = await startStandalone({ PORT: '0', TRACKER_DIR: await newFolder(), ...env });
  cleanups.push(() => gateway.stop());
  return gateway;
}

const portOf = (url: string) => Number(new URL(url).port);
const txt2img = (url: string, prompt: string, headers = {}) =>
  post(`${url}/sdapi/v1/txt2img`, { prompt, ...small }, { headers });
const errorOf = (body: Buffer) => (JSON.parse(body.toString()) as { error: string }).error;

/** A port where nothing listens. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

describe('what is not a generation passes untouched', () => {
  const requests: [string, string, http.OutgoingHttpHeaders?, string?][] = [
    ['GET', '/'],
    ['HEAD', '/'],
    ['GET', '/sdapi/v1/samplers'],
    ['GET', '/sdapi/v1/options', { 'Accept-Encoding': 'gzip' }],
    ['GET', '/sdapi/v1/progress?skip_current_image=true'],
    ['POST', '/sdapi/v1/options', { 'Content-Type': 'application/json' }, '{"return_grid": false}'],
    ['POST', '/sdapi/v1/options', { 'Content-Type': 'application/json' }, '{"sd_model_checkpoint": "none"}'],
    ['POST', '/internal/progress', { 'Content-Type': 'application/json' }, '{"id_task": "x"}'],
    ['GET', '/internal/ping'],
    ['GET', '/sdapi/v1/txt2img'],
    ['OPTIONS', '/sdapi/v1/txt2img', { Origin: 'http://a.example', 'Access-Control-Request-Method': 'POST' }],
    ['GET', '/sdapi/v1/samplers/'],
    ['DELETE', '/nothing/here?a=%2F'],
  ];

  test.each(requests.map(([method, path, headers = {}, body = '']) => ({ method, path, headers, body })))(
    '$method $path',
    async ({ method, path, headers, body }) => {
      const backend = await startBackend();
      const { url } = await start({ A1111_URL: backend.url });
      const options = {
        method,
        headers: { ...headers, Host: 'localhost:1' },
        ...(body && { body }),
      };
      const direct = await call(backend.url + path, options).answer;
      const through = await call(url + path, options).answer;
      const stable = ({ rawHeaders }: { rawHeaders: readonly string[] }) => {
        const pairs = rawHeaders.flatMap((name, i) => (i % 2 ? [] : [`${name}: ${rawHeaders[i + 1]}`]));
        return pairs.filter((pair) => !/^(date|connection|keep-alive|x-process-time):/i.test(pair)).sort();
      };
      expect([through.status, through.body]).toEqual([direct.status, direct.body]);
      expect(stable(through)).toEqual(stable(direct));
      expect(backend.state.requests).toHaveLength(2);
      expect(backend.state.requests[1]).toMatchObject({ method, url: path, body: Buffer.from(body) });
      expect(await getJson(`${url}/sdapi/v1/jobs`)).toEqual([]);
    },
  );

  test('an upload of 20 MB', async () => {
    const backend = await startBackend();
    const { url } = await start({ A1111_URL: backend.url });
    const body = randomBytes(20_000_000);
    expect((await call(`${url}/upload`, { body }).answer).status).toBe(404);
    expect(backend.state.requests[0]?.body.equals(body)).toBe(true);
  });

  test('WebSockets', async () => {
    const backend = await startBackend();
    const { url } = await start({ A1111_URL: backend.url });
    const socket = new WebSocket(`${url.replace('http', 'ws')}/queue/join?a=1`);
    await once(socket, 'open');
    socket.send('hello');
    expect(String((await once(socket, 'message'))[0])).toBe('hello');
    socket.close();
    await once(socket, 'close');
    expect(backend.state.requests[0]?.url).toBe('/queue/join?a=1');
    const refused = new WebSocket(`${url.replace('http', 'ws')}/elsewhere`);
    const [, answer] = (await once(refused, 'unexpected-response')) as [unknown, http.IncomingMessage];
    expect(answer.statusCode).toBe(403);
    refused.on('error', () => {}).terminate();
  });
});

test('a generation of a client that offers HTTP/2 with it is tracked as any other', async () => {
  const backend = await startBackend();
  const { url } = await start({ A1111_URL: backend.url });
  const headers = { Connection: 'Upgrade, HTTP2-Settings', Upgrade: 'h2c', 'HTTP2-Settings': 'AAMAAABkAAQ' };
  const answer = await txt2img(url, 'a lake', headers).answer;
  expect(answer.body.equals(backend.state.generations[0]?.answer as Buffer)).toBe(true);
  expect(await getJson<Job>(`${url}/sdapi/v1/job/${answer.headers['x-job-id']}`)).toMatchObject({
    status: 'Completed',
    prompt: 'a lake',
  });
});

describe('the backend', () => {
  let warn: jest.Spied<typeof console.warn>;

  beforeEach(() => {
    warn = jest.spyOn(console, 'warn').mockImplementation(() => {});
  });

  afterEach(() => {
    jest.restoreAllMocks();
  });

  test('is not there: 502 that says where it was looked for and what to check', async () => {
    const address = `http://127.0.0.1:${await freePort()}`;
    const { url } = await start({ A1111_URL: address });
    const message = `Automatic1111 at ${address} cannot be reached (ECONNREFUSED). Check that it runs, was started with --api, and that this is its address.`;
    const page = await call(url).answer;
    expect([page.status, errorOf(page.body)]).toEqual([502, message]);
    const { status, body, headers } = await txt2img(url, 'p').answer;
    expect([status, errorOf(body)]).toEqual([502, message]);
    const job = await getJson<Job>(`${url}/sdapi/v1/job/${headers['x-job-id']}`);
    expect(job).toMatchObject({ status: 'Failed', error: { code: 'unreachable', status: 502 } });
    expect(job.error?.message).toContain(address);
  });

  test('runs without --api: its 404 passes, and the log says what is missing', async () => {
    const backend = await startBackend({ api: false });
    const { url } = await start({ A1111_URL: backend.url });
    const { status, body, headers } = await txt2img(url, 'p').answer;
    expect([status, body.toString()]).toEqual([404, '{"detail":"Not Found"}']);
    expect(warn.mock.calls.join()).toBe(
      '[sd-job-tracker],Automatic1111 answered 404. It does not know its own API: start it with --api.',
    );
    const job = await getJson<Job>(`${url}/sdapi/v1/job/${headers['x-job-id']}`);
    expect(job).toMatchObject({ status: 'Failed', error: { code: 'backend', status: 404 } });
    expect(job.error?.message).toContain('start it with --api');
  });

  test('has a password in its address, which nobody gets to see', async () => {
    const { backendUrl } = await start({ A1111_URL: 'http://me:secret@127.0.0.1:9/sd/' });
    expect(backendUrl).toBe('http://127.0.0.1:9/sd');
  });
});

test('an address that this machine does not have is named', async () => {
  const dir = await newFolder();
  const env = { HOST: '192.0.2.1', TRACKER_OPEN: '1', TRACKER_DIR: dir };
  const expected = 'Expected HOST to be an address of this machine, got "192.0.2.1" (EADDRNOTAVAIL)';
  await expect(start(env)).rejects.toThrow(new Error(expected));
  // The folder is free again.
  await start({ TRACKER_DIR: dir });
});

describe('pages of other sites', () => {
  const evil = { Origin: 'https://evil.example' };

  async function socketStatus(url: string, headers: Record<string, string>): Promise<number> {
    const socket = new WebSocket(`${url.replace('http', 'ws')}/queue/join`, { headers });
    cleanups.push(() => socket.terminate());
    return new Promise((resolve) => {
      socket.once('open', () => resolve(101));
      socket.once('unexpected-response', (_req, res) => resolve(res.statusCode ?? 0));
      socket.once('error', () => {});
    });
  }

  test('cannot send through their visitor’s browser what it would send without asking', async () => {
    const backend = await startBackend();
    const { url } = await start({ A1111_URL: backend.url });
    const statusOf = async (path: string, headers: Record<string, string>) =>
      (await call(url + path, { method: 'POST', headers, body: '{}' }).answer).status;
    for (const path of ['/sdapi/v1/txt2img', '/sdapi/v1/interrupt']) {
      expect(await statusOf(path, evil)).toBe(403);
      expect(await statusOf(path, { Origin: 'null', 'Content-Type': 'text/plain' })).toBe(403);
    }
    expect(backend.state.generations).toHaveLength(0);
    expect(await statusOf('/sdapi/v1/interrupt', {})).toBe(200);
    expect(await statusOf('/sdapi/v1/interrupt', { Origin: url })).toBe(200);
    // This kind is asked for in advance, and A1111 answers that.
    expect(await statusOf('/sdapi/v1/interrupt', { ...evil, 'Content-Type': 'application/json' })).toBe(200);
    expect(await socketStatus(url, evil)).toBe(403);
    expect(await socketStatus(url, {})).toBe(101);
    expect(await socketStatus(url, { Origin: url })).toBe(101);
  });

  test('may, where TRACKER_CORS names them', async () => {
    const backend = await startBackend();
    for (const named of ['https://evil.example', '*']) {
      const { url } = await start({ A1111_URL: backend.url, TRACKER_CORS: named });
      const { status } = await call(`${url}/sdapi/v1/interrupt`, { method: 'POST', headers: evil }).answer;
      expect(status).toBe(200);
      expect(await socketStatus(url, evil)).toBe(101);
    }
  });
});

test('a gateway on all addresses answers to each of them, but to no name that it does not know', async () => {
  const backend = await startBackend();
  const { url } = await start({ A1111_URL: backend.url, HOST: '0.0.0.0', TRACKER_OPEN: '1' });
  const port = new URL(url).port;
  const ask = async (host: string) =>
    (await call(`http://127.0.0.1:${port}/sdapi/v1/jobs`, { headers: { Host: host } }).answer).status;
  expect(await ask(`192.168.1.5:${port}`)).toBe(200);
  expect(await ask('[fd00::5]')).toBe(200);
  expect(await ask('evil.example')).toBe(403);
});

describe('the Host header', () => {
  const hosts = [
    'localhost',
    'LOCALHOST:1',
    '127.0.0.1',
    '127.0.0.1:8080',
    '[::1]',
    '[::1]:8080',
    '127.0.0.2:80',
  ];
  const more = ['pictures.lan', 'Pictures.LAN:8080', '10.0.0.5', '[fd00::5]:1'];
  const foreign = [
    'evil.example',
    'evil.example:8080',
    'localhost.evil.example',
    '127.0.0.1.evil.example',
    'evil.example:@localhost',
    '10.0.0.6',
  ];

  test('has to be known', async () => {
    const backend = await startBackend();
    const env = { A1111_URL: backend.url, HOST: '127.0.0.2' };
    const { url } = await start(env);
    const open = await start({ ...env, TRACKER_HOSTS: 'pictures.lan, 10.0.0.5, FD00::5' });
    const ask = async (address: string, host: string) => {
      const { status, body } = await call(`${address}/sdapi/v1/jobs`, { headers: { Host: host } }).answer;
      if (status === 403) {
        const expected = `Expected a Host that is known here, got "${host}": add it to TRACKER_HOSTS`;
        expect(errorOf(body)).toBe(expected);
      }
      return status;
    };
    for (const host of hosts) expect([host, await ask(url, host)]).toEqual([host, 200]);
    for (const host of more) expect([host, await ask(url, host)]).toEqual([host, 403]);
    for (const host of [...hosts, ...more]) expect([host, await ask(open.url, host)]).toEqual([host, 200]);
    for (const host of foreign) expect([host, await ask(open.url, host)]).toEqual([host, 403]);
    expect(
      (await call(`${url}/sdapi/v1/txt2img`, { headers: { Host: 'evil.example' }, body: '{}' }).answer)
        .status,
    ).toBe(403);
    expect(backend.state.requests).toEqual([]);
  });

  test('has to be there', async () => {
    const { url } = await start();
    const nameless = rawClient(portOf(url), 'GET / HTTP/1.0\r\n\r\n');
    await nameless.ended;
    expect(nameless.text).toContain('403 Forbidden');
  });

  test('has to be known for WebSockets too', async () => {
    const backend = await startBackend();
    const { url } = await start({ A1111_URL: backend.url, TRACKER_HOSTS: 'pictures.lan' });
    const upgrade = (host: string) =>
      [
        'GET /queue/join HTTP/1.1',
        `Host: ${host}`,
        'Connection: Upgrade',
        'Upgrade: websocket',
        'Sec-WebSocket-Version: 13',
        'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
        '\r\n',
      ].join('\r\n');
    const evil = rawClient(portOf(url), upgrade('evil.example'));
    expect(await evil.ended).toBe('fin');
    const [head, body] = evil.text.split('\r\n\r\n');
    expect(head).toMatch(/^HTTP\/1.1 403 Forbidden\r\nContent-Type: application\/json\r\n/);
    expect(errorOf(Buffer.from(body ?? ''))).toContain('"evil.example": add it to TRACKER_HOSTS');
    expect(backend.state.requests).toEqual([]);
    const known = rawClient(portOf(url), upgrade('pictures.lan:80'));
    await known.until('101 Switching Protocols');
    known.socket.destroy();
  });
});

describe('TRACKER_CORS', () => {
  const origin = 'https://app.example.com';
  const exposed = 'X-Job-ID, Location, Link, Retry-After, X-Total-Count';
  const preflight = (url: string, from: string) =>
    call(`${url}/sdapi/v1/txt2img`, {
      method: 'OPTIONS',
      headers: {
        Origin: from,
        'Access-Control-Request-Method': 'POST',
        'Access-Control-Request-Headers': 'content-type',
      },
    }).answer;

  test('lets the pages of these origins in, also before the backend answers', async () => {
    const backend = await startBackend();
    const { url } = await start({ A1111_URL: backend.url, TRACKER_CORS: `http://other.example, ${origin}` });
    backend.state.hold();
    const request = txt2img(url, 'p', { Origin: origin });
    const { headers } = await request.head;
    expect(backend.state.generations[0]?.answer).toBeUndefined();
    expect(headers['access-control-allow-origin']).toBe(origin);
    expect(headers['access-control-allow-credentials']).toBe('true');
    expect(headers['access-control-expose-headers']).toBe(exposed);
    expect(headers.vary).toBe('Origin');
    backend.state.release();
    await request.answer;
    const allowed = await preflight(url, origin);
    expect(allowed.status).toBe(204);
    expect(allowed.headers['access-control-allow-origin']).toBe(origin);
    expect(allowed.headers['access-control-allow-headers']).toBe('content-type');
    expect(allowed.headers['access-control-allow-methods']).toContain('POST');
    const job = `${url}/sdapi/v1/job/${headers['x-job-id']}`;
    expect(
      (await call(job, { method: 'DELETE', headers: { Origin: 'http://evil.example' } }).answer).status,
    ).toBe(403);
    expect((await call(job, { method: 'DELETE', headers: { Origin: origin } }).answer).status).toBe(204);
    // The backend has not heard of any of the preflights.
    expect(backend.state.requests).toHaveLength(1);
  });

  test('tells the pages of all others nothing', async () => {
    const backend = await startBackend();
    const { url } = await start({ A1111_URL: backend.url, TRACKER_CORS: origin });
    for (const from of ['https://evil.example', `${origin}:444`, 'http://app.example.com', 'null']) {
      const answer = await txt2img(url, 'p', { Origin: from }).answer;
      expect(answer.status).toBe(200);
      expect(answer.headers).not.toHaveProperty('access-control-allow-origin');
      expect((await preflight(url, from)).headers).not.toHaveProperty('access-control-allow-origin');
    }
  });

  test('"*" lets all pages in, without credentials', async () => {
    const backend = await startBackend();
    const { url } = await start({ A1111_URL: backend.url, TRACKER_CORS: '*' });
    backend.state.hold();
    const request = txt2img(url, 'p', { Origin: 'null' });
    const { headers } = await request.head;
    backend.state.release();
    await request.answer;
    expect(headers['access-control-allow-origin']).toBe('*');
    expect(headers).not.toHaveProperty('access-control-allow-credentials');
  });
});

test('TRACKER_TRUST_PROXY decides whether X-Forwarded-For is believed', async () => {
  const backend = await startBackend();
  const ipWith = async (env: Record<string, string>) => {
    const { url } = await start({ A1111_URL: backend.url, ...env });
    await txt2img(url, 'p', { 'X-Forwarded-For': '198.51.100.9, 203.0.113.7' }).answer;
    return (await getJson<Job[]>(`${url}/sdapi/v1/jobs`))[0]?.ip;
  };
  expect(await ipWith({})).toBe('127.0.0.1');
  expect(await ipWith({ TRACKER_TRUST_PROXY: '1' })).toBe('203.0.113.7');
  expect(await ipWith({ TRACKER_TRUST_PROXY: 'loopback, 203.0.113.0/24' })).toBe('198.51.100.9');
  expect(await ipWith({ TRACKER_TRUST_PROXY: '10.0.0.0/8' })).toBe('127.0.0.1');
});

test('TRACKER_CONCURRENCY is how many generations the backend gets at a time', async () => {
  const backend = await startBackend();
  for (const concurrency of [1, 2]) {
    const { url } = await start({ A1111_URL: backend.url, TRACKER_CONCURRENCY: String(concurrency) });
    backend.state.hold();
    const seen = backend.state.generations.length;
    const requests = ['a', 'b', 'c'].map((prompt) => txt2img(url, prompt));
    // Who waits in the gateway has a head at once, who is at the backend after the grace.
    await Promise.all(requests.map(({ head }) => head));
    expect(backend.state.generations.length - seen).toBe(concurrency);
    backend.state.release();
    await Promise.all(requests.map(({ answer }) => answer));
  }
});

describe('stop()', () => {
  test('ends WebSockets and idle connections at once', async () => {
    const backend = await startBackend();
    const gateway = await start({ A1111_URL: backend.url });
    const agent = new http.Agent({ keepAlive: true });
    const [idle] = (await once(http.get(gateway.url, { agent }), 'response')) as [http.IncomingMessage];
    await once(idle.resume(), 'end');
    const silent = connect(portOf(gateway.url), '127.0.0.1');
    await once(silent, 'connect');
    const socket = new WebSocket(`${gateway.url.replace('http', 'ws')}/queue/join`);
    await once(socket, 'open');
    await Promise.all([gateway.stop(), once(socket, 'close'), once(silent.resume(), 'close')]);
    agent.destroy();
    await gateway.stop();
  });

  test('lets a slow client take its answer to the last byte', async () => {
    const size = 30_000_000;
    const backend = createServer((_req, res) =>
      res.writeHead(200, { 'Content-Length': size }).end(Buffer.alloc(size)),
    );
    backend.listen(0, '127.0.0.1');
    await once(backend, 'listening');
    cleanups.push(() => new Promise((resolve) => backend.close(resolve)));
    const gateway = await start({ A1111_URL: `http://127.0.0.1:${(backend.address() as AddressInfo).port}` });
    const request = call(`${gateway.url}/big`, { unread: true });
    const incoming = await request.incoming;
    const stopped = gateway.stop();
    let received = 0;
    incoming.on('data', (chunk: Buffer) => {
      received += chunk.length;
      incoming.pause();
      setImmediate(() => incoming.resume());
    });
    await once(incoming, 'end');
    expect(received).toBe(size);
    await stopped;
  });

  test('waits for a generation whose client has left', async () => {
    const backend = await startBackend();
    const dir = await newFolder();
    const gateway = await start({ A1111_URL: backend.url, TRACKER_DIR: dir });
    backend.state.hold();
    const request = txt2img(gateway.url, 'left');
    const { headers } = await request.head;
    request.request.destroy();
    const stopped = gateway.stop();
    backend.state.release();
    await stopped;
    const tracker = jobTracker({ dir });
    await tracker.ready;
    expect(await tracker.jobs.get(headers['x-job-id'] as string)).toMatchObject({ status: 'Completed' });
    await tracker.close();
  });
});

describe('as a process', () => {
  function startProcess(env: Readonly<Record<string, string>>): StandaloneProcess {
    const gateway = startStandaloneProcess(env);
    cleanups.push(async () => {
      gateway.child.kill('SIGKILL');
      await gateway.ended;
    });
    return gateway;
  }

  test('SIGTERM lets a running generation end; a second signal ends the process at once', async () => {
    const backend = await startBackend();
    const dir = await newFolder();
    const gateways = [
      startProcess({ PORT: '0', A1111_URL: backend.url, TRACKER_DIR: dir }),
      startProcess({ PORT: '0', A1111_URL: backend.url, TRACKER_DIR: await newFolder() }),
    ] as const;
    const [patient, hasty] = gateways;
    backend.state.hold();
    const urls = await Promise.all(gateways.map((gateway) => gateway.listening()));
    expect(patient.said.out).toBe(`sd-job-tracker listens on ${urls[0]}, in front of ${backend.url}\n`);
    const requests = urls.map((url, i) => txt2img(url, i === 0 ? 'patient' : 'hasty'));
    const [head] = await Promise.all(requests.map((request) => request.head));
    patient.child.kill('SIGTERM');
    hasty.child.kill('SIGINT');
    await Promise.all(
      gateways.map((gateway) => gateway.saying('Stopping: running generations may end first.')),
    );
    hasty.child.kill('SIGINT');
    expect(await hasty.ended).toBe(1);
    await expect(requests[1]?.answer).rejects.toThrow();
    await expect(call(urls[0] ?? '').answer).rejects.toThrow('ECONNREFUSED');
    backend.state.release();
    const answer = await requests[0]?.answer;
    const generation = backend.state.generations.find(({ request }) => request.body.includes('patient'));
    expect(answer?.body.equals(generation?.answer as Buffer)).toBe(true);
    expect(await patient.ended).toBe(0);
    expect([patient.said.err, hasty.said.err]).toEqual(['', '']);
    const tracker = jobTracker({ dir });
    await tracker.ready;
    expect(await tracker.jobs.get(head?.headers['x-job-id'] as string)).toMatchObject({
      status: 'Completed',
    });
    await tracker.close();
  });

  test('what keeps it from starting is said in one line, and it exits with 1', async () => {
    const taken = createServer().listen(0, '127.0.0.1');
    await once(taken, 'listening');
    cleanups.push(() => new Promise((resolve) => taken.close(resolve)));
    const { port } = taken.address() as AddressInfo;
    const locked = await newFolder();
    const other = jobTracker({ dir: locked });
    await other.ready;
    cleanups.push(() => other.close());
    const file = join(await newFolder(), 'file');
    await writeFile(file, '');
    const cases: [Record<string, string>, string][] = [
      [{ HOST: '0.0.0.0' }, 'HOST=0.0.0.0 lets everybody on the network generate and see all pictures: '],
      [
        { PORT: String(port) },
        `Port ${port} on 127.0.0.1 is taken: stop what listens there, or choose another with `,
      ],
      [{ TRACKER_DIR: locked }, `${locked} is in use by another process`],
      [
        { TRACKER_DIR: join(file, 'folder') },
        `Expected ${join(file, 'folder')} to be a folder that can be created`,
      ],
    ];
    const dir = await newFolder();
    const gateways = cases.map(([env]) => startProcess({ PORT: '0', TRACKER_DIR: dir, ...env }));
    const outcomes = await Promise.all(gateways.map((gateway) => gateway.ended));
    for (const [i, [, message]] of cases.entries()) {
      const { out, err } = gateways[i]?.said ?? { out: '', err: '' };
      expect({ out, lines: err.trim().split('\n').length, code: outcomes[i] }).toEqual({
        out: '',
        lines: 1,
        code: 1,
      });
      expect(err.slice(0, message.length)).toBe(message);
    }
  });
});
