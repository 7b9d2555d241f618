import { once } from 'node:events';
import { afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { WebSocket } from 'ws';
import { createDemoA1111, type DemoA1111 } from '../examples/demo-backend.js';
import type { HealthReport } from '../lib/health.js';
import type { Job } from '../lib/index.js';
import { type Answer, call, getJson, post } from './helpers/client.js';
import {
  type CompiledProgram,
  compileProgram,
  listening,
  type ProgramProcess,
} from './helpers/compiled-program.js';
import { tempFolders } from './helpers/temp-folder.js';
import { makeCertificate, type SelfSigned, startTlsFront, type TlsFront } from './helpers/tls-front.js';

const newFolder = tempFolders();
const fields = { prompt: 'a lake', width: 64, height: 64, steps: 20 };

let program: CompiledProgram;
let certificate: SelfSigned;
let demo: DemoA1111;
let front: TlsFront;
let gateway: ProgramProcess;
let url: string;

beforeAll(async () => {
  program = await compileProgram(await newFolder());
  certificate = makeCertificate(await newFolder());
});

beforeEach(async () => {
  demo = createDemoA1111({ generationMs: 0, apiAuth: 'ann:secret' });
  front = await startTlsFront(await demo.listen(), certificate);
});

afterEach(async () => {
  demo.state.release();
  await gateway.kill();
  await front.close();
  await demo.close();
});

/** Node.js reads which certificates to trust only when it starts: the gateway is a process of its own. */
async function start(env: Readonly<Record<string, string>> = {}): Promise<void> {
  gateway = program.standalone({
    PORT: '0',
    TRACKER_DIR: await newFolder(),
    A1111_URL: front.url.replace('//', '//ann:secret@'),
    ...env,
  });
  url = await listening(gateway);
}

/** The client's own login goes through; that of the backend's URL serves the tracker's own calls. */
const headers = { Authorization: `Basic ${Buffer.from('ann:secret').toString('base64')}` };
const txt2img = () => post(`${url}/sdapi/v1/txt2img`, fields, { headers });
const json = <T>({ body }: Answer) => JSON.parse(body.toString()) as T;

describe('a backend behind https, whose certificate Node.js has been told to trust', () => {
  beforeEach(() => start({ NODE_EXTRA_CA_CERTS: certificate.certFile }));

  test('gets generations and all else, and its answers arrive to the byte', async () => {
    const given = await txt2img().answer;
    expect(given.status).toBe(200);
    expect(given.body.equals(demo.state.generations[0]?.answer as Buffer)).toBe(true);
    const job = await getJson<Job>(`${url}/sdapi/v1/job/${given.headers['x-job-id']}?images=none`);
    expect(job).toMatchObject({ status: 'Completed', prompt: 'a lake' });
    expect((await call(`${url}/sdapi/v1/samplers`, { headers }).answer).status).toBe(200);
    expect(new Set(front.askedFor)).toEqual(new Set(['localhost']));
  });

  test('is asked how it is, and told to stop, with the login of its URL', async () => {
    expect((await getJson<HealthReport>(`${url}/job-tracker/health`)).backends).toEqual({
      a1111: { ok: true },
    });
    demo.state.hold(5);
    const held = once(demo.state, 'held');
    const request = txt2img();
    await held;
    const id = (await request.head).headers['x-job-id'];
    const cancelled = await call(`${url}/sdapi/v1/job/${id}/cancel`, { method: 'POST' }).answer;
    expect(json<Job>(cancelled)).toMatchObject({ status: 'Failed', error: { code: 'cancelled' } });
    expect(demo.state.requests.map((one) => one.url)).toContain('/sdapi/v1/interrupt');
  });

  test('speaks with WebSockets', async () => {
    const socket = new WebSocket(`${url.replace('http', 'ws')}/queue/join`);
    await once(socket, 'open');
    socket.send('hello');
    expect(String((await once(socket, 'message'))[0])).toBe('hello');
    socket.close();
    await once(socket, 'close');
    expect(demo.state.requests.some(({ url }) => url === '/queue/join')).toBe(true);
  });
});

test('without that trust it gets nothing, and everybody is told why', async () => {
  await start();
  const refused = await txt2img().answer;
  expect(refused.status).toBe(502);
  expect(json<{ error: string }>(refused).error).toContain(
    `at ${front.url} cannot be reached (DEPTH_ZERO_SELF_SIGNED_CERT)`,
  );
  const health = await getJson<HealthReport>(`${url}/job-tracker/health`);
  expect(health.backends.a1111).toEqual({
    ok: false,
    error: expect.stringContaining('DEPTH_ZERO_SELF_SIGNED_CERT'),
  });
  const upgraded = new WebSocket(`${url.replace('http', 'ws')}/queue/join`);
  upgraded.on('error', () => {});
  const [, answer] = await once(upgraded, 'unexpected-response');
  expect(answer.statusCode).toBe(502);
  upgraded.terminate();
  expect(demo.state.requests).toEqual([]);
});
