import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { createProxyMiddleware } from 'http-proxy-middleware';
import { createDemoA1111, type DemoA1111 } from '../examples/demo-backend.js';
import type { Job } from '../lib/index.js';
import { LowdbJobStore } from '../lib/stores/lowdb-job-store.js';
import { type Answer, type Call, call, post } from './helpers/client.js';
import { collectingLogger, type Gateway, type GatewayOptions, startGateway } from './helpers/gateway.js';
import { until } from './helpers/kept-jobs.js';
import { sampleImages } from './helpers/sample-images.js';
import {
  answerWith,
  bigPng,
  gate,
  type ScriptedBackend,
  sendAnswer,
  startScriptedBackend,
} from './helpers/scripted-backend.js';
import { tempFolders } from './helpers/temp-folder.js';

const newFolder = tempFolders();
const answer = answerWith([sampleImages.png as Buffer]);

let demo: DemoA1111;
let gateway: Gateway;
let scripted: ScriptedBackend | undefined;

beforeEach(async () => {
  demo = createDemoA1111({ generationMs: 0 });
});

afterEach(async () => {
  demo.state.release();
  await gateway.close();
  await demo.close();
  await scripted?.close();
  scripted = undefined;
});

async function start(options: Partial<GatewayOptions> = {}): Promise<void> {
  gateway = await startGateway({
    dir: await newFolder(),
    a1111: await demo.listen(),
    headAfter: 0,
    ...options,
  });
}

const txt2img = (prompt: string, fields: object = {}, headers = {}): Call =>
  post(
    `${gateway.url}/sdapi/v1/txt2img`,
    { prompt, steps: 20, width: 64, height: 64, ...fields },
    { headers },
  );

const cancel = (id: string, headers = {}): Promise<Answer> =>
  call(`${gateway.url}/sdapi/v1/job/${id}/cancel`, { method: 'POST', headers }).answer;

const idOf = async (request: Call): Promise<string> => (await request.head).headers['x-job-id'] as string;
const json = ({ body }: Answer) => JSON.parse(body.toString());
const jobOf = async (id: string): Promise<Job> => (await gateway.tracker.jobs.get(id)) as Job;
const promptsAtBackend = () =>
  demo.state.generations.map(({ request }) => JSON.parse(request.body.toString()).prompt);

/** Starts a generation of 20 steps that stands still after so many of them. */
async function startRunning(prompt = 'running', step = 5, fields: object = {}, headers = {}): Promise<Call> {
  demo.state.hold(step);
  const held = once(demo.state, 'held');
  const request = txt2img(prompt, fields, headers);
  await held;
  return request;
}

describe('a job that waits', () => {
  test('leaves the queue: the backend never gets it, its client sees an error, the next one moves up', async () => {
    await start();
    const running = await startRunning();
    const [second, third] = [txt2img('second'), txt2img('third')];
    const id = await idOf(second);
    const thirdId = await idOf(third);
    const reply = await cancel(id);
    expect(reply.status).toBe(200);
    const error = {
      code: 'cancelled',
      message: 'The job was cancelled while it was waiting; the backend did not get it',
    };
    expect(json(reply)).toMatchObject({ id, status: 'Failed', prompt: 'second', image_urls: [], error });
    expect(json(reply)).not.toHaveProperty('started_at');
    await expect(second.answer).rejects.toMatchObject({ code: 'ECONNRESET' });
    expect(json(await call(`${gateway.url}/sdapi/v1/job/${thirdId}`).answer).queue_position).toBe(1);
    demo.state.release();
    expect((await running.answer).status).toBe(200);
    expect((await third.answer).status).toBe(200);
    expect(promptsAtBackend()).toEqual(['running', 'third']);
    expect(demo.state.maxRunning).toBe(1);
  });

  test('a client without a head yet sees an error as well', async () => {
    await start({ headAfter: false });
    await startRunning();
    const created = once(gateway.tracker.events, 'created');
    const second = txt2img('second');
    const [{ id }] = (await created) as [Job];
    expect((await cancel(id)).status).toBe(200);
    await expect(second.answer).rejects.toMatchObject({ code: 'ECONNRESET' });
  });

  test('it may be one that has only just been recorded', async () => {
    await start();
    gateway.tracker.events.once('created', ({ id }) => void gateway.tracker.jobs.cancel(id));
    await expect(txt2img('a').answer).rejects.toMatchObject({ code: 'ECONNRESET' });
    expect((await txt2img('b').answer).status).toBe(200);
    expect(promptsAtBackend()).toEqual(['b']);
  });

  test('whoever asks twice at once gets the same', async () => {
    await start();
    await startRunning();
    const id = await idOf(txt2img('second'));
    const replies = await Promise.all([cancel(id), cancel(id)]);
    expect(replies.map(({ status }) => status)).toEqual([200, 200]);
    expect(json(await cancel(id))).toEqual({
      error: 'Expected a job that waits or runs, got one that is Failed',
    });
  });
});

describe('a job that runs', () => {
  test('ends with what there is of its images, and its client gets that as the backend gave it', async () => {
    await start();
    const request = await startRunning('a bay', 5, { n_iter: 3 });
    const waiting = txt2img('next');
    const id = await idOf(request);
    await idOf(waiting);
    const reply = await cancel(id);
    expect(reply.status).toBe(200);
    const job = await jobOf(id);
    expect(json(reply)).toMatchObject({ id, status: 'Failed', output_paths: job.output_paths });
    expect(job.error).toEqual({ code: 'cancelled', message: 'The job was cancelled while it was running' });
    expect(job.output_paths).toHaveLength(1);
    expect(job.bytes).toBeGreaterThan(0);
    expect(job.sidecar).toBeDefined();
    expect(job).not.toHaveProperty('disturbed_by');
    const given = await request.answer;
    expect(given.status).toBe(200);
    expect(given.body.toString().trim()).toBe(demo.state.generations[0]?.answer?.toString());
    const shown = json(await call(`${gateway.url}/sdapi/v1/job/${id}`).answer);
    expect(shown.images).toEqual(JSON.parse(given.body.toString()).images);
    demo.state.release();
    expect((await waiting.answer).status).toBe(200);
    expect(await gateway.ended(await idOf(waiting))).toMatchObject({ status: 'Completed' });
  });

  test('an end without any image is that of a cancelled job, too', async () => {
    await start();
    const request = await startRunning('a bay', 0);
    const id = await idOf(request);
    expect((await cancel(id)).status).toBe(200);
    expect(await jobOf(id)).toMatchObject({
      status: 'Failed',
      output_paths: [],
      error: { code: 'cancelled', message: 'The job was cancelled while it was running', status: 200 },
    });
    expect(json(await request.answer).images).toEqual([]);
  });

  test('one interrupt for those who ask at once, and none afterwards', async () => {
    await start();
    const id = await idOf(await startRunning());
    const replies = await Promise.all([cancel(id), cancel(id), cancel(id)]);
    expect(replies.map(({ status }) => status)).toEqual([200, 200, 200]);
    expect((await cancel(id)).status).toBe(409);
    expect(demo.state.requests.filter(({ url }) => url === '/sdapi/v1/interrupt')).toHaveLength(1);
  });

  test('while it waits at the backend, behind somebody else: 409, and nobody is hit', async () => {
    await start();
    demo.state.hold(5);
    const held = once(demo.state, 'held');
    const url = gateway.url.replace(
      /.*/,
      `http://127.0.0.1:${(demo.server.address() as { port: number }).port}`,
    );
    const other = post(`${url}/sdapi/v1/txt2img`, { prompt: 'other', steps: 20, width: 64, height: 64 });
    await held;
    const request = txt2img('mine');
    const id = await idOf(request);
    await until(() => demo.state.waiting === 1);
    const reply = await cancel(id);
    expect([reply.status, json(reply)]).toEqual([
      409,
      { error: `Job ${id} waits at the backend; another one is running` },
    ]);
    expect(demo.state.requests.map((one) => one.url)).not.toContain('/sdapi/v1/interrupt');
    expect(await jobOf(id)).toMatchObject({ status: 'Processing' });
    demo.state.release();
    expect((await other.answer).status).toBe(200);
    expect((await request.answer).status).toBe(200);
    expect(await gateway.ended(id)).toMatchObject({ status: 'Completed' });
    expect(await jobOf(id)).not.toHaveProperty('disturbed_by');
  });

  test('other jobs at the same backend are said to be disturbed', async () => {
    await start({ concurrency: 3 });
    const request = await startRunning();
    const others = [txt2img('other'), txt2img('another')];
    await Promise.all(others.map((other) => other.head));
    await until(() => demo.state.waiting === 2);
    const pending = txt2img('pending');
    const id = await idOf(request);
    const pendingId = await idOf(pending);
    expect((await cancel(id)).status).toBe(200);
    demo.state.release();
    for (const other of others) {
      const otherId = await idOf(other);
      await gateway.ended(otherId);
      expect(await jobOf(otherId)).toMatchObject({ status: 'Completed', disturbed_by: 'interrupt' });
    }
    await gateway.ended(pendingId);
    expect(await jobOf(pendingId)).not.toHaveProperty('disturbed_by');
    expect(await jobOf(id)).not.toHaveProperty('disturbed_by');
  });

  test('with the login of the address where the backend needs one, and 409 without', async () => {
    await demo.close();
    demo = createDemoA1111({ generationMs: 0, apiAuth: 'ann:secret' });
    const url = new URL(await demo.listen());
    const headers = { Authorization: `Basic ${Buffer.from('ann:secret').toString('base64')}` };
    gateway = await startGateway({ dir: await newFolder(), a1111: url, headAfter: 0 });
    const request = await startRunning('a', 5, {}, headers);
    const id = await idOf(request);
    const reply = await cancel(id);
    expect([reply.status, json(reply)]).toEqual([
      409,
      {
        error: `${url.origin} did not take the interrupt: it answered 401: its address needs the name and password of its --api-auth`,
      },
    ]);
    demo.state.release();
    await request.answer;
    expect(await gateway.ended(id)).toMatchObject({ status: 'Completed' });
    expect(await jobOf(id)).not.toHaveProperty('disturbed_by');
    await gateway.close();

    Object.assign(url, { username: 'ann', password: 'secret' });
    gateway = await startGateway({ dir: await newFolder(), a1111: url, headAfter: 0 });
    const again = await idOf(await startRunning('b', 5, {}, headers));
    expect((await cancel(again)).status).toBe(200);
  });
});

describe('who may', () => {
  test('cancel what is one’s own, and an admin anything', async () => {
    await start({ auth: 'ann:one,bob:two,root:three', admins: 'root' });
    const login = (text: string) => ({ Authorization: `Basic ${Buffer.from(text).toString('base64')}` });
    const [ann, bob, root] = [login('ann:one'), login('bob:two'), login('root:three')];
    const running = await idOf(await startRunning('a', 5, {}, ann));
    const [second, third] = [await idOf(txt2img('b', {}, ann)), await idOf(txt2img('c', {}, ann))];
    for (const id of [running, second]) {
      const reply = await cancel(id, bob);
      expect([reply.status, json(reply)]).toEqual([404, { error: 'Job not found' }]);
    }
    expect((await cancel(second)).status).toBe(401);
    expect((await cancel(second, { ...ann, Origin: 'https://evil.example' })).status).toBe(403);
    expect((await jobOf(second)).status).toBe('Pending');
    expect((await cancel(second, ann)).status).toBe(200);
    expect((await cancel(third, root)).status).toBe(200);
    expect((await cancel(running, ann)).status).toBe(200);
  });

  test('a job that is not there is not found, one that has ended is left alone', async () => {
    await start();
    expect((await cancel('Unknown1')).status).toBe(404);
    const request = txt2img('done');
    await request.answer;
    const id = await idOf(request);
    await gateway.ended(id);
    const reply = await cancel(id);
    expect([reply.status, json(reply)]).toEqual([
      409,
      { error: 'Expected a job that waits or runs, got one that is Completed' },
    ]);
    expect(await jobOf(id)).toMatchObject({ status: 'Completed' });
  });
});

test('the host’s own code hears the same', async () => {
  await start();
  const { jobs } = gateway.tracker;
  const request = await startRunning();
  const [running, waiting] = [await idOf(request), await idOf(txt2img('waiting'))];
  expect(await jobs.cancel('Unknown1')).toBeUndefined();
  expect(await jobs.cancel(waiting)).toBe('cancelled');
  expect((await jobOf(waiting)).status).toBe('Failed');
  await expect(jobs.cancel(waiting)).rejects.toMatchObject({
    code: 'NOT_CANCELLABLE',
    message: 'Expected a job that waits or runs, got one that is Failed',
  });
  expect(await jobs.cancel(running)).toBe('cancelled');
  expect((await jobOf(running)).error?.code).toBe('cancelled');
});

describe('a backend that', () => {
  /** Generations that have come and are not answered yet. */
  let generating: ServerResponse[];
  let interrupts: number;
  let onProgress: (res: ServerResponse) => void | Promise<void>;
  let onInterrupt: (res: ServerResponse) => void | Promise<void>;
  const say = (res: ServerResponse, status: number, body: unknown) => {
    res.writeHead(status, { 'Content-Type': 'application/json' });
    res.end(typeof body === 'string' ? body : JSON.stringify(body));
  };
  const active = (res: ServerResponse) => say(res, 200, { active: true, queued: false, completed: false });

  beforeEach(async () => {
    generating = [];
    interrupts = 0;
    onProgress = active;
    onInterrupt = (res) => say(res, 200, {});
    scripted = await startScriptedBackend(async (res, _body, req) => {
      if (req.url === '/internal/progress') await onProgress(res);
      else if (req.url === '/sdapi/v1/interrupt') {
        interrupts += 1;
        await onInterrupt(res);
      } else if (req.url === '/sdapi/v1/txt2img') generating.push(res);
      else say(res, 200, {});
    });
    gateway = await startGateway({ dir: await newFolder(), a1111: scripted.url, headAfter: 0 });
  });

  async function startOne(prompt = 'p'): Promise<{ request: Call; id: string }> {
    const count = generating.length;
    const request = txt2img(prompt);
    const id = await idOf(request);
    await until(() => generating.length > count);
    return { request, id };
  }

  /** The job goes on as if nobody had asked. */
  async function expectUnharmed({ request, id }: { request: Call; id: string }): Promise<void> {
    expect(await jobOf(id)).toMatchObject({ status: 'Processing' });
    sendAnswer(generating[0] as ServerResponse, answer);
    expect((await request.answer).body.toString().trim()).toBe(answer.toString());
    expect(await gateway.ended(id)).toMatchObject({ status: 'Completed' });
  }

  const origin = () => scripted?.url;
  const unsure: [string, (res: ServerResponse) => void, (id: string) => string][] = [
    [
      'does not know the task',
      (res) => say(res, 200, { active: false, queued: false, completed: false }),
      (id) => `The backend does not say that it is running job ${id}`,
    ],
    [
      'has finished the task',
      (res) => say(res, 200, { active: false, queued: false, completed: true }),
      (id) => `Job ${id} is about to end`,
    ],
    [
      'says that it runs and waits, because a task that failed had the same id',
      (res) => say(res, 200, { active: true, queued: true, completed: false }),
      (id) => `Job ${id} waits at the backend; another one is running`,
    ],
    [
      'knows no tasks (SD.Next)',
      (res) => say(res, 404, { detail: 'Not Found' }),
      (id) =>
        `Job ${id} cannot be stopped: ${origin()} cannot say what it is running: it answered 404 to /internal/progress`,
    ],
    [
      'answers with a page',
      (res) => say(res, 200, '<html>'),
      (id) =>
        `Job ${id} cannot be stopped: ${origin()} cannot say what it is running: it answered something else than a progress to /internal/progress`,
    ],
    [
      'answers with other JSON',
      (res) => say(res, 200, 'null'),
      (id) =>
        `Job ${id} cannot be stopped: ${origin()} cannot say what it is running: it answered something else than a progress to /internal/progress`,
    ],
    [
      'does not answer',
      (res) => res.destroy(),
      (id) =>
        `Job ${id} cannot be stopped: ${origin()} closed the connection before it had answered (ECONNRESET)`,
    ],
  ];

  test.each(unsure)('%s: 409, no interrupt, the job goes on', async (_name, progress, message) => {
    onProgress = progress;
    const running = await startOne();
    const reply = await cancel(running.id);
    expect([reply.status, json(reply)]).toEqual([409, { error: message(running.id) }]);
    expect(interrupts).toBe(0);
    await expectUnharmed(running);
    expect(await jobOf(running.id)).not.toHaveProperty('disturbed_by');
  });

  test('refuses the interrupt: 409, the job goes on', async () => {
    onInterrupt = (res) => say(res, 500, {});
    const running = await startOne();
    const reply = await cancel(running.id);
    expect([reply.status, json(reply)]).toEqual([
      409,
      { error: `${origin()} did not take the interrupt: it answered 500` },
    ]);
    await expectUnharmed(running);
    expect(await jobOf(running.id)).not.toHaveProperty('disturbed_by');
  });

  test('may have heard the interrupt, and does not say so: 409, the job goes on, disturbed', async () => {
    onInterrupt = (res) => void res.destroy();
    const running = await startOne();
    const reply = await cancel(running.id);
    expect([reply.status, json(reply).error]).toEqual([409, expect.stringContaining('cannot be stopped')]);
    await expectUnharmed(running);
    expect(await jobOf(running.id)).toMatchObject({ disturbed_by: 'interrupt' });
  });

  test('answers the generation, and never the interrupt: it is cancelled all the same', async () => {
    const running = await startOne();
    onInterrupt = async (res) => {
      sendAnswer(generating[0] as ServerResponse, answer);
      await gateway.ended(running.id);
      res.destroy();
    };
    expect((await cancel(running.id)).status).toBe(200);
    expect(await jobOf(running.id)).toMatchObject({ status: 'Failed', error: { code: 'cancelled' } });
    expect((await jobOf(running.id)).output_paths).toHaveLength(1);
  });

  test('answers the interrupted generation with an error: cancelled, and the reason is kept', async () => {
    onInterrupt = (res) => {
      say(generating[0] as ServerResponse, 500, { error: 'RuntimeError', detail: '', errors: 'no latent' });
      say(res, 200, {});
    };
    const { id, request } = await startOne();
    expect((await cancel(id)).status).toBe(200);
    expect((await jobOf(id)).error).toEqual({
      code: 'cancelled',
      message: 'The job was cancelled while it was running: RuntimeError: no latent',
      status: 500,
    });
    await expect(request.answer).rejects.toMatchObject({ code: 'ECONNRESET' });
  });

  test('is answering already: 409, no interrupt', async () => {
    const running = await startOne();
    const res = generating[0] as ServerResponse;
    res.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': answer.length });
    res.write(answer.subarray(0, 20));
    await until(() => running.request.received.length > 0);
    let questions = 0;
    onProgress = (progress) => {
      questions += 1;
      active(progress);
    };
    const reply = await cancel(running.id);
    expect([reply.status, json(reply)]).toEqual([409, { error: `Job ${running.id} is about to end` }]);
    expect([questions, interrupts]).toEqual([0, 0]);
    res.end(answer.subarray(20));
    expect(await gateway.ended(running.id)).toMatchObject({ status: 'Completed' });
  });

  test('ends the job while it is asked about it: 409, no interrupt', async () => {
    const running = await startOne();
    onProgress = async (res) => {
      sendAnswer(generating[0] as ServerResponse, answer);
      await gateway.ended(running.id);
      active(res);
    };
    expect((await cancel(running.id)).status).toBe(409);
    expect(interrupts).toBe(0);
    expect(await jobOf(running.id)).toMatchObject({ status: 'Completed' });
  });

  test('begins to answer while it is asked about the job: 409, and the next one is not hit', async () => {
    const running = await startOne();
    const res = generating[0] as ServerResponse;
    onProgress = async (progress) => {
      res.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': answer.length });
      res.write(answer.subarray(0, 20));
      await until(() => running.request.received.length > 0);
      active(progress);
    };
    const reply = await cancel(running.id);
    expect([reply.status, json(reply)]).toEqual([409, { error: `Job ${running.id} is about to end` }]);
    expect(interrupts).toBe(0);
    res.end(answer.subarray(20));
    expect(await gateway.ended(running.id)).toMatchObject({ status: 'Completed' });
  });

  test('is asked about a job that something else ends meanwhile: no interrupt', async () => {
    const { id } = await startOne();
    onProgress = async (progress) => {
      const failed = once(gateway.tracker.events, 'failed');
      void gateway.tracker.close({ within: '1ms' });
      await failed;
      active(progress);
    };
    await expect(gateway.tracker.jobs.cancel(id)).rejects.toThrow(`Job ${id} is about to end`);
    expect(interrupts).toBe(0);
  });

  test('is about to get the interrupt does not get the next job before', async () => {
    const running = await startOne();
    const next = txt2img('next');
    await next.head;
    let early = -1;
    onInterrupt = async (res) => {
      sendAnswer(generating[0] as ServerResponse, answer);
      await running.request.answer;
      // What had been let in would be here by now.
      for (let i = 0; i < 20; i += 1) await call(`${gateway.url}/sdapi/v1/options`).answer;
      early = generating.length;
      say(res, 200, {});
    };
    expect((await cancel(running.id)).status).toBe(200);
    expect(early).toBe(1);
    await until(() => generating.length === 2);
    sendAnswer(generating[1] as ServerResponse, answer);
    expect((await next.answer).status).toBe(200);
    expect(await gateway.ended(await idOf(next))).toMatchObject({ status: 'Completed' });
  });

  test('does not stop: 202 after two seconds, and one may ask again', async () => {
    const { id, request } = await startOne();
    const reply = await cancel(id);
    expect([reply.status, json(reply).status]).toEqual([202, 'Processing']);
    const stopping = gateway.tracker.jobs.cancel(id);
    await until(() => interrupts === 2);
    sendAnswer(generating[0] as ServerResponse, answer);
    expect(await stopping).toBe('cancelled');
    expect((await request.answer).status).toBe(200);
    expect(await jobOf(id)).toMatchObject({ status: 'Failed', error: { code: 'cancelled' } });
    expect((await jobOf(id)).output_paths).toHaveLength(1);
  });
});

describe('in wrap mode', () => {
  async function startWrapped(options: Partial<GatewayOptions> = {}): Promise<void> {
    const target = await demo.listen();
    const behind: GatewayOptions['behind'] = (app) => app.use(createProxyMiddleware({ target }));
    gateway = await startGateway({ dir: await newFolder(), headAfter: 0, behind, ...options });
  }

  test('a backend whose address is not known: 409', async () => {
    await startWrapped();
    const id = await idOf(await startRunning('a', 5, { force_task_id: 'mine' }));
    expect(json(await cancel(id))).toEqual({
      error: `Job ${id} runs at a backend whose address is not known: give it as \`a1111\``,
    });
    expect((await jobOf(id)).status).toBe('Processing');
  });

  describe('with an address', () => {
    beforeEach(async () => {
      const a1111 = await demo.listen();
      const behind: GatewayOptions['behind'] = (app) => app.use(createProxyMiddleware({ target: a1111 }));
      gateway = await startGateway({ dir: await newFolder(), headAfter: 0, a1111, forward: false, behind });
    });

    test('and a task id of the client’s', async () => {
      const request = await startRunning('a', 5, { force_task_id: 'task(\u00e4 "1")' });
      const id = await idOf(request);
      expect((await cancel(id)).status).toBe(200);
      expect(await jobOf(id)).toMatchObject({ status: 'Failed', error: { code: 'cancelled' } });
      expect((await jobOf(id)).output_paths).toHaveLength(1);
    });

    test.each([undefined, null, '', 7])('and %j for a task id: 409', async (taskId) => {
      const id = await idOf(await startRunning('a', 5, { force_task_id: taskId }));
      expect([(await cancel(id)).status, json(await cancel(id))]).toEqual([
        409,
        {
          error: `Job ${id} cannot be told from what else Automatic1111 runs: its request names no task (\`force_task_id\`)`,
        },
      ]);
    });

    test('and one task id for two jobs: 409', async () => {
      const first = await startRunning('a', 5, { force_task_id: 'same' });
      const second = txt2img('b', { force_task_id: 'same' });
      await second.head;
      await until(() => demo.state.waiting === 1);
      for (const request of [first, second]) {
        const id = await idOf(request);
        expect(json(await cancel(id))).toEqual({
          error: `Job ${id} cannot be told from another one that runs under the same \`force_task_id\``,
        });
      }
      expect(demo.state.requests.map((one) => one.url)).not.toContain('/sdapi/v1/interrupt');
    });

    test('a job that waits leaves the queue without any of that', async () => {
      await gateway.close();
      const a1111 = await demo.listen().catch(() => '');
      expect(a1111).toBe('');
      const target = `http://127.0.0.1:${(demo.server.address() as { port: number }).port}`;
      gateway = await startGateway({
        dir: await newFolder(),
        headAfter: 0,
        concurrency: 1,
        behind: (app) => app.use(createProxyMiddleware({ target })),
      });
      await startRunning();
      const id = await idOf(txt2img('second'));
      expect((await cancel(id)).status).toBe(200);
      expect(promptsAtBackend()).toEqual(['running']);
    });
  });
});

describe("onDisconnect: 'cancel'", () => {
  const leave = async (request: Call): Promise<void> => {
    await request.head;
    request.request.destroy();
  };

  test('a job that waits leaves the queue with its client', async () => {
    await start({ onDisconnect: 'cancel' });
    const running = await startRunning();
    const second = txt2img('second');
    const third = txt2img('third');
    const id = await idOf(second);
    await third.head;
    await leave(second);
    expect(await gateway.ended(id)).toMatchObject({
      status: 'Failed',
      error: {
        code: 'cancelled',
        message:
          'The job was cancelled while it was waiting, because its client left; the backend did not get it',
      },
    });
    demo.state.release();
    await Promise.all([running.answer, third.answer]);
    expect(promptsAtBackend()).toEqual(['running', 'third']);
  });

  test('a job that runs is interrupted, and what there is of it is kept', async () => {
    await start({ onDisconnect: 'cancel' });
    const request = await startRunning();
    const id = await idOf(request);
    await leave(request);
    const job = await gateway.ended(id);
    expect(job).toMatchObject({ status: 'Failed', error: { code: 'cancelled' } });
    expect(job.output_paths).toHaveLength(1);
    demo.state.release();
    expect((await txt2img('next').answer).status).toBe(200);
  });

  test('a job that is not surely the one that runs goes on', async () => {
    await start({ onDisconnect: 'cancel' });
    demo.state.hold(5);
    const held = once(demo.state, 'held');
    const { port } = demo.server.address() as { port: number };
    const body = { prompt: 'other', steps: 20, width: 64, height: 64 };
    const other = post(`http://127.0.0.1:${port}/sdapi/v1/txt2img`, body);
    await held;
    const request = txt2img('mine');
    const id = await idOf(request);
    await until(() => demo.state.waiting === 1);
    await leave(request);
    await until(() => gateway.log.length > 0);
    expect(gateway.log).toEqual([
      `Job ${id} goes on although its client has left: Job ${id} waits at the backend; another one is running`,
    ]);
    demo.state.release();
    expect((await other.answer).status).toBe(200);
    expect(await gateway.ended(id)).toMatchObject({ status: 'Completed' });
  });

  test('a job whose answer somebody else waits for, by its key, goes on', async () => {
    await start({ onDisconnect: 'cancel' });
    const key = { 'Idempotency-Key': '"k"' };
    const first = await startRunning('a', 5, {}, key);
    const id = await idOf(first);
    const second = txt2img('a', {}, key);
    expect(await idOf(second)).toBe(id);
    await leave(first);
    await until(
      () => new Promise((resolve) => gateway.server.getConnections((_error, count) => resolve(count === 1))),
    );
    demo.state.release();
    expect((await second.answer).status).toBe(200);
    expect(await gateway.ended(id)).toMatchObject({ status: 'Completed' });
    // Nobody has even thought of stopping it.
    expect(demo.state.requests.map((one) => one.url)).toEqual(['/sdapi/v1/txt2img']);
  });

  test('also where every request is a job of its own', async () => {
    await start({ onDisconnect: 'cancel', retryWindow: false });
    const running = await startRunning();
    const waiting = txt2img('waiting');
    const id = await idOf(waiting);
    await leave(waiting);
    expect(await gateway.ended(id)).toMatchObject({ status: 'Failed', error: { code: 'cancelled' } });
    demo.state.release();
    await running.answer;
  });

  test('a client that has its answer may leave', async () => {
    await start({ onDisconnect: 'cancel' });
    const request = txt2img('a');
    await request.answer;
    request.request.destroy();
    expect(await gateway.ended(await idOf(request))).toMatchObject({ status: 'Completed' });
    expect(gateway.log).toEqual([]);
  });

  test('of a job that has ended there is nothing to say when its client leaves before it has taken all', async () => {
    const large = answerWith([bigPng(12 * 1024 * 1024)]);
    scripted = await startScriptedBackend((res) => sendAnswer(res, large));
    await start({ onDisconnect: 'cancel', retryWindow: false, a1111: scripted.url });
    const request = post(`${gateway.url}/sdapi/v1/txt2img`, { prompt: 'a' }, { unread: true });
    const id = await idOf(request);
    expect(await gateway.ended(id)).toMatchObject({ status: 'Completed' });
    request.request.destroy();
    await until(
      () => new Promise((resolve) => gateway.server.getConnections((_error, count) => resolve(count === 0))),
    );
    expect((await call(`${gateway.url}/sdapi/v1/job/${id}?images=none`).answer).status).toBe(200);
    expect(gateway.log).toEqual([]);
  });

  test('by default the job goes on', async () => {
    await start();
    const request = await startRunning();
    const second = txt2img('second');
    const ids = [await idOf(request), await idOf(second)];
    await Promise.all([leave(request), leave(second)]);
    await until(
      () => new Promise((resolve) => gateway.server.getConnections((_error, count) => resolve(count === 0))),
    );
    demo.state.release();
    for (const id of ids) expect(await gateway.ended(id)).toMatchObject({ status: 'Completed' });
  });
});

test('a job that has just been ended by something else is not said to be cancelled', async () => {
  const dir = await newFolder();
  const store = new LowdbJobStore({ folder: dir, logger: collectingLogger([]) });
  const { update } = store;
  const [reached, held] = [gate(), gate()];
  store.update = async (id, change) => {
    if (change.status === 'Failed') {
      reached.open();
      await held.opened;
    }
    return update.call(store, id, change);
  };
  await start({ dir, store });
  await startRunning();
  const id = await idOf(txt2img('waiting'));
  const closing = gateway.tracker.close({ within: '1ms' });
  await reached.opened;
  const refused = expect(gateway.tracker.jobs.cancel(id)).rejects.toThrow(`Job ${id} is about to end`);
  held.open();
  await Promise.all([refused, closing]);
});

test('a tracker that is stopped in the middle of a cancel says that it was', async () => {
  scripted = await startScriptedBackend((res, _body, req) => {
    if (req.url === '/internal/progress') res.end('{"active":true,"queued":false,"completed":false}');
    else if (req.url === '/sdapi/v1/interrupt') res.end('{}');
  });
  gateway = await startGateway({ dir: await newFolder(), a1111: scripted.url, headAfter: 0 });
  const request = txt2img('a');
  const id = await idOf(request);
  await scripted.received(1);
  const cancelling = gateway.tracker.jobs.cancel(id);
  await scripted.received(3);
  const failed = once(gateway.tracker.events, 'failed');
  await gateway.tracker.close({ within: '1ms' });
  const [job] = (await failed) as [Job];
  expect(job).toMatchObject({ id, error: { code: 'interrupted' } });
  expect(await cancelling).toBe('cancelled');
});
