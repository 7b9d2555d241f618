import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, it } from '@jest/globals';
import { CallWrapper, ComfyApi, PromptBuilder } from '@saintno/comfyui-sdk';
import { Client } from '@stable-canvas/comfyui-client';
import { WebSocket } from 'ws';
import { createDemoComfyUI, type DemoComfyUI, type DemoComfyUIOptions } from '../../examples/demo-comfyui.js';
import { readPngTexts } from '../../examples/demo-shared/picture/png.js';
import {
  type ComfySocket,
  callComfy,
  openComfySocket,
  standardWorkflow,
  type WorkflowFields,
} from '../helpers/comfy-client.js';
import { tempFolders } from '../helpers/temp-folder.js';

type Started = DemoComfyUI & { url: string };

const tempFolder = tempFolders();
const demos: DemoComfyUI[] = [];
const sockets: ComfySocket[] = [];

afterEach(async () => {
  for (const { socket } of sockets.splice(0)) socket.terminate();
  await Promise.all(demos.splice(0).map((demo) => demo.close()));
});

async function start(options: DemoComfyUIOptions = {}): Promise<Started> {
  const demo = createDemoComfyUI({ generationMs: 0, ...options });
  demos.push(demo);
  return { ...demo, url: await demo.listen() };
}

async function openSocket(url: string): Promise<ComfySocket> {
  const socket = await openComfySocket(url);
  sockets.push(socket);
  return socket;
}

async function getJson(url: string) {
  const answer = await callComfy(url);
  expect(answer.status).toBe(200);
  return JSON.parse(answer.text);
}

/** Queues a prompt. Resolves to its id. */
async function queue(url: string, prompt: object, fields: object = {}): Promise<string> {
  const answer = await callComfy(`${url}/prompt`, { body: { prompt, ...fields } });
  expect({ status: answer.status, text: answer.text }).toMatchObject({ status: 200 });
  return JSON.parse(answer.text).prompt_id;
}

/** Queues a prompt and waits for its end. Resolves to its history entry. */
async function run({ url, state }: Started, prompt: object, fields: object = {}) {
  const promptId = randomUUID();
  const ended = untilEnded(state, promptId);
  await queue(url, prompt, { prompt_id: promptId, ...fields });
  await ended;
  return (await getJson(`${url}/history/${promptId}`))[promptId];
}

async function untilEnded(state: DemoComfyUI['state'], promptId: string): Promise<string> {
  for (;;) {
    const [execution] = await once(state, 'finished');
    if (execution.promptId === promptId) return execution.status;
  }
}

/** Queues the standard workflow while the gate is closed, and resolves once it is held there. */
async function held({ url, state }: Started, workflow: WorkflowFields = {}, fields: object = {}) {
  const seen = once(state, 'held');
  const id = await queue(url, standardWorkflow(workflow), fields);
  await seen;
  return id;
}

async function view(url: string, file: Record<string, string>, headers = {}) {
  return callComfy(`${url}/view?${new URLSearchParams(file)}`, { headers });
}

const endOf = (id: string) => (message: { type: string; data: { node?: unknown; prompt_id?: string } }) =>
  message.type === 'executing' && message.data.node === null && message.data.prompt_id === id;

describe('a prompt', () => {
  it('is answered as queued, runs, and is in the history with files that can be viewed', async () => {
    const demo = await start();
    const answer = await callComfy(`${demo.url}/prompt`, {
      headers: { 'content-type': 'text/plain' },
      body: { prompt: standardWorkflow({ batchSize: 2, prefix: 'sub/demo' }) },
    });
    const id = JSON.parse(answer.text).prompt_id;
    expect(answer.text).toBe(`{"prompt_id": "${id}", "number": 0, "node_errors": {}}`);
    expect(answer.headers['content-type']).toBe('application/json; charset=utf-8');
    if (demo.state.executions[0]?.status !== 'success') await untilEnded(demo.state, id);
    const entry = (await getJson(`${demo.url}/api/history/${id}`))[id];
    expect(Object.keys(entry)).toEqual(['prompt', 'outputs', 'status', 'meta']);
    expect(entry.outputs).toEqual({
      9: {
        images: [1, 2].map((n) => ({ filename: `demo_0000${n}_.png`, subfolder: 'sub', type: 'output' })),
      },
    });
    expect(entry.meta).toEqual({
      9: { node_id: '9', display_node: '9', parent_node: null, real_node_id: '9' },
    });
    expect(entry.status).toMatchObject({ status_str: 'success', completed: true });
    expect(entry.status.messages.map(([type]: [string]) => type)).toEqual([
      'execution_start',
      'execution_cached',
      'execution_success',
    ]);
    const image = await view(demo.url, entry.outputs[9].images[1]);
    expect(image.headers['content-type']).toBe('image/png');
    expect(JSON.parse(readPngTexts(image.body).get('prompt') ?? '')).toEqual(
      standardWorkflow({ batchSize: 2, prefix: 'sub/demo' }),
    );
    const other = await view(demo.url, entry.outputs[9].images[0]);
    expect(other.body.equals(image.body)).toBe(false);
  });

  it('keeps its numbers: a seed of 64 bits, floats as floats, an explicit number as a float', async () => {
    const demo = await start();
    demo.state.hold(0);
    const workflow = JSON.stringify(standardWorkflow({ text: 'snow é' })).replace(
      '"seed":7',
      '"seed":18446744073709551615',
    );
    const seen = once(demo.state, 'held');
    const answer = await callComfy(`${demo.url}/prompt?clientId=x`, {
      body: `{"number": 7, "prompt": ${workflow}}`,
    });
    expect(answer.text).toContain('"number": 7.0, ');
    await seen;
    const text = (await callComfy(`${demo.url}/queue`)).text;
    expect(text).toMatch(/^\{"queue_running": \[\[7\.0, "[-\da-f]{36}", \{"3": \{"class_type": "KSampler"/);
    expect(text).toContain('"seed": 18446744073709551615, "steps": 4, "cfg": 8.0, ');
    expect(text).toContain('"denoise": 1.0, ');
    expect(text).toContain('"text": "snow \\u00e9"');
    expect(text).toMatch(/\{"create_time": \d{13}\}, \["9"\]\]\], "queue_pending": \[\]\}$/);
  });

  it('hides the keys that are secret, and takes the client id into extra_data', async () => {
    const demo = await start();
    const extra = { auth_token_comfy_org: 'secret', api_key_comfy_org: 'secret', extra_pnginfo: { w: 1 } };
    const entry = await run(demo, standardWorkflow(), { client_id: 'me', extra_data: extra });
    expect(entry.prompt[3]).toEqual({
      extra_pnginfo: { w: 1 },
      client_id: 'me',
      create_time: expect.any(Number),
    });
    const [execution] = demo.state.executions;
    expect(execution?.clientId).toBe('me');
    expect(Object.fromEntries(execution?.sensitive ?? [])).toEqual({
      auth_token_comfy_org: 'secret',
      api_key_comfy_org: 'secret',
    });
    const image = await view(demo.url, entry.outputs[9].images[0]);
    expect(readPngTexts(image.body).get('w')).toBe('1');
    expect(image.body.includes('secret')).toBe(false);
  });

  it('waits its turn: by number, at the front where it asks for that, until it is deleted', async () => {
    const demo = await start();
    demo.state.hold();
    const first = await held(demo);
    const last = await queue(demo.url, standardWorkflow(), { number: 9 });
    const deleted = await queue(demo.url, standardWorkflow());
    const front = await queue(demo.url, standardWorkflow(), { front: true });
    const ids = async () => {
      const { queue_running, queue_pending } = await getJson(`${demo.url}/queue`);
      return [queue_running, queue_pending].map((list) => list.map((item: unknown[]) => item[1]));
    };
    expect(await ids()).toEqual([[first], [front, deleted, last]]);
    expect(await getJson(`${demo.url}/prompt`)).toEqual({ exec_info: { queue_remaining: 4 } });
    const answer = await callComfy(`${demo.url}/queue`, { body: { delete: [deleted, first, 'unknown'] } });
    expect(answer).toMatchObject({ status: 200, text: '', headers: { 'content-length': '0' } });
    expect(answer.headers['content-type']).toBeUndefined();
    expect(await ids()).toEqual([[first], [front, last]]);
    await callComfy(`${demo.url}/api/queue`, { body: { clear: true } });
    expect(await ids()).toEqual([[first], []]);
    expect(demo.state.executions.map(({ status }) => status)).toEqual([
      'running',
      'deleted',
      'deleted',
      'deleted',
    ]);
  });

  it.each([
    ['uuid', 'x', 400],
    ['uuid', '0B0B0B0B-0000-4000-8000-000000000000', 400],
    ['uuid', '0b0b0b0b-0000-4000-8000-000000000000', 200],
    ['any', 'x', 200],
    ['ignored', 'x', 200],
  ] as const)('under the rule %s with the id %s is answered %i', async (promptIdRule, id, status) => {
    const demo = await start({ promptIdRule });
    const answer = await callComfy(`${demo.url}/prompt`, {
      body: { prompt: standardWorkflow(), prompt_id: id },
    });
    expect(answer.status).toBe(status);
    const body = JSON.parse(answer.text);
    if (status === 400) expect(body).toMatchObject({ error: { type: 'invalid_prompt_id' }, node_errors: {} });
    else if (promptIdRule === 'ignored') expect(body.prompt_id).toMatch(/^[-\da-f]{36}$/);
    else expect(body.prompt_id).toBe(id);
  });

  it('stops an old server for ever with extra_data: null', async () => {
    const demo = await start({ promptIdRule: 'ignored' });
    await queue(demo.url, standardWorkflow(), { extra_data: null });
    const waiting = await queue(demo.url, standardWorkflow());
    const { queue_running, queue_pending } = await getJson(`${demo.url}/queue`);
    expect(queue_running[0][3]).toBeNull();
    expect(queue_pending.map((item: unknown[]) => item[1])).toEqual([waiting]);
    const newest = await start();
    const answer = await callComfy(`${newest.url}/prompt`, {
      body: { prompt: standardWorkflow(), extra_data: null },
    });
    expect(answer.status).toBe(500);
  });

  it('that was the same before saves nothing, and names the same files', async () => {
    const demo = await start();
    const first = await run(demo, standardWorkflow());
    const socket = await openSocket(`${demo.url}/ws?clientId=me`);
    const second = await run(demo, standardWorkflow(), { client_id: 'me' });
    expect(second.outputs).toEqual(first.outputs);
    await socket.until(endOf(second.prompt[1]));
    expect(socket.messages.find(({ type }) => type === 'execution_cached')?.data.nodes).toHaveLength(7);
    expect(socket.messages.find(({ type }) => type === 'executed')?.data).toMatchObject({
      node: '9',
      output: first.outputs[9],
    });
    expect(socket.types()).not.toContain('progress');
    expect(demo.state.executions[1]).toMatchObject({ files: [], executedNodes: [] });
    const third = await run(demo, standardWorkflow({ seed: 8 }));
    expect(third.outputs[9].images[0].filename).toBe('demo_00002_.png');
    expect(demo.state.executions[2]?.executedNodes).toEqual(['3', '8', '9']);
  });
});

describe('a prompt that is refused', () => {
  const broken = (change: (workflow: ReturnType<typeof standardWorkflow>) => void) => {
    const workflow = standardWorkflow();
    change(workflow);
    return { prompt: workflow };
  };
  const invalid = { type: 'prompt_outputs_failed_validation', details: '' };

  it.each([
    ['no prompt', { client_id: 'x' }, { type: 'no_prompt' }, {}],
    ['no outputs', { prompt: {} }, { type: 'prompt_no_outputs' }, {}],
    [
      'an unknown node',
      { prompt: { 1: { class_type: 'Nonsense', inputs: {} } } },
      { type: 'missing_node_type', details: "Node ID '#1'" },
      {},
    ],
    ['a node without a type', { prompt: { 1: { inputs: {} } } }, { type: 'missing_node_type' }, {}],
    [
      'a value beyond its limits',
      broken((workflow) => {
        workflow['3'].inputs.steps = 0;
      }),
      invalid,
      {
        3: { errors: [{ type: 'value_smaller_than_min' }], dependent_outputs: ['9'], class_type: 'KSampler' },
      },
    ],
    [
      'a value that is not in the list',
      broken((workflow) => {
        workflow['4'].inputs.ckpt_name = 'none';
      }),
      invalid,
      { 4: { errors: [{ type: 'value_not_in_list' }] } },
    ],
    [
      'a link of another type',
      broken((workflow) => {
        workflow['8'].inputs.samples = ['4', 0];
      }),
      invalid,
      { 8: { errors: [{ type: 'return_type_mismatch' }] } },
    ],
    [
      'an image that is not there',
      { prompt: { 1: { class_type: 'LoadImage', inputs: { image: 'none.png' } }, 2: previewOf('1') } },
      invalid,
      {
        1: {
          errors: [{ type: 'custom_validation_failed', details: 'image - Invalid image file: none.png' }],
        },
      },
    ],
    [
      'a missing input of the output itself',
      { prompt: { 1: { class_type: 'PreviewImage', inputs: {} } } },
      { type: 'prompt_outputs_failed_validation', details: 'Required input is missing: images' },
      { 1: { errors: [{ type: 'required_input_missing', extra_info: { input_name: 'images' } }] } },
    ],
    [
      'a number that is none',
      broken((workflow) => {
        (workflow['3'].inputs as Record<string, unknown>).cfg = 'much';
      }),
      invalid,
      { 3: { errors: [{ type: 'invalid_input_type' }] } },
    ],
    [
      'a link to nothing',
      broken((workflow) => {
        workflow['3'].inputs.model = ['99', 0];
      }),
      invalid,
      { 3: { errors: [{ type: 'exception_during_inner_validation', details: "'99'" }] } },
    ],
    [
      'a link to an output that a node has not',
      broken((workflow) => {
        workflow['3'].inputs.model = ['4', 3];
      }),
      invalid,
      { 3: { errors: [{ type: 'exception_during_inner_validation' }], class_type: 'KSampler' } },
    ],
    [
      'a circle',
      broken((workflow) => {
        workflow['3'].inputs.latent_image = ['3', 0];
      }),
      invalid,
      { 3: { errors: [{ type: 'exception_during_inner_validation' }] } },
    ],
  ])('because of %s says so', async (_what, body, error, nodeErrors) => {
    const { url, state } = await start();
    const answer = await callComfy(`${url}/prompt`, { body });
    expect(answer.status).toBe(400);
    expect(JSON.parse(answer.text)).toMatchObject({ error, node_errors: nodeErrors });
    expect(state.executions).toEqual([]);
  });

  it('says so in the older form on an old server', async () => {
    const { url } = await start({ promptIdRule: 'ignored' });
    expect((await callComfy(`${url}/prompt`, { body: '{}' })).text).toBe(
      '{"error": "no prompt", "node_errors": []}',
    );
    const unknown = { prompt: { 1: { class_type: 'Nonsense', inputs: {} } } };
    expect(JSON.parse((await callComfy(`${url}/prompt`, { body: unknown })).text)).toMatchObject({
      error: { type: 'invalid_prompt' },
      node_errors: [],
    });
  });

  it('runs the outputs that are valid, and tells of the others', async () => {
    const demo = await start();
    const workflow = { ...standardWorkflow(), 10: { class_type: 'PreviewImage', inputs: {} } };
    const answer = await callComfy(`${demo.url}/prompt`, { body: { prompt: workflow } });
    expect(JSON.parse(answer.text).node_errors).toMatchObject({
      10: { errors: [{ type: 'required_input_missing' }], dependent_outputs: ['10'] },
    });
    expect(answer.status).toBe(200);
  });

  it.each(['{', '', '[]', '{"prompt": []}', '{"number": "x", "prompt": {}}'])(
    'because nobody expects %j is a 500 in plain text',
    async (body) => {
      const { url } = await start();
      const answer = await callComfy(`${url}/prompt`, { method: 'POST', body });
      expect(answer.status).toBe(500);
      expect(answer.headers['content-type']).toBe('text/plain; charset=utf-8');
      expect(answer.text).toBe('500 Internal Server Error\n\nServer got itself in trouble');
    },
  );
});

function previewOf(id: string) {
  return { class_type: 'PreviewImage', inputs: { images: [id, 0] } };
}

describe('an end before the end', () => {
  it('comes with /interrupt, for the prompt that is named or for whatever runs', async () => {
    const demo = await start();
    demo.state.hold(2);
    const id = await held(demo, {}, { client_id: 'me' });
    const stranger = await openSocket(`${demo.url}/ws?clientId=other`);
    const interrupt = (body?: unknown) => callComfy(`${demo.url}/interrupt`, { method: 'POST', body });
    expect((await interrupt({ prompt_id: randomUUID() })).status).toBe(200);
    expect(demo.state.executions[0]?.status).toBe('running');
    const ended = untilEnded(demo.state, id);
    expect(await interrupt({ prompt_id: id })).toMatchObject({ status: 200, text: '' });
    expect(await ended).toBe('interrupted');
    const { status, outputs } = (await getJson(`${demo.url}/history/${id}`))[id];
    expect(outputs).toEqual({});
    expect(status).toMatchObject({ status_str: 'error', completed: false });
    const interrupted = { prompt_id: id, node_id: '3', node_type: 'KSampler', timestamp: expect.any(Number) };
    expect(status.messages.at(-1)).toEqual([
      'execution_interrupted',
      { ...interrupted, executed: expect.arrayContaining(['4', '5']) },
    ]);
    await stranger.until(({ type }) => type === 'execution_interrupted');

    const next = await held(demo);
    const nextEnded = untilEnded(demo.state, next);
    await interrupt('no JSON');
    expect(await nextEnded).toBe('interrupted');
    expect(demo.state.executions[1]?.files).toEqual([]);
  });

  it('comes on an old server for whatever runs, whoever is named', async () => {
    const demo = await start({ interruptRule: 'global' });
    demo.state.hold(2);
    const id = await held(demo);
    const ended = untilEnded(demo.state, id);
    await callComfy(`${demo.url}/interrupt`, { body: { prompt_id: randomUUID() } });
    expect(await ended).toBe('interrupted');
  });

  it.each([
    ['[fail]', 'RuntimeError'],
    ['[oom]', 'torch.OutOfMemoryError'],
  ])('comes with the word %s', async (word, exceptionType) => {
    const demo = await start();
    const socket = await openSocket(`${demo.url}/ws?clientId=me`);
    const entry = await run(demo, standardWorkflow({ text: `a lake ${word}` }), { client_id: 'me' });
    expect(entry.status).toMatchObject({ status_str: 'error', completed: false });
    const [type, data] = entry.status.messages.at(-1);
    expect(type).toBe('execution_error');
    expect(data).toMatchObject({ node_id: '3', node_type: 'KSampler', exception_type: exceptionType });
    expect(data.current_inputs.seed).toEqual(['7']);
    await socket.until(endOf(entry.prompt[1]));
    expect(socket.messages.find((message) => message.type === type)?.data).toEqual(data);
    expect(entry.outputs).toEqual({});
  });

  it('never comes with [hang], which an interrupt does not change', async () => {
    const demo = await start();
    const hanging = once(demo.state, 'hanging');
    const id = await queue(demo.url, standardWorkflow({ text: '[hang]' }));
    await hanging;
    await callComfy(`${demo.url}/interrupt`, { method: 'POST' });
    await queue(demo.url, standardWorkflow());
    const { queue_running, queue_pending } = await getJson(`${demo.url}/queue`);
    expect(queue_running[0][1]).toBe(id);
    expect(queue_pending).toHaveLength(1);
  });

  it('comes with [die]: connections break, queue and history are lost, files stay', async () => {
    const demo = await start();
    const done = await run(demo, { ...standardWorkflow(), 10: previewOf('8') });
    const [saved] = done.outputs[9].images;
    const [preview] = done.outputs[10].images;
    expect((await view(demo.url, preview)).status).toBe(200);
    const socket = await openSocket(`${demo.url}/ws?clientId=me`);
    const id = randomUUID();
    const ended = untilEnded(demo.state, id);
    await queue(demo.url, standardWorkflow({ text: '[die]' }), { prompt_id: id });
    expect(await ended).toBe('lost');
    await socket.closed;
    expect(await getJson(`${demo.url}/history`)).toEqual({});
    expect(await getJson(`${demo.url}/queue`)).toEqual({ queue_running: [], queue_pending: [] });
    expect((await view(demo.url, saved)).status).toBe(200);
    expect((await view(demo.url, preview)).status).toBe(404);
    const again = await run(demo, standardWorkflow());
    expect(again.outputs[9].images[0].filename).toBe('demo_00002_.png');
    expect(again.prompt[0]).toBe(0);
  });
});

describe('the history', () => {
  it('comes in pages, oldest first, and can be deleted', async () => {
    const demo = await start();
    const ids: string[] = [];
    for (let seed = 0; seed < 3; seed += 1) ids.push((await run(demo, standardWorkflow({ seed }))).prompt[1]);
    const page = async (query: string) => Object.keys(await getJson(`${demo.url}/history${query}`));
    expect(await page('')).toEqual(ids);
    expect(await page('?max_items=2')).toEqual(ids.slice(1));
    expect(await page('?max_items=2&offset=0')).toEqual(ids.slice(0, 2));
    expect(await page('?offset=1')).toEqual(ids.slice(1));
    expect(await page('?max_items=9')).toEqual(ids);
    await callComfy(`${demo.url}/history`, { body: { delete: [ids[1], 'unknown'] } });
    expect(await page('')).toEqual([ids[0], ids[2]]);
    await callComfy(`${demo.url}/history`, { body: { clear: true } });
    expect((await callComfy(`${demo.url}/history`)).text).toBe('{}');
    expect((await callComfy(`${demo.url}/history/${ids[0]}`)).text).toBe('{}');
  });

  it('forgets the oldest once there are more than it keeps', async () => {
    const demo = await start({ maxHistory: 1 });
    const ids: string[] = [];
    for (let seed = 0; seed < 3; seed += 1) ids.push((await run(demo, standardWorkflow({ seed }))).prompt[1]);
    expect(Object.keys(await getJson(`${demo.url}/history`))).toEqual(ids.slice(1));
  });

  it.each([
    ['/history?max_items=x', 500],
    ['/history/', 404],
    ['/history/a/b', 404],
  ])('%s is %i', async (path, status) => {
    const { url } = await start();
    expect((await callComfy(url + path)).status).toBe(status);
  });
});

describe('a WebSocket', () => {
  it('is told of its prompt in the order of ComfyUI, with the history there before the end', async () => {
    const demo = await start();
    const socket = await openSocket(`${demo.url}/api/ws?clientId=me`);
    expect(socket.messages[0]).toEqual({
      type: 'status',
      data: { status: { exec_info: { queue_remaining: 0 } }, sid: 'me' },
    });
    const other = await openSocket(`${demo.url}/ws?clientId=other`);
    const id = await queue(demo.url, standardWorkflow({ steps: 2 }), { client_id: 'me' });
    await socket.until(endOf(id));
    expect((await getJson(`${demo.url}/history/${id}`))[id].status.completed).toBe(true);
    const nodeTypes = ['execution_start', 'execution_cached', 'executing', 'progress', 'binary'];
    const seen = socket.messages.filter(({ type }) =>
      [...nodeTypes, 'executed', 'execution_success'].includes(type),
    );
    expect(seen.map(({ type, data }) => (data.node ? `${type} ${data.node}` : type))).toEqual([
      'execution_start',
      'execution_cached',
      ...['4', '6', '7', '5', '3'].map((node) => `executing ${node}`),
      'progress 3',
      'binary',
      'progress 3',
      'binary',
      'executing 8',
      'executing 9',
      'executed 9',
      'execution_success',
      'executing',
    ]);
    const first = socket.types().indexOf('progress');
    expect(socket.types().slice(first - 1, first + 2)).toEqual(['progress_state', 'progress', 'binary']);
    expect(socket.messages[first]?.data).toEqual({ value: 1, max: 2, prompt_id: id, node: '3' });
    expect(socket.messages[first - 1]?.data.nodes[3]).toEqual({
      value: 1,
      max: 2,
      state: 'running',
      node_id: '3',
      prompt_id: id,
      display_node_id: '3',
      parent_node_id: null,
      real_node_id: '3',
    });
    const preview = socket.messages[first + 1]?.data as Buffer;
    expect([preview.readUInt32BE(0), preview.readUInt32BE(4)]).toEqual([1, 2]);
    expect(preview.toString('latin1', 9, 12)).toBe('PNG');
    await other.until(({ type, data }) => type === 'status' && data.status.exec_info.queue_remaining === 1);
    expect(new Set(other.types())).toEqual(new Set(['status']));
  });

  it('gets previews with metadata where it asks for them', async () => {
    const demo = await start();
    const socket = await openSocket(`${demo.url}/ws?clientId=me`);
    socket.socket.send('{"type": "feature_flags", "data": {"supports_preview_metadata": true}}');
    await socket.until(({ type }) => type === 'feature_flags');
    const id = await queue(demo.url, standardWorkflow(), { client_id: 'me' });
    const { data } = await socket.until(({ type }) => type === 'binary');
    expect(data.readUInt32BE(0)).toBe(4);
    const end = 8 + data.readUInt32BE(4);
    expect(JSON.parse(data.toString('utf8', 8, end))).toMatchObject({ node_id: '3', prompt_id: id });
    expect(data.toString('latin1', end + 1, end + 4)).toBe('PNG');
  });

  it('gets progress and previews, and nothing else, of prompts without a client id', async () => {
    const demo = await start();
    const socket = await openSocket(`${demo.url}/ws`);
    expect(socket.messages[0]?.data.sid).toMatch(/^[\da-f]{32}$/);
    const id = await queue(demo.url, standardWorkflow());
    const isIdle = () => socket.messages.filter(({ type }) => type === 'status').length === 4;
    await socket.until(isIdle);
    expect(new Set(socket.types())).toEqual(new Set(['status', 'progress_state', 'progress', 'binary']));
    expect(socket.messages.find(({ type }) => type === 'progress')?.data.prompt_id).toBe(id);
  });

  it('takes the stream from an earlier one with its client id, and is told the node at work', async () => {
    const demo = await start();
    demo.state.hold(1);
    const first = await openSocket(`${demo.url}/ws?clientId=me`);
    const id = await held(demo, {}, { client_id: 'me' });
    const second = await openSocket(`${demo.url}/ws?clientId=me`);
    await second.until(({ type, data }) => type === 'executing' && data.node === '3');
    demo.state.release();
    await second.until(endOf(id));
    expect(first.types()).toContain('execution_start');
    expect(first.types()).not.toContain('execution_success');
  });

  it('is refused to other sites and at other paths', async () => {
    const { url } = await start();
    const refusal = (path: string, headers: Record<string, string>) =>
      new Promise((resolve) => {
        const socket = new WebSocket(url.replace('http', 'ws') + path, { headers });
        socket.once('error', ({ message }) => resolve(message));
      });
    expect(await refusal('/ws', { origin: 'http://evil.example' })).toContain('403');
    expect(await refusal('/other', {})).toContain('404');
  });
});

describe('/view', () => {
  async function withFile(options: DemoComfyUIOptions = {}) {
    const dir = await tempFolder();
    const demo = await start({ dir, ...options });
    await writeFile(join(dir, 'output', 'ünï.png'), 'abcdefghij');
    await writeFile(join(dir, 'output', 'page.html'), '<script>');
    await writeFile(join(dir, 'secret.txt'), 'secret');
    return demo;
  }

  it('sends a file with validators, whole, in part, or not at all', async () => {
    const { url } = await withFile();
    const file = { filename: 'ünï.png' };
    const whole = await view(url, file);
    expect(whole).toMatchObject({
      status: 200,
      text: 'abcdefghij',
      headers: {
        'content-type': 'image/png',
        'content-length': '10',
        'accept-ranges': 'bytes',
        'content-disposition': Buffer.from('filename="ünï.png"').toString('latin1'),
        etag: expect.stringMatching(/^"[\da-f]+-a"$/),
      },
    });
    expect(whole.headers).not.toHaveProperty('x-content-type-options');
    const { etag = '', 'last-modified': modified = '' } = whole.headers;
    const ask = async (headers: Record<string, string>) => {
      const { status, text, headers: got } = await view(url, file, headers);
      expect(got['content-disposition']).toBe(whole.headers['content-disposition']);
      return [status, text, got['content-range']];
    };
    expect(await ask({ 'if-none-match': etag })).toEqual([304, '', undefined]);
    expect(await ask({ 'if-none-match': '"other"' })).toEqual([200, 'abcdefghij', undefined]);
    expect(await ask({ 'if-modified-since': modified })).toEqual([304, '', undefined]);
    expect(await ask({ range: 'bytes=2-3' })).toEqual([206, 'cd', 'bytes 2-3/10']);
    expect(await ask({ range: 'bytes=8-' })).toEqual([206, 'ij', 'bytes 8-9/10']);
    expect(await ask({ range: 'bytes=-5' })).toEqual([206, 'fghij', 'bytes 5-9/10']);
    expect(await ask({ range: 'bytes=10-' })).toEqual([416, '', 'bytes */10']);
    expect(await ask({ range: 'bytes=2-3', 'if-range': '"other"' })).toEqual([200, 'abcdefghij', undefined]);
    const head = await callComfy(`${url}/view?filename=%C3%BCn%C3%AF.png`, { method: 'HEAD' });
    expect([head.status, head.text, head.headers['content-length']]).toEqual([200, '', '10']);
  });

  it.each([
    ['', 404],
    ['?filename=none.png', 404],
    ['?filename=', 400],
    ['?filename=/etc/passwd', 400],
    ['?filename=../secret.txt', 400],
    ['?filename=secret.txt&subfolder=..', 403],
    ['?filename=secret.txt&subfolder=/', 403],
    ['?filename=page.html&type=models', 400],
    ['?filename=page.html&type=input', 404],
  ])('with %j is an empty %i', async (query, status) => {
    const { url } = await withFile();
    expect(await callComfy(`${url}/view${query}`)).toMatchObject({ status, text: '' });
  });

  it('gives what a browser would run only for keeping, and forbids guessing where it is told to', async () => {
    const { url } = await withFile({ nosniff: true });
    expect((await view(url, { filename: 'page.html' })).headers).toMatchObject({
      'content-type': 'application/octet-stream',
      'content-disposition': 'attachment; filename="page.html"',
      'x-content-type-options': 'nosniff',
    });
  });

  it('encodes a picture anew for channel=rgb, without its texts', async () => {
    const demo = await start();
    const entry = await run(demo, standardWorkflow());
    const { body, headers } = await view(demo.url, { ...entry.outputs[9].images[0], channel: 'rgb' });
    expect(headers.etag).toBeUndefined();
    expect(readPngTexts(body).size).toBe(0);
    expect(body.toString('latin1', 1, 4)).toBe('PNG');
  });
});

describe('other nodes', () => {
  it('save a video, an animation, sound and a mesh, and show a text', async () => {
    const demo = await start();
    const node = (class_type: string, inputs: object) => ({ class_type, inputs });
    const entry = await run(demo, {
      ...standardWorkflow(),
      20: node('CreateVideo', { images: ['8', 0], fps: 24 }),
      21: node('SaveVideo', { video: ['20', 0], filename_prefix: 'video/clip' }),
      22: node('SaveAnimatedWEBP', { images: ['8', 0], filename_prefix: 'moving' }),
      23: node('EmptyAudio', { duration: 1, sample_rate: 44_100, channels: 2 }),
      24: node('SaveAudio', { audio: ['23', 0], filename_prefix: 'audio/sound' }),
      25: node('VAEDecodeHunyuan3D', { samples: ['3', 0], vae: ['4', 2] }),
      26: node('VoxelToMeshBasic', { voxel: ['25', 0], threshold: 0.6 }),
      27: node('SaveGLB', { mesh: ['26', 0], filename_prefix: 'mesh/thing' }),
      28: node('PreviewAny', { source: 'words' }),
    });
    const { 9: _, ...outputs } = entry.outputs;
    expect(outputs).toEqual({
      21: {
        images: [{ filename: 'clip_00001_.mp4', subfolder: 'video', type: 'output' }],
        animated: [true],
      },
      22: { images: [{ filename: 'moving_00001_.webp', subfolder: '', type: 'output' }], animated: [true] },
      24: { audio: [{ filename: 'sound_00001_.flac', subfolder: 'audio', type: 'output' }] },
      27: { '3d': [{ filename: 'thing_00001_.glb', subfolder: 'mesh', type: 'output' }] },
      28: { text: ['words'] },
    });
    const contents = [
      [outputs[21].images[0], 'video/mp4', /^.{4}ftyp/s],
      [outputs[22].images[0], 'image/webp', /^RIFF.{4}WEBPVP8X.*ANMF.*ANMF/s],
      [outputs[24].audio[0], 'audio/flac', /^fLaC/],
      [outputs[27]['3d'][0], 'model/gltf-binary', /^glTF/],
    ] as const;
    for (const [file, type, start] of contents) {
      const { headers, body } = await view(demo.url, file);
      expect(headers['content-type']).toBe(type);
      expect(body.toString('latin1')).toMatch(start);
    }
  });

  it('load an image that was uploaded, under another name where its own is taken', async () => {
    const demo = await start();
    const png = (await view(demo.url, (await run(demo, standardWorkflow())).outputs[9].images[0])).body;
    const upload = async (bytes: Buffer) => {
      const form = new FormData();
      form.set('image', new Blob([new Uint8Array(bytes)]), 'photo.png');
      const response = await fetch(`${demo.url}/upload/image`, { method: 'POST', body: form });
      return response.json();
    };
    expect(await upload(png)).toEqual({ name: 'photo.png', subfolder: '', type: 'input' });
    expect(await upload(png)).toMatchObject({ name: 'photo.png' });
    expect(await upload(Buffer.from('other'))).toMatchObject({ name: 'photo (1).png' });
    const entry = await run(demo, {
      1: { class_type: 'LoadImage', inputs: { image: 'photo.png' } },
      2: previewOf('1'),
    });
    const [image] = entry.outputs[2].images;
    expect(image).toMatchObject({ type: 'temp', subfolder: '' });
    const { body } = await view(demo.url, image);
    expect([body.readUInt32BE(16), body.readUInt32BE(20)]).toEqual([64, 48]);
  });
});

describe('/api/jobs', () => {
  it('shows what waits, runs and has ended, and cancels', async () => {
    const demo = await start();
    const done = (await run(demo, standardWorkflow())).prompt[1];
    const failed = (await run(demo, standardWorkflow({ text: '[fail]' }))).prompt[1];
    demo.state.hold();
    const running = await held(
      demo,
      { seed: 8 },
      { extra_data: { extra_pnginfo: { workflow: { id: 'w' } } } },
    );
    const pending = await queue(demo.url, standardWorkflow({ seed: 9 }));
    const list = async (query: string) => {
      const { jobs } = await getJson(`${demo.url}/api/jobs${query}`);
      return jobs.map(({ id, status }: { id: string; status: string }) => [id, status]);
    };
    expect(new Map(await list(''))).toEqual(
      new Map([
        [done, 'completed'],
        [failed, 'failed'],
        [running, 'in_progress'],
        [pending, 'pending'],
      ]),
    );
    expect(await list('?status=failed,cancelled')).toEqual([[failed, 'failed']]);
    expect(await list('?workflow_id=w')).toEqual([[running, 'in_progress']]);
    expect((await getJson(`${demo.url}/api/jobs?limit=3&offset=1`)).pagination).toEqual({
      offset: 1,
      limit: 3,
      total: 4,
      has_more: false,
    });
    const job = await getJson(`${demo.url}/api/jobs/${done}`);
    expect(job).toMatchObject({
      outputs_count: 1,
      preview_output: { filename: 'demo_00001_.png', nodeId: '9', mediaType: 'images' },
      execution_status: { status_str: 'success' },
      workflow: { prompt: { 9: { class_type: 'SaveImage' } } },
    });
    expect(Object.values(job)).not.toContain(null);
    expect((await callComfy(`${demo.url}/api/jobs?status=odd`)).status).toBe(400);
    expect(await callComfy(`${demo.url}/api/jobs/none`)).toMatchObject({
      status: 404,
      text: '{"error": "Job not found"}',
    });
    expect((await callComfy(`${demo.url}/jobs`)).status).toBe(404);

    const cancel = async (id: string) =>
      JSON.parse((await callComfy(`${demo.url}/api/jobs/${id}/cancel`, { method: 'POST' })).text);
    expect(await cancel(pending)).toEqual({ cancelled: true });
    const ended = untilEnded(demo.state, running);
    expect(await cancel(running)).toEqual({ cancelled: true });
    expect(await ended).toBe('interrupted');
    expect(await cancel(running)).toEqual({ cancelled: false });
    expect(await list('?status=cancelled')).toEqual([[running, 'cancelled']]);
  });
});

describe('the server', () => {
  it('answers what it does not know as aiohttp does', async () => {
    const { url } = await start();
    const unknown = await callComfy(`${url}/nothing`);
    expect(unknown).toMatchObject({
      status: 404,
      text: '',
      headers: { 'content-type': 'application/octet-stream', 'transfer-encoding': 'chunked' },
    });
    expect((await callComfy(`${url}/interrupt`)).status).toBe(404);
    const put = await callComfy(`${url}/prompt`, { method: 'PUT' });
    expect(put).toMatchObject({
      status: 405,
      text: '405: Method Not Allowed',
      headers: { allow: 'GET,HEAD,POST' },
    });
  });

  it('refuses bodies beyond its limit, and goes on', async () => {
    const { url, state } = await start({ maxBodyBytes: 1000 });
    const answer = await callComfy(`${url}/prompt`, { body: Buffer.alloc(200_000, ' ') });
    expect(answer.status).toBe(413);
    expect(answer.text).toMatch(/^Maximum request body size 1000 exceeded, actual body size \d+$/);
    expect((await callComfy(`${url}/prompt`)).status).toBe(200);
    expect(state.requests).toHaveLength(2);
  });

  it.each([
    [{ 'sec-fetch-site': 'cross-site' }, 403],
    [{ 'sec-fetch-site': 'same-origin' }, 200],
    [{ origin: 'http://evil.example' }, 403],
    [{ origin: 'http://evil.example', host: 'comfy.example' }, 200],
    [{ origin: 'http://localhost:1', host: 'localhost:1' }, 200],
    [{ origin: 'http://localhost:2', host: 'localhost:1' }, 403],
    [{ origin: 'null' }, 200],
  ])('guards against other sites: %j is %i', async (headers, status) => {
    const { url } = await start();
    expect((await callComfy(`${url}/queue`, { headers })).status).toBe(status);
  });

  it('describes itself and its nodes, and has a page', async () => {
    const { url } = await start();
    const info = await getJson(`${url}/object_info`);
    expect(Object.keys(info)).toContain('KSampler');
    const one = await getJson(`${url}/api/object_info/SaveImage`);
    expect(one).toEqual({ SaveImage: info.SaveImage });
    expect(one.SaveImage).toMatchObject({ name: 'SaveImage', output_node: true, output: [] });
    expect(await getJson(`${url}/object_info/Nonsense`)).toEqual({});
    expect((await getJson(`${url}/system_stats`)).system.comfyui_version).toContain('demo');
    expect(await getJson(`${url}/features`)).toEqual({
      supports_preview_metadata: true,
      max_upload_size: 104_857_600,
    });
    const subscribed = await callComfy(`${url}/internal/logs/subscribe`, { method: 'PATCH', body: '{}' });
    expect(subscribed).toMatchObject({ status: 200, text: '' });
    const page = await callComfy(url);
    expect(page.headers['content-type']).toBe('text/html; charset=utf-8');
    expect(page.text).toContain('This is not ComfyUI');
  });

  it('finds the files of an earlier one in its folder, and removes only a folder that it made', async () => {
    const dir = await tempFolder();
    const first = await start({ dir });
    const entry = await run(first, standardWorkflow());
    await first.close();
    const second = await start({ dir });
    expect((await view(second.url, entry.outputs[9].images[0])).status).toBe(200);
    expect((await run(second, standardWorkflow())).outputs[9].images[0].filename).toBe('demo_00002_.png');
    const third = await start();
    expect(existsSync(third.dir)).toBe(true);
    await third.close();
    await third.close();
    expect(existsSync(third.dir)).toBe(false);
    await second.close();
    expect(existsSync(join(dir, 'output', 'demo_00001_.png'))).toBe(true);
  });

  it('takes the time that it is told, and ten times as much for [slow]', async () => {
    const demo = await start({ generationMs: 30 });
    const timed = async (text: string) => {
      const startedMs = performance.now();
      await run(demo, standardWorkflow({ text }));
      return performance.now() - startedMs;
    };
    expect(await timed('a lake')).toBeGreaterThanOrEqual(29);
    expect(await timed('[slow]')).toBeGreaterThanOrEqual(299);
  });
});

describe('the program', () => {
  it('prints its address, answers there, and ends at once with a signal', async () => {
    const program = fileURLToPath(new URL('../../examples/demo-comfyui.ts', import.meta.url));
    const child = spawn(process.execPath, ['--import', 'tsx', program], {
      env: { ...process.env, NODE_OPTIONS: '', HOST: '', PORT: '0', DEMO_SECONDS: '0.5' },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    try {
      const [printed] = await once(createInterface(child.stdout), 'line');
      expect(printed).toMatch(/^Demo ComfyUI on http:\/\/127\.0\.0\.1:\d+ \(0.5 s a generation\)$/);
      expect(await getJson(`${/http:\S+/.exec(printed)?.[0]}/queue`)).toEqual({
        queue_running: [],
        queue_pending: [],
      });
      const end = once(child, 'exit');
      child.kill('SIGTERM');
      expect(await end).toEqual([0, null]);
    } finally {
      child.kill('SIGKILL');
    }
  }, 60_000); // a start of a process, on a busy machine
});

describe('client libraries', () => {
  it('@saintno/comfyui-sdk runs a workflow and gets its image', async () => {
    const demo = await start({ generationMs: 100 });
    const api = new ComfyApi(demo.url, 'saintno');
    const connected = once(demo.state, 'connected');
    try {
      await api.init().waitForReady();
      await connected;
      const titled = Object.entries(standardWorkflow()).map(([id, node]) => [
        id,
        { ...node, _meta: { title: node.class_type } },
      ]);
      const workflow = Object.fromEntries(titled) as ConstructorParameters<typeof PromptBuilder>[0];
      const builder = new PromptBuilder(workflow, ['seed'], ['saved'])
        .setInputNode('seed', '3.inputs.seed')
        .setOutputNode('saved', '9')
        .input('seed', 21);
      const result = await new CallWrapper(api, builder).run();
      if (!result) throw new Error('the client library says that it failed');
      const { images } = result.saved as { images: Parameters<typeof api.getImage>[0][] };
      const image = images[0];
      const blob = await api.getImage(image as NonNullable<typeof image>);
      expect(blob.type).toBe('image/png');
      expect(Buffer.from(await blob.arrayBuffer()).toString('latin1', 1, 4)).toBe('PNG');
    } finally {
      api.destroy();
    }
  });

  it('@stable-canvas/comfyui-client runs a workflow by polling and by WebSocket', async () => {
    const demo = await start();
    const client = new Client({ api_host: new URL(demo.url).host, clientId: 'canvas', WebSocket, fetch });
    const connected = once(demo.state, 'connected');
    client.connect();
    try {
      await connected;
      const polled = await client.enqueue_polling(standardWorkflow(), { polling_ms: 10 });
      const [first] = polled.images;
      const streamed = await client.enqueue(standardWorkflow({ seed: 5 }), { disable_random_seed: true });
      const files = [first, streamed.images.find(({ type }) => type === 'url')];
      for (const file of files) {
        const answer = await callComfy(String(file?.data));
        expect([answer.status, answer.headers['content-type']]).toEqual([200, 'image/png']);
      }
    } finally {
      client.close();
    }
  });
});
