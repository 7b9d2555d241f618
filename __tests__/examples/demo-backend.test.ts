import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import http from 'node:http';
import net from 'node:net';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { crc32, gunzipSync, inflateSync } from 'node:zlib';
import { afterEach, describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { WebSocket } from 'ws';
import { createDemoA1111, type DemoA1111, type DemoA1111Options } from '../../examples/demo-backend.js';
import { dumpCompact, dumpSpaced, parsePythonJson } from '../../examples/demo-shared/python-json.js';

interface Answer {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly body: Buffer;
  readonly text: string;
}

interface Call {
  readonly method?: string;
  readonly headers?: http.OutgoingHttpHeaders;
  /** A string or bytes are sent as they are, anything else as JSON. */
  readonly body?: unknown;
}

const demos: DemoA1111[] = [];

afterEach(async () => {
  await Promise.all(demos.splice(0).map((demo) => demo.close()));
});

async function start(options: DemoA1111Options = {}): Promise<DemoA1111 & { url: string }> {
  const demo = createDemoA1111({ generationMs: 0, ...options });
  demos.push(demo);
  return { ...demo, url: await demo.listen() };
}

/** With node:http, because fetch hides what was compressed and how. */
function call(url: string, { method = 'GET', headers = {}, body }: Call = {}): Promise<Answer> {
  const bytes = typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body);
  const type = body === undefined || typeof body === 'string' ? {} : { 'content-type': 'application/json' };
  return new Promise((resolve, reject) => {
    const req = http.request(url, { method, headers: { ...type, ...headers }, agent: false }, (res) => {
      const chunks: Buffer[] = [];
      res.on('data', (chunk: Buffer) => chunks.push(chunk));
      res.on('error', reject);
      res.on('end', () => {
        const whole = Buffer.concat(chunks);
        resolve({ status: res.statusCode ?? 0, headers: res.headers, body: whole, text: String(whole) });
      });
    });
    req.on('error', reject);
    req.end(bytes);
  });
}

function post(url: string, path: string, body?: unknown, headers: http.OutgoingHttpHeaders = {}) {
  return call(url + path, { method: 'POST', body, headers });
}

const SMALL = { prompt: 'a lake', width: 64, height: 48, steps: 4, seed: 7 };

function txt2img(url: string, fields: object = {}, headers: http.OutgoingHttpHeaders = {}): Promise<Answer> {
  return post(url, '/sdapi/v1/txt2img', { ...SMALL, ...fields }, headers);
}

function imagesOf(answer: Answer): Buffer[] {
  expect(answer.status).toBe(200);
  return (JSON.parse(answer.text).images as string[]).map((image) => Buffer.from(image, 'base64'));
}

function infoOf(answer: Answer) {
  return JSON.parse(JSON.parse(answer.text).info as string);
}

/** Sends, and resolves once the demo has the whole request; the answer is still to come. */
async function received(state: DemoA1111['state'], send: () => Promise<Answer>) {
  const seen = once(state, 'received');
  const answer = send();
  await seen;
  return { answer };
}

/** Sends, and resolves once the generation waits at the gate; the answer is still to come. */
async function held(state: DemoA1111['state'], send: () => Promise<Answer>) {
  const seen = once(state, 'held');
  const answer = send();
  await seen;
  return { answer };
}

/** Reads a PNG strictly, by the specification and not by the code under test. */
function inspectPng(png: Buffer) {
  expect(png.subarray(0, 8).toString('latin1')).toBe('\x89PNG\r\n\x1a\n');
  const chunks: { type: string; data: Buffer }[] = [];
  for (let at = 8; at < png.length; ) {
    const length = png.readUInt32BE(at);
    const data = png.subarray(at + 8, at + 8 + length);
    expect(png.readUInt32BE(at + 8 + length)).toBe(crc32(png.subarray(at + 4, at + 8 + length)));
    chunks.push({ type: png.toString('latin1', at + 4, at + 8), data });
    at += 12 + length;
  }
  const header = chunks[0]?.data as Buffer;
  const [width, height] = [header.readUInt32BE(0), header.readUInt32BE(4)];
  expect([...header.subarray(8)]).toEqual([8, 2, 0, 0, 0]);
  const rows = inflateSync(chunks.find(({ type }) => type === 'IDAT')?.data as Buffer);
  expect(rows.length).toBe((width * 3 + 1) * height);
  const text = chunks.find(({ type }) => type.endsWith('Xt'));
  return { width, height, types: chunks.map(({ type }) => type), text };
}

describe('images', () => {
  it('are whole PNG files of the size asked for, with the infotext in them', async () => {
    const { url } = await start();
    const [image] = imagesOf(await txt2img(url, { negative_prompt: 'fog', sampler_name: 'Euler a' }));
    const { width, height, types, text } = inspectPng(image as Buffer);
    expect({ width, height, types }).toEqual({
      width: 64,
      height: 48,
      types: ['IHDR', 'tEXt', 'IDAT', 'IEND'],
    });
    expect(text?.data.toString('latin1')).toBe(
      'parameters\0a lake\nNegative prompt: fog\nSteps: 4, Sampler: Euler a, CFG scale: 7.0, Seed: 7, ' +
        'Size: 64x48, Model: demo, Version: demo',
    );
  });

  it('carry text beyond Latin-1 in iTXt', async () => {
    const { url } = await start();
    const [image] = imagesOf(await txt2img(url, { prompt: '雪 and é' }));
    const { text } = inspectPng(image as Buffer);
    expect(text?.type).toBe('iTXt');
    expect(text?.data.toString()).toMatch(/^parameters\0{5}雪 and é\nSteps: 4, /);
  });

  it('depend on prompt and seed alone, and stay small', async () => {
    const { url } = await start();
    const draw = async (fields: object) =>
      imagesOf(await txt2img(url, { width: 512, height: 512, ...fields }))[0] as Buffer;
    const first = await draw({});
    const pixels = (png: Buffer) => png.toString('base64', png.indexOf('IDAT'));
    const others = [await draw({}), await draw({ seed: 8 }), await draw({ prompt: 'a desert' })];
    expect(others.map((other) => pixels(other) === pixels(first))).toEqual([true, false, false]);
    expect(first.length).toBeLessThan(400_000);
  });

  it('come as batch_size times n_iter, with seeds that count up', async () => {
    const { url, state } = await start();
    const answer = await txt2img(url, { batch_size: 2, n_iter: 2 });
    const images = imagesOf(answer);
    expect(images).toHaveLength(4);
    expect(new Set(images.map((image) => image.toString('base64'))).size).toBe(4);
    expect(infoOf(answer)).toMatchObject({ all_seeds: [7, 8, 9, 10], index_of_first_image: 0 });
    const seeds = images.map((image) => /Seed: (\d+)/.exec(String(inspectPng(image).text?.data))?.[1]);
    expect(seeds).toEqual(['7', '8', '9', '10']);
    expect(state.generations[0]?.images).toEqual(images);
  });

  it('have a grid in front with save_images, from two images on', async () => {
    const { url } = await start();
    const one = await txt2img(url, { save_images: true });
    expect(imagesOf(one)).toHaveLength(1);
    const three = await txt2img(url, { save_images: true, n_iter: 3 });
    const [grid, ...others] = imagesOf(three);
    expect(others).toHaveLength(3);
    expect(inspectPng(grid as Buffer)).toMatchObject({ width: 128, height: 96 });
    expect(infoOf(three)).toMatchObject({ index_of_first_image: 1 });
    expect(infoOf(three).infotexts).toHaveLength(4);
  });

  it('are made but not sent with send_images: false', async () => {
    const { url, state } = await start();
    expect(imagesOf(await txt2img(url, { send_images: false }))).toEqual([]);
    expect(state.generations[0]?.images).toHaveLength(1);
  });
});

describe('an answer', () => {
  it('is compact JSON in the order of A1111, and keeps integers and floats apart', async () => {
    const { url } = await start();
    const body = {
      prompt: 'snow é',
      width: 8,
      height: '8',
      cfg_scale: 7,
      nonsense: 1,
      force_task_id: 'task(x)',
    };
    const text = JSON.stringify(body).replace(
      /}$/,
      ',"seed":18446744073709551610,"override_settings":{"b":1.0,"1":1e-5,"a":20}}',
    );
    const { headers, ...answer } = await post(url, '/sdapi/v1/txt2img', text, {
      'accept-encoding': 'identity',
    });
    expect(answer.status).toBe(200);
    expect(headers).toMatchObject({
      'content-type': 'application/json',
      'content-length': String(answer.body.length),
    });
    expect(headers['x-process-time']).toMatch(/^\d+\.\d{1,4}$/);
    expect(headers['transfer-encoding']).toBeUndefined();
    expect(answer.text).toMatch(/^\{"images":\["[^"]+"\],"parameters":\{"prompt":"snow é",.*\},"info":"\{/);
    expect(answer.text).toContain('"seed":18446744073709551610,');
    expect(answer.text).toContain('"override_settings":{"b":1.0,"1":1e-05,"a":20}');
    expect(answer.text).toContain('"steps":50,"cfg_scale":7.0,"width":8,"height":8,');
    expect(answer.text).toContain('"subseed_strength":0,');
    expect(answer.text).toContain('"force_task_id":"task(x)","sampler_index":"Euler"');
    expect(answer.text).not.toContain('nonsense');
    const info = JSON.parse(answer.text).info as string;
    expect(info).toMatch(/^\{"prompt": "snow \\u00e9", "all_prompts": \["snow \\u00e9"\], /);
    expect(info).toContain('"all_seeds": [18446744073709551610], ');
    expect(info).toContain('"cfg_scale": 7.0, "steps": 50, ');
  });

  it('names the random seed in info and keeps -1 in parameters', async () => {
    const { url } = await start();
    const answers = [await txt2img(url, { seed: -1 }), await txt2img(url, { seed: -1 })];
    const seeds = answers.map((answer) => infoOf(answer).seed as number);
    expect(seeds[0]).not.toBe(seeds[1]);
    for (const seed of seeds) expect(seed).toBeGreaterThanOrEqual(0);
    for (const answer of answers) expect(answer.text).toContain('"seed":-1,');
  });

  it('is compressed for clients that take gzip, from 1000 bytes on', async () => {
    const { url } = await start();
    const plain = await txt2img(url);
    expect(plain.headers['content-encoding']).toBeUndefined();
    const { headers, body } = await txt2img(url, {}, { 'accept-encoding': 'br, gzip' });
    expect(headers).toMatchObject({
      'content-encoding': 'gzip',
      vary: 'Accept-Encoding',
      'content-length': String(body.length),
    });
    expect(JSON.parse(String(gunzipSync(body))).images).toEqual(JSON.parse(plain.text).images);
    const small = await call(`${url}/internal/ping`, { headers: { 'accept-encoding': 'gzip' } });
    expect(small.text).toBe('{}');
    const never = await start({ gzip: false });
    const identity = await txt2img(never.url, {}, { 'accept-encoding': 'gzip' });
    expect(identity.headers['content-encoding']).toBeUndefined();
  });

  it('of img2img holds the init images only where asked', async () => {
    const { url } = await start();
    const [image] = imagesOf(await txt2img(url));
    const base64 = (image as Buffer).toString('base64');
    const plain = await post(url, '/sdapi/v1/img2img', { ...SMALL, init_images: [base64] });
    expect(imagesOf(plain)).toHaveLength(1);
    expect(plain.text).toContain('"denoising_strength":0.75,');
    expect(plain.text).toContain('"init_images":null,');
    const uri = `data:image/png;base64,${base64}`;
    const full = await post(url, '/sdapi/v1/img2img', {
      ...SMALL,
      init_images: [uri],
      include_init_images: true,
    });
    expect(full.text).toContain(`"init_images":["${uri}"],`);
  });
});

describe('the queue', () => {
  it('runs one at a time, in the order of arrival, and sends nothing before the end', async () => {
    const { url, state } = await start();
    state.hold();
    const started: string[] = [];
    state.on('started', ({ taskId }) => started.push(taskId ?? ''));
    const answers: Promise<Answer>[] = [];
    for (const id of ['a', 'b', 'c']) {
      const { answer } = await received(state, () => txt2img(url, { force_task_id: id }));
      answers.push(answer);
    }
    const pending = await call(`${url}/internal/pending-tasks`);
    expect(pending.text).toBe('{"size":2,"tasks":["b","c"]}');
    expect({ started, running: state.running, waiting: state.waiting }).toEqual({
      started: ['a'],
      running: 1,
      waiting: 2,
    });
    const secondHeld = once(state, 'held');
    state.releaseOne();
    expect(imagesOf((await answers[0]) as Answer)).toHaveLength(1);
    await secondHeld;
    expect(started).toEqual(['a', 'b']);
    state.release();
    await Promise.all(answers);
    expect(started).toEqual(['a', 'b', 'c']);
    expect(state.maxRunning).toBe(1);
  });

  it('sends not a byte while a generation is held', async () => {
    const { url, state } = await start();
    state.hold();
    const seen = once(state, 'held');
    const socket = net.connect(Number(new URL(url).port), '127.0.0.1');
    const chunks: Buffer[] = [];
    socket.on('data', (chunk) => chunks.push(chunk));
    const body = JSON.stringify(SMALL);
    socket.write(
      `POST /sdapi/v1/txt2img HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    );
    await seen;
    // another connection's answer has made the whole way meanwhile
    await call(`${url}/internal/ping`);
    expect(Buffer.concat(chunks).length).toBe(0);
    state.release();
    await once(socket, 'data');
    expect(String(chunks[0])).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
    socket.destroy();
  });

  it('goes on with a generation whose client has left', async () => {
    const { server, url, state } = await start();
    state.hold();
    const connected = once(server, 'connection');
    const seen = once(state, 'held');
    const leaver = http.request(`${url}/sdapi/v1/txt2img`, { method: 'POST' });
    leaver.on('error', () => {});
    leaver.end(JSON.stringify({ ...SMALL, force_task_id: 'left' }));
    const [socket] = (await connected) as [net.Socket];
    await seen;
    const closed = once(socket, 'close');
    leaver.destroy();
    await closed;
    expect(state.running).toBe(1);
    const answered = once(state, 'answered');
    state.release();
    await answered;
    const [generation] = state.generations;
    expect(generation).toMatchObject({ taskId: 'left', status: 200, wasDelivered: false });
    expect(generation?.images).toHaveLength(1);
  });

  it('keeps what came, byte for byte, and at most as much as was asked for', async () => {
    const { url, state } = await start({ historySize: 2 });
    const body = '{ "prompt": "as  it came", "width": 8, "height": 8 }';
    for (let count = 0; count < 3; count += 1) {
      await post(url, `/sdapi/v1/txt2img?n=${count}`, body, { 'X-Custom': 'Yes' });
    }
    expect(state.requests.map((request) => request.url)).toEqual([
      '/sdapi/v1/txt2img?n=1',
      '/sdapi/v1/txt2img?n=2',
    ]);
    expect(state.generations).toHaveLength(2);
    const [generation] = state.generations;
    expect(String(generation?.request.body)).toBe(body);
    expect(generation?.request.rawHeaders).toEqual(expect.arrayContaining(['X-Custom', 'Yes']));
    expect(JSON.parse(String(generation?.answer)).images).toEqual(
      generation?.images.map((image) => image.toString('base64')),
    );
    expect(generation?.wasDelivered).toBe(true);
  });

  it('ends at close, held and waiting generations included', async () => {
    const { url, state, close } = await start({ generationMs: 60_000 });
    state.hold(0);
    const code = (answer: Promise<Answer>) => answer.catch((error: NodeJS.ErrnoException) => error.code);
    const first = await held(state, () => txt2img(url));
    const second = await received(state, () => txt2img(url));
    const codes = Promise.all([code(first.answer), code(second.answer)]);
    await Promise.all([close(), close()]);
    expect(await codes).toEqual(['ECONNRESET', 'ECONNRESET']);
    expect({ running: state.running, waiting: state.waiting }).toEqual({ running: 0, waiting: 0 });
  });
});

describe('progress', () => {
  it('tells what runs, and nothing when idle', async () => {
    const { url, state } = await start();
    const idle = JSON.parse((await call(`${url}/sdapi/v1/progress`)).text);
    expect(idle).toMatchObject({ progress: 0, eta_relative: 0, current_image: null, textinfo: null });
    state.hold(6);
    const { answer } = await held(state, () => txt2img(url, { n_iter: 2 }));
    const running = await call(`${url}/sdapi/v1/progress`);
    expect(JSON.parse(running.text)).toMatchObject({
      progress: 0.76,
      state: {
        skipped: false,
        interrupted: false,
        stopping_generation: false,
        job: 'Batch 2 out of 2',
        job_count: 2,
        job_no: 1,
        sampling_step: 2,
        sampling_steps: 4,
      },
    });
    const preview = Buffer.from(JSON.parse(running.text).current_image, 'base64');
    expect(inspectPng(preview)).toMatchObject({ width: 8, height: 6 });
    const bare = await call(`${url}/sdapi/v1/progress?skip_current_image=true`);
    expect(JSON.parse(bare.text).current_image).toBeNull();
    state.release();
    await answer;
    expect(JSON.parse((await call(`${url}/sdapi/v1/progress`)).text)).toMatchObject({
      progress: 0,
      state: { job: '', job_count: 0 },
    });
  });

  it('moves with time', async () => {
    const { url, state } = await start({ generationMs: 15_000 });
    const started = once(state, 'started');
    const answer = txt2img(url, { steps: 500 });
    await started;
    const seen = new Set<number>();
    while (seen.size < 3 && state.running > 0) {
      seen.add(JSON.parse((await call(`${url}/sdapi/v1/progress`)).text).progress);
    }
    expect(seen.size).toBe(3);
    expect([...seen]).toEqual([...seen].sort());
    await post(url, '/sdapi/v1/interrupt');
    await answer;
  });

  it('is told for a task by its id', async () => {
    const { url, state } = await start();
    const ask = async (id_task: string, more = {}) =>
      JSON.parse((await post(url, '/internal/progress', { id_task, ...more })).text);
    state.hold(2);
    const { answer: first } = await held(state, () => txt2img(url, { force_task_id: 'first' }));
    const { answer: second } = await received(state, () => txt2img(url, { force_task_id: 'second' }));
    expect(await ask('first')).toMatchObject({
      active: true,
      queued: false,
      completed: false,
      progress: 0.5,
      live_preview: expect.stringMatching(/^data:image\/png;base64,iVBOR/),
      id_live_preview: 2,
    });
    expect(await ask('first', { id_live_preview: 2 })).toMatchObject({ live_preview: null });
    expect(await ask('first', { live_preview: false })).toMatchObject({ live_preview: null });
    expect(await ask('second')).toEqual({
      active: false,
      queued: true,
      completed: false,
      progress: null,
      eta: null,
      live_preview: null,
      id_live_preview: -1,
      textinfo: 'In queue: 1/1',
    });
    state.release();
    await Promise.all([first, second]);
    expect(await ask('first')).toMatchObject({ active: false, queued: false, completed: true });
    expect(await ask('other')).toMatchObject({ completed: false, textinfo: 'Waiting...' });
  });
});

describe('interrupt and skip', () => {
  it('end a generation before its first step without an image', async () => {
    const { url, state } = await start();
    state.hold(0);
    const { answer } = await held(state, () => txt2img(url));
    const interrupt = await post(url, '/sdapi/v1/interrupt');
    expect(interrupt).toMatchObject({ status: 200, text: '{}' });
    expect(imagesOf(await answer)).toEqual([]);
    state.release();
    expect(imagesOf(await txt2img(url))).toHaveLength(1);
  });

  it('keep the images so far, and the one in work as it is', async () => {
    const { url, state } = await start();
    const whole = imagesOf(await txt2img(url, { n_iter: 3 }));
    state.hold(6);
    const { answer } = await held(state, () => txt2img(url, { n_iter: 3 }));
    await post(url, '/sdapi/v1/interrupt');
    const images = imagesOf(await answer);
    expect(images).toHaveLength(2);
    expect(images[0]).toEqual(whole[0]);
    expect(images[1]).not.toEqual(whole[1]);
    expect(inspectPng(images[1] as Buffer)).toMatchObject({ width: 64, height: 48 });
  });

  it('interrupt a generation that is taking its time', async () => {
    const { url, state } = await start({ generationMs: 60_000 });
    const started = once(state, 'started');
    const answer = txt2img(url);
    await started;
    await post(url, '/sdapi/v1/interrupt');
    expect(imagesOf(await answer)).toEqual([]);
  });

  it('skip one batch only', async () => {
    const { url, state } = await start();
    state.hold(2);
    const { answer } = await held(state, () => txt2img(url, { n_iter: 2 }));
    expect(await post(url, '/sdapi/v1/skip')).toMatchObject({ status: 200, text: 'null' });
    expect(imagesOf(await answer)).toHaveLength(2);
  });
});

describe('errors', () => {
  const http500 = (detail: string) => ({ error: 'HTTPException', detail, body: '', errors: '' });
  const wrong = (field: string, msg: string, type: string) => ({
    detail: [{ loc: ['body', field], msg, type }],
  });

  it.each([
    [{ steps: 'abc' }, 422, wrong('steps', 'value is not a valid integer', 'type_error.integer')],
    [{ cfg_scale: [] }, 422, wrong('cfg_scale', 'value is not a valid float', 'type_error.float')],
    [{ prompt: {} }, 422, wrong('prompt', 'str type expected', 'type_error.str')],
    [
      { send_images: 'maybe' },
      422,
      wrong('send_images', 'value could not be parsed to a boolean', 'type_error.bool'),
    ],
    [
      { send_images: null },
      422,
      wrong('send_images', 'none is not an allowed value', 'type_error.none.not_allowed'),
    ],
    [
      { override_settings: 1 },
      422,
      wrong('override_settings', 'value is not a valid dict', 'type_error.dict'),
    ],
    [
      { styles: ['a', {}] },
      422,
      { detail: [{ loc: ['body', 'styles', 1], msg: 'str type expected', type: 'type_error.str' }] },
    ],
    [{ sampler_name: 'Nope' }, 400, http500('Sampler not found')],
    [{ script_name: 'x/y/z plot' }, 422, http500("Script 'x/y/z plot' not found")],
    [{ alwayson_scripts: { controlnet: {} } }, 422, http500("Script 'controlnet' not found")],
    [
      { width: 100_000, height: 100_000 },
      500,
      { error: 'OutOfMemoryError', detail: '', body: '', errors: expect.any(String) },
    ],
  ])('answer %j with %i', async (fields, status, body) => {
    const { url, state } = await start();
    const answer = await txt2img(url, fields);
    expect([answer.status, JSON.parse(answer.text)]).toEqual([status, body]);
    expect(state.generations[0]).toMatchObject({ status, images: [] });
  });

  const unreadable = http500('There was an error parsing the body');
  const detail = (problem: object) => ({ detail: [expect.objectContaining(problem)] });

  it.each([
    ['broken JSON', '{"prompt": }', 'application/json', 422, detail({ loc: ['body', 11] })],
    ['nothing in it', '', 'application/json', 422, detail({ type: 'value_error.missing' })],
    ['another type', '{}', 'text/plain', 422, detail({ loc: ['body'] })],
    ['no object', '3', 'application/json', 422, detail({ type: 'type_error.dict' })],
    ['no UTF-8', Buffer.from([0x22, 0xff, 0x22]), 'application/json', 400, unreadable],
    ['too many levels', '['.repeat(1e6), 'application/json', 400, unreadable],
  ])('answer a body with %s', async (_, body, type, status, expected) => {
    const { url } = await start();
    const answer = await post(url, '/sdapi/v1/txt2img', body, { 'content-type': type });
    expect([answer.status, JSON.parse(answer.text)]).toEqual([status, expected]);
  });

  it('takes JSON of any JSON type or none, and the older names of samplers', async () => {
    const { url } = await start();
    const body = JSON.stringify({ ...SMALL, sampler_name: 'DPM++ 2M Karras' });
    for (const headers of [
      {},
      { 'content-type': 'application/ld+json' },
      { 'content-type': 'Application/JSON; charset=utf-8' },
    ]) {
      const answer = await post(url, '/sdapi/v1/txt2img', body, headers);
      expect(answer.status).toBe(200);
      expect(infoOf(answer).sampler_name).toBe('DPM++ 2M');
    }
  });

  it('are as A1111 has them for img2img', async () => {
    const { url } = await start();
    const img2img = async (fields: object) => {
      const answer = await post(url, '/sdapi/v1/img2img', { ...SMALL, ...fields });
      return [answer.status, JSON.parse(answer.text)];
    };
    const [image] = imagesOf(await txt2img(url));
    const cut = (image as Buffer).subarray(0, 200).toString('base64');
    expect(await img2img({})).toEqual([404, http500('Init image not found')]);
    expect(await img2img({ init_images: ['%%%'] })).toEqual([500, http500('Invalid encoded image')]);
    expect(await img2img({ init_images: [cut] })).toEqual([500, http500('Invalid encoded image')]);
    expect(await img2img({ init_images: [] })).toMatchObject([500, { error: 'RuntimeError' }]);
  });
});

describe('words in a prompt', () => {
  it('[fail] fails when half of the time is over, and lets the next one run', async () => {
    const { url, state } = await start();
    state.hold();
    const { answer } = await held(state, () => txt2img(url, { prompt: '[fail]' }));
    expect(JSON.parse((await call(`${url}/sdapi/v1/progress`)).text).state.sampling_step).toBe(1);
    state.release();
    const { status, text } = await answer;
    expect([status, JSON.parse(text)]).toMatchObject([500, { error: 'OutOfMemoryError', detail: '' }]);
    expect((await txt2img(url)).status).toBe(200);
  });

  it('[refuse] is refused while another one runs', async () => {
    const { url, state } = await start();
    state.hold();
    const { answer: other } = await held(state, () => txt2img(url));
    const { status, text } = await txt2img(url, { prompt: 'a [refuse]' });
    expect([status, JSON.parse(text)]).toMatchObject([500, { error: 'RuntimeError' }]);
    state.release();
    await other;
  });

  it('[die] breaks the connection in the middle of the answer', async () => {
    const { url } = await start();
    const res = await new Promise<http.IncomingMessage>((resolve, reject) => {
      const req = http.request(`${url}/sdapi/v1/txt2img`, { method: 'POST' }, resolve);
      req.on('error', reject).end(JSON.stringify({ ...SMALL, prompt: '[die]' }));
    });
    let bytes = 0;
    res.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
    });
    const [error] = await once(res, 'error');
    expect(error).toMatchObject({ code: 'ECONNRESET' });
    expect(res.statusCode).toBe(200);
    expect(bytes).toBe(Math.floor(Number(res.headers['content-length']) / 2));
  });

  it('[half] ends an image in the middle, [empty] sends none', async () => {
    const { url } = await start();
    const [half, whole] = imagesOf(await txt2img(url, { prompt: '[half]', n_iter: 2 }));
    expect(half?.subarray(1, 4).toString()).toBe('PNG');
    expect(half?.includes('IEND')).toBe(false);
    inspectPng(whole as Buffer);
    expect(imagesOf(await txt2img(url, { prompt: '[empty]' }))).toEqual([]);
  });

  it('[slow] takes ten times as long', async () => {
    const { url } = await start({ generationMs: 30 });
    const seconds = async (prompt: string) =>
      Number((await txt2img(url, { prompt })).headers['x-process-time']);
    expect(await seconds('a lake')).toBeGreaterThanOrEqual(0.03);
    expect(await seconds('[slow]')).toBeGreaterThanOrEqual(0.3);
  });
});

describe('routes', () => {
  it('are found and refused as by Starlette', async () => {
    const { url } = await start();
    const tried = async (method: string, path: string) => {
      const { status, text, headers } = await call(url + path, { method });
      return [status, text, headers.allow ?? headers.location];
    };
    expect(await tried('GET', '/nothing')).toEqual([404, '{"detail":"Not Found"}', undefined]);
    expect(await tried('GET', '/sdapi/v1/txt2img')).toEqual([405, '{"detail":"Method Not Allowed"}', 'POST']);
    expect(await tried('HEAD', '/sdapi/v1/progress')).toEqual([405, '', 'GET']);
    expect(await tried('POST', '/sdapi/v1/txt2img/?a=1')).toEqual([307, '', `${url}/sdapi/v1/txt2img?a=1`]);
    expect(await tried('GET', '/internal/ping')).toEqual([200, '{}', undefined]);
  });

  it('below /sdapi are there with api only', async () => {
    const { url } = await start({ api: false });
    expect(await txt2img(url)).toMatchObject({ status: 404, text: '{"detail":"Not Found"}' });
    const ping = await call(`${url}/internal/ping`);
    expect(ping.status).toBe(200);
    expect(ping.headers['x-process-time']).toBeUndefined();
  });

  it('below /sdapi need the credentials of apiAuth', async () => {
    const { url } = await start({ apiAuth: 'ann:one,bob:two' });
    const tried = async (authorization?: string) => {
      const { status, text, headers } = await txt2img(url, {}, authorization ? { authorization } : {});
      expect(headers['www-authenticate']).toBeUndefined();
      return status === 200 ? 200 : [status, JSON.parse(text).detail];
    };
    const basic = (credentials: string) => `Basic ${Buffer.from(credentials).toString('base64')}`;
    expect(await tried()).toEqual([401, 'Not authenticated']);
    expect(await tried(basic('ann:two'))).toEqual([401, 'Incorrect username or password']);
    expect(await tried(basic('bob'))).toEqual([401, 'Invalid authentication credentials']);
    expect(await tried(basic('bob:two'))).toBe(200);
    expect((await call(`${url}/sdapi/v1/samplers`)).status).toBe(401);
    expect((await call(`${url}/internal/ping`)).status).toBe(200);
    expect((await post(url, '/sdapi/v1/txt2img', '{')).status).toBe(422);
  });

  it('tell about samplers, models, settings and memory', async () => {
    const { url } = await start();
    const get = async (name: string) => JSON.parse((await call(`${url}/sdapi/v1/${name}`)).text);
    expect(await get('samplers')).toContainEqual({ name: 'Euler', aliases: [], options: {} });
    expect(await get('schedulers')).toContainEqual(expect.objectContaining({ label: 'Karras' }));
    expect(await get('sd-models')).toEqual([expect.objectContaining({ model_name: 'demo' })]);
    expect(await get('upscalers')).toEqual([expect.objectContaining({ name: 'None' })]);
    expect(await get('scripts')).toEqual({ txt2img: [], img2img: [] });
    expect(await get('cmd-flags')).toMatchObject({ api: true });
    expect(await get('memory')).toMatchObject({ cuda: { error: 'unavailable' } });
    const change = { samples_format: 'webp', sd_model_checkpoint: 'demo' };
    expect(await post(url, '/sdapi/v1/options', change)).toMatchObject({ status: 200, text: 'null' });
    expect(await get('options')).toMatchObject(change);
    const unknown = await post(url, '/sdapi/v1/options', { sd_model_checkpoint: 'x' });
    expect([unknown.status, JSON.parse(unknown.text).errors]).toEqual([500, "model 'x' not found"]);
  });

  it('read the infotext of an image back', async () => {
    const { url } = await start();
    const [image] = imagesOf(await txt2img(url, { prompt: 'two\nlines', negative_prompt: '霧' }));
    const { text } = await post(url, '/sdapi/v1/png-info', { image: image?.toString('base64') });
    expect(JSON.parse(text)).toEqual({
      info: expect.stringMatching(/^two\nlines\nNegative prompt: 霧\nSteps: 4, /),
      items: {},
      parameters: expect.objectContaining({
        Prompt: 'two\nlines',
        'Negative prompt': '霧',
        Steps: '4',
        'CFG scale': '7.0',
        'Size-1': '64',
        'Size-2': '48',
      }),
    });
  });

  it('show a page at / that says what this is', async () => {
    const { url } = await start();
    const { status, headers, text } = await call(url);
    expect([status, headers['content-type']]).toEqual([200, 'text/html; charset=utf-8']);
    expect(text).toContain('This is not Automatic1111');
    for (const word of ['[fail]', '[refuse]', '[die]', '[slow]', '[half]', '[empty]']) {
      expect(text).toContain(word);
    }
  });

  it('echo WebSocket messages at /queue/join, and nowhere else', async () => {
    const { url } = await start();
    const socket = new WebSocket(`${url.replace('http', 'ws')}/queue/join`);
    await once(socket, 'open');
    const echoes: unknown[] = [];
    socket.on('message', (data, isBinary) => echoes.push([String(data), isBinary]));
    socket.send('text');
    await once(socket, 'message');
    socket.send(Buffer.from('bytes'));
    await once(socket, 'message');
    expect(echoes).toEqual([
      ['text', false],
      ['bytes', true],
    ]);
    socket.close();
    await once(socket, 'close');
    const other = new WebSocket(`${url.replace('http', 'ws')}/ws`);
    const [error] = await once(other, 'error');
    expect(String(error)).toContain('403');
  });
});

describe("Python's JSON", () => {
  it('is read as JSON.parse reads it', () => {
    fc.assert(
      fc.property(fc.json({ maxDepth: 5 }), (text) => {
        const value = parsePythonJson(text);
        expect(JSON.parse(dumpCompact(value))).toEqual(JSON.parse(text));
        expect(JSON.parse(dumpSpaced(value))).toEqual(JSON.parse(text));
      }),
    );
  });

  it('is refused where JSON.parse refuses it', () => {
    const pieces = fc.constantFrom(...'{}[]:,"\\ \n\t0123456789.eE+-truefalsnu/ux');
    fc.assert(
      fc.property(fc.array(pieces, { maxLength: 12 }), (list) => {
        const text = list.join('');
        const accepts = (parse: (text: string) => unknown) => {
          try {
            parse(text);
            return true;
          } catch {
            return false;
          }
        };
        expect(accepts(parsePythonJson)).toBe(accepts(JSON.parse));
      }),
      { numRuns: 5000, examples: [[['"', '\n', 'n', '"']]] },
    );
  });

  it('says where it breaks, and writes floats as Python does', () => {
    expect(() => parsePythonJson('{"a": 1,\n 2}')).toThrow(
      'Expecting property name enclosed in double quotes: line 2 column 2 (char 10)',
    );
    expect(dumpSpaced([1, -0, 0.1, 1e-4, 1.5e-5, 1e15, 1e16, 12345678901234567n])).toBe(
      '[1.0, -0.0, 0.1, 0.0001, 1.5e-05, 1000000000000000.0, 1e+16, 12345678901234567]',
    );
  });
});

describe('the program', () => {
  const program = fileURLToPath(new URL('../../examples/demo-backend.ts', import.meta.url));
  const children: ChildProcess[] = [];

  afterEach(() => {
    for (const child of children.splice(0)) child.kill('SIGKILL');
  });

  function run(env: NodeJS.ProcessEnv) {
    const child = spawn(process.execPath, ['--import', 'tsx', program], {
      env: { ...process.env, NODE_OPTIONS: '', HOST: '', DEMO_SECONDS: '0', ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    children.push(child);
    // at once, because Node throws away what nobody has read when a child ends
    const line = (stream: NodeJS.ReadableStream) =>
      once(createInterface(stream), 'line').then(([text]) => String(text));
    return { child, output: line(child.stdout), complaint: line(child.stderr) };
  }

  it('prints its address, refuses a taken port, and ends at once with a signal', async () => {
    const first = run({ PORT: '0' });
    const printed = await first.output;
    expect(printed).toMatch(/^Demo backend on http:\/\/127\.0\.0\.1:\d+ \(0 s a generation\)$/);
    const url = /http:\S+/.exec(printed)?.[0] as string;
    expect(imagesOf(await txt2img(url))).toHaveLength(1);

    const { port } = new URL(url);
    const second = run({ PORT: port });
    const wrong = run({ DEMO_SECONDS: 'soon' });
    const ends = [once(second.child, 'exit'), once(wrong.child, 'exit')];
    expect(await second.complaint).toBe(
      `Port ${port} of 127.0.0.1 is taken. Stop what listens there, or set PORT to a free one.`,
    );
    expect(await wrong.complaint).toBe('Expected DEMO_SECONDS to be a number from 0, got "soon"');
    expect(await Promise.all(ends)).toEqual([
      [1, null],
      [1, null],
    ]);

    const end = once(first.child, 'exit');
    first.child.kill('SIGTERM');
    expect(await end).toEqual([0, null]);
  }, 60_000); // three starts of a process, on a busy machine
});
