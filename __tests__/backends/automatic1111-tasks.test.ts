import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { automatic1111 } from '../../lib/backends/automatic1111.js';
import { TopLevelMembers } from '../../lib/json/top-level-members.js';
import { type ScriptedBackend, startScriptedBackend } from '../helpers/scripted-backend.js';

const { tasks, taskOf, changesTo, disturbance } = automatic1111;

describe('the task of a request', () => {
  function read(body: string) {
    const members = new TopLevelMembers();
    members.write(Buffer.from(body));
    members.end();
    return members;
  }

  const requests: [string, string | undefined, string | undefined][] = [
    ['{"prompt":"p"}', 'Ab12Cd34', undefined],
    ['{"force_task_id":null}', 'Ab12Cd34', undefined],
    ['{"force_task_id":"mine"}', 'mine', 'mine'],
    ['{"force_task_id":"a","force_task_id":"\\u0062"}', 'b', 'b'],
    ['{"force_task_id":""}', undefined, undefined],
    ['{"force_task_id":7}', undefined, undefined],
    [`{"force_task_id":"${'x'.repeat(70_000)}"}`, undefined, undefined],
    ['[]', undefined, undefined],
    ['{"force_task_id":"cut', undefined, undefined],
    ['', undefined, undefined],
  ];

  test.each(requests.map((one) => [one[0].slice(0, 40), one] as const))('%s', (_name, one) => {
    const [body, forwarding, wrapping] = one;
    const members = read(body);
    const jobId = 'Ab12Cd34';
    expect(taskOf(members, { jobId, forwards: true })).toBe(forwarding);
    expect(taskOf(members, { jobId, forwards: false })).toBe(wrapping);
    // What we say it is called is what the backend gets.
    const { force_task_id: injected } = changesTo(members, { jobId, forwards: true });
    if (injected !== undefined) expect(injected).toBe(forwarding);
  });
});

test.each([
  ['POST', '/sdapi/v1/interrupt', 'interrupt'],
  ['POST', '/sdapi/v1/skip', 'skip'],
  ['GET', '/sdapi/v1/skip', undefined],
  [undefined, '/sdapi/v1/skip', undefined],
  ['POST', '/sdapi/v1/interrupt/', 'interrupt'],
  ['POST', '/sdapi/v1/txt2img', undefined],
  ['POST', '/interrupt', undefined],
])('%s %s disturbs: %s', (method, path, expected) => {
  expect(disturbance(method, path)).toBe(expected);
});

describe('calls', () => {
  let backend: ScriptedBackend;
  let said: { method: string | undefined; url: string | undefined; type: string | undefined; body: string };
  let status: number;
  let reply: string;

  beforeEach(async () => {
    status = 200;
    backend = await startScriptedBackend((res, body, { method, url, headers }) => {
      said = { method, url, type: headers['content-type'], body: body.toString() };
      res.writeHead(status);
      res.end(reply);
    });
  });

  afterEach(() => backend.close());

  test.each([
    [{ active: true, queued: false, completed: false }, 'running'],
    [{ active: true, queued: false, completed: true }, 'running'],
    [{ active: true, queued: true, completed: false }, 'queued'],
    [{ active: false, queued: true, completed: false }, 'queued'],
    [{ active: false, queued: false, completed: true }, 'finished'],
    [{ active: false, queued: false, completed: false }, 'unknown'],
  ])('%j is %s', async (progress, expected) => {
    reply = JSON.stringify({ ...progress, progress: null });
    expect(await tasks.look(new URL(`${backend.url}/base/`), 'a "task"')).toBe(expected);
    expect(said).toEqual({
      method: 'POST',
      url: '/base/internal/progress',
      type: 'application/json',
      body: '{"id_task":"a \\"task\\"","id_live_preview":-1,"live_preview":false}',
    });
  });

  test.each([
    [404, '{"detail":"Not Found"}', 'it answered 404 to /internal/progress'],
    [200, '[]', 'it answered something else than a progress to /internal/progress'],
    [200, '{"active":1,"queued":0}', 'it answered something else than a progress to /internal/progress'],
    [200, '{"active":true}', 'it answered something else than a progress to /internal/progress'],
  ])('%d %s tells nothing', async (given, body, message) => {
    status = given;
    reply = body;
    await expect(tasks.look(new URL(backend.url), 'x')).rejects.toMatchObject({
      code: 'BACKEND_UNANSWERED',
      message: `${backend.url} cannot say what it is running: ${message}`,
    });
  });

  test('an interrupt is taken, or not', async () => {
    reply = '{}';
    await tasks.interrupt(new URL(backend.url), 'task');
    expect(said).toMatchObject({ method: 'POST', url: '/sdapi/v1/interrupt', body: '' });
    status = 405;
    await expect(tasks.interrupt(new URL(backend.url), 'task')).rejects.toMatchObject({
      code: 'NOT_CANCELLABLE',
      message: `${backend.url} did not take the interrupt: it answered 405`,
    });
  });

  test('the address’s login is used, and never shown', async () => {
    const url = new URL(backend.url);
    Object.assign(url, { username: 'ann', password: 'secret' });
    status = 401;
    reply = '{}';
    const failure = (await tasks.interrupt(url, 'task').catch((error: unknown) => error)) as Error;
    expect(backend.headers[0]?.authorization).toBe(`Basic ${Buffer.from('ann:secret').toString('base64')}`);
    expect(failure.message).toMatch(/answered 401: its address needs/);
    expect(failure.message).not.toMatch(/secret|ann/);
  });
});
