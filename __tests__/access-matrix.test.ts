import type { IncomingMessage } from 'node:http';
import { afterEach, describe, expect, test } from '@jest/globals';
import { createDemoA1111, type DemoA1111 } from '../examples/demo-backend.js';
import type { Job, JobTracker, JobTrackerOptions } from '../lib/index.js';
import { type Answer, call } from './helpers/client.js';
import { type KeptJobs, startWithKeptJobs } from './helpers/kept-jobs.js';
import { sampleImages } from './helpers/sample-images.js';
import { tempFolders } from './helpers/temp-folder.js';

const newFolder = tempFolders();
const png = sampleImages.png as Buffer;

let kept: KeptJobs | undefined;
let backend: DemoA1111 | undefined;

afterEach(async () => {
  await kept?.gateway.close();
  await backend?.close();
  kept = undefined;
  backend = undefined;
});

interface Route {
  readonly method: string;
  readonly path: string;
}

interface Layer {
  readonly route?: { readonly path: string; readonly methods: Readonly<Record<string, boolean>> };
  readonly handle?: { readonly stack?: readonly Layer[] };
}

/** Every route that the tracker has, as Express itself knows them. */
function routesOf(router: { readonly stack: readonly unknown[] }): Route[] {
  return (router.stack as readonly Layer[]).flatMap(({ route, handle }) => {
    if (route) {
      const methods = Object.keys(route.methods).filter((method) => route.methods[method]);
      return methods.map((method) => ({ method: method.toUpperCase(), path: route.path }));
    }
    return handle?.stack ? routesOf({ stack: handle.stack }) : [];
  });
}

const PEOPLE = ['nobody', 'a stranger', 'ann', 'bob', 'the admin'] as const;
type Person = (typeof PEOPLE)[number];

/** What each of the people gets, in the order of `PEOPLE`. The job is Ann's. */
type Statuses = readonly [nobody: number, stranger: number, ann: number, bob: number, admin: number];

/** A route that is not here makes the test fail: whoever adds one has to say who may use it. */
const EXPECTED: Readonly<Record<string, Statuses>> = {
  'GET /job-tracker/health': [200, 401, 200, 200, 200],
  'GET /sdapi/v1/job/:id': [401, 401, 200, 404, 200],
  'GET /sdapi/v1/job/:id/images/:n': [401, 401, 200, 404, 200],
  'DELETE /sdapi/v1/job/:id': [401, 401, 204, 404, 204],
  // The job has ended.
  'POST /sdapi/v1/job/:id/cancel': [401, 401, 409, 404, 409],
  // It has not failed.
  'POST /sdapi/v1/job/:id/retry': [401, 401, 409, 404, 409],
  'GET /sdapi/v1/job/:id/images/:n/thumbnail': [401, 401, 200, 404, 200],
  'GET /sdapi/v1/job/:id/zip': [401, 401, 200, 404, 200],
  'GET /sdapi/v1/job/:id/events': [401, 401, 200, 404, 200],
  'GET /sdapi/v1/jobs/events': [401, 401, 200, 200, 200],
  'GET /sdapi/v1/jobs': [401, 401, 200, 200, 200],
  'GET /job-tracker': [401, 401, 200, 200, 200],
  'GET /job-tracker/:file': [401, 401, 200, 200, 200],
  'GET /job-tracker/settings': [401, 401, 200, 200, 200],
  'PATCH /job-tracker/settings': [401, 401, 403, 403, 200],
  'POST /job-tracker/purge': [401, 401, 403, 403, 200],
};

const BODIES: Readonly<Record<string, string>> = {
  'PATCH /job-tracker/settings': '{"retention_days":30}',
  'POST /job-tracker/purge': '{"older_than":"1s","dry_run":true}',
};

const LOGINS: Readonly<Record<Person, string | undefined>> = {
  nobody: undefined,
  'a stranger': 'ann:guess',
  ann: 'ann:uno',
  bob: 'bob:two',
  'the admin': 'root:three',
};

const basic = (login: string) => `Basic ${Buffer.from(login).toString('base64')}`;
const headersOf = (person: Person): Record<string, string> =>
  LOGINS[person] === undefined ? {} : { Authorization: basic(LOGINS[person] as string) };
/** For a host that knows its users by itself: the host has turned strangers away. */
const hostHeadersOf = (person: Person): Record<string, string> =>
  LOGINS[person] === undefined ? {} : { 'X-User': (LOGINS[person] as string).split(':')[0] as string };

const list = 'ann:uno,bob:two,root:three';

interface Setup {
  readonly options: () => Promise<JobTrackerOptions>;
  readonly headersOf: (person: Person) => Record<string, string>;
}

const setups: Readonly<Record<string, Setup>> = {
  'a list': { options: async () => ({ auth: list }), headersOf },
  'the environment': {
    options: async () => ({ env: { TRACKER_AUTH: list, TRACKER_ADMINS: 'root' } }),
    headersOf,
  },
  'a function': {
    options: async () => ({
      auth: async (name, password) => {
        await new Promise((resolve) => setImmediate(resolve));
        return list.split(',').includes(`${name}:${password}`);
      },
    }),
    headersOf,
  },
  'the backend': {
    options: async () => {
      backend = createDemoA1111({ apiAuth: list });
      return { a1111: await backend.listen(0, '127.0.0.1'), auth: 'backend' };
    },
    headersOf,
  },
  'a host’s own logins': {
    options: async () => ({ user: (req: IncomingMessage) => req.headers['x-user'] as string | undefined }),
    headersOf: hostHeadersOf,
  },
};

async function start(setup: Setup): Promise<Job> {
  const options = { ...(await setup.options()) };
  if (!options.env) Object.assign(options, { admins: ['root'] });
  kept = await startWithKeptJobs(await newFolder(), options);
  const path = await kept.keepFile('2026-11-22/Job00001-0', 'png', png);
  await kept.keepJob(2, { user: 'bob' });
  await kept.keepJob(3);
  return kept.keepJob(1, { user: 'ann', output_paths: [path], finished_at: 1_790_000_010 });
}

async function ask({ method, path }: Route, id: string, headers: Record<string, string>): Promise<Answer> {
  const url =
    (kept as KeptJobs).gateway.url + path.replace(':id', id).replace(':n', '0').replace(':file', 'main.js');
  const body = BODIES[`${method} ${path}`];
  const made = call(url, { method, headers, ...(body !== undefined && { body }) });
  const head = await made.head;
  if (head.status !== 200 || !path.endsWith('/jobs/events')) return made.answer;
  // A stream has no end.
  made.request.destroy();
  return { ...head, body: Buffer.alloc(0) };
}

const routes = async (): Promise<Route[]> => {
  await start(setups['a list'] as Setup);
  const found = routesOf((kept as KeptJobs).gateway.tracker as JobTracker & { stack: unknown[] });
  await kept?.gateway.close();
  kept = undefined;
  return found;
};

test('every route has its row, and every row its route', async () => {
  const found = (await routes()).map(({ method, path }) => `${method} ${path}`);
  expect(found.sort()).toEqual(Object.keys(EXPECTED).sort());
});

describe.each(Object.keys(setups))('logins by %s', (name) => {
  const setup = setups[name] as Setup;
  const isHosts = setup.headersOf === hostHeadersOf;

  test.each(Object.keys(EXPECTED))('%s', async (key) => {
    const [method, path] = key.split(' ') as [string, string];
    for (const [index, person] of PEOPLE.entries()) {
      // A host's stranger has not come as far as this.
      if (isHosts && person === 'a stranger') continue;
      const job = await start(setup);
      const answer = await ask({ method, path }, job.id, setup.headersOf(person));
      const expected = (EXPECTED[key] as Statuses)[index] as number;
      // There is no login that one could be asked for.
      const status = isHosts && expected === 401 ? 403 : expected;
      expect([person, answer.status]).toEqual([person, status]);
      if (answer.status === 401) {
        expect(answer.headers['www-authenticate']).toBe('Basic realm="sd-job-tracker", charset="UTF-8"');
      }
      if (answer.status >= 400) {
        expect(answer.body.toString()).not.toMatch(/Job0000|guess|uno|lighthouse/);
        expect(JSON.parse(answer.body.toString())).toEqual({ error: expect.any(String) });
      }
      await kept?.gateway.close();
      await backend?.close();
      backend = undefined;
    }
    kept = undefined;
  });

  test('what is not yours is answered like what is not there, header by header', async () => {
    await start(setup);
    for (const key of Object.keys(EXPECTED).filter((one) => one.includes(':id'))) {
      const [method, path] = key.split(' ') as [string, string];
      const [mine, absent] = await Promise.all(
        ['Job00001', 'Unknown1'].map((id) => ask({ method, path }, id, setup.headersOf('bob'))),
      );
      const { date: _date, ...headers } = mine?.headers ?? {};
      const { date: _other, ...expected } = absent?.headers ?? {};
      expect([mine?.status, headers, mine?.body.toString()]).toEqual([
        404,
        expected,
        '{"error":"Job not found"}',
      ]);
    }
  });

  test('the list shows and counts what is the caller’s own', async () => {
    await start(setup);
    const shown = async (person: Person, query = '') => {
      const answer = await ask(
        { method: 'GET', path: `/sdapi/v1/jobs${query}` },
        '',
        setup.headersOf(person),
      );
      const jobs = JSON.parse(answer.body.toString()) as Job[];
      return [jobs.map(({ id }) => id), answer.headers['x-total-count'], answer.headers.link];
    };
    expect(await shown('ann')).toEqual([['Job00001'], '1', undefined]);
    expect(await shown('bob')).toEqual([['Job00002'], '1', undefined]);
    expect(await shown('the admin')).toEqual([['Job00001', 'Job00003', 'Job00002'], '3', undefined]);
    expect(await shown('bob', '?before=Job00001')).toEqual([[], '1', undefined]);
    expect(await shown('bob', '?before=Unknown1')).toEqual([[], '1', undefined]);
    expect(await shown('the admin', '?before=Job00003')).toEqual([['Job00002'], '3', undefined]);
    expect(await shown('bob', '?ip=192.0.2.1&limit=1')).toEqual([['Job00002'], '1', undefined]);
  });

  test('health says no more than ok to who has not logged in', async () => {
    await start(setup);
    const health = async (person: Person) => {
      const answer = await ask({ method: 'GET', path: '/job-tracker/health' }, '', setup.headersOf(person));
      return JSON.parse(answer.body.toString());
    };
    expect(await health('nobody')).toEqual({ ok: true });
    expect(await health('bob')).toMatchObject({ ok: true, store: { ok: true }, queue: { running: 0 } });
  });
});

test('without logins everybody may do everything', async () => {
  for (const key of Object.keys(EXPECTED)) {
    const [method, path] = key.split(' ') as [string, string];
    const job = await start({ options: async () => ({ env: {} }), headersOf });
    const answer = await ask({ method, path }, job.id, {});
    expect([key, answer.status]).toEqual([key, (EXPECTED[key] as Statuses)[4]]);
    await kept?.gateway.close();
    kept = undefined;
  }
});

test('the one user of a list of one is an admin', async () => {
  await start({ options: async () => ({ env: { TRACKER_AUTH: 'ann:uno' } }), headersOf });
  const answer = await ask({ method: 'PATCH', path: '/job-tracker/settings' }, '', headersOf('ann'));
  expect(answer.status).toBe(200);
});

test.each(['null', 'https://evil.example'])(
  'a change from %s is refused, although the login is right',
  async (origin) => {
    for (const key of Object.keys(EXPECTED)) {
      const [method, path] = key.split(' ') as [string, string];
      const job = await start(setups['a list'] as Setup);
      const answer = await ask({ method, path }, job.id, { ...headersOf('the admin'), Origin: origin });
      expect([key, answer.status]).toEqual([key, method === 'GET' ? 200 : 403]);
      await kept?.gateway.close();
      kept = undefined;
    }
  },
);
