import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import fc from 'fast-check';
import { createDemoA1111, type DemoA1111 } from '../../examples/demo-backend.js';
import { automatic1111 } from '../../lib/backends/automatic1111.js';
import type { AnswerCapture, CapturedAnswer, CaptureOptions } from '../../lib/backends/backend.js';
import { Spool } from '../../lib/http/spool.js';
import type { SidecarHeader } from '../../lib/images/answer-sidecar.js';
import { FileImageStore } from '../../lib/images/file-image-store.js';
import type { ImageStore, ImageWriter } from '../../lib/images/image-store.js';
import { openKeptAnswer } from '../../lib/images/kept-answer.js';
import { pieceSizes, piecesOf } from '../helpers/byte-splits.js';
import { post } from '../helpers/client.js';
import { startGateway } from '../helpers/gateway.js';
import { handlerCases } from '../helpers/handlers.js';
import { collectLog } from '../helpers/job-records.js';
import { openFilesBelow, until } from '../helpers/kept-jobs.js';
import { makePng, sampleImages } from '../helpers/sample-images.js';
import { answerWith, bigPng, gate, sendAnswer, startScriptedBackend } from '../helpers/scripted-backend.js';
import { tempFolders } from '../helpers/temp-folder.js';

const newFolder = tempFolders();
const png = sampleImages.png as Buffer;
const jpeg = sampleImages['baseline jpeg'] as Buffer;
const whole = png.toString('base64');

let folder: string;
let store: FileImageStore;
/** Those that a test keeps from ever ending by themselves. */
const stuckWriters: ImageWriter[] = [];

beforeEach(async () => {
  folder = await newFolder();
  store = new FileImageStore({ folder: join(folder, 'output'), logger: collectLog() });
  await store.open();
});

afterEach(async () => {
  jest.useRealTimers();
  for (const writer of stuckWriters.splice(0)) await writer.discard();
});

const captureWith = (differences: Partial<CaptureOptions> = {}): AnswerCapture =>
  automatic1111.captureAnswer({
    images: store,
    stem: '2026-11-22/Ab12Cd34',
    jobId: 'Ab12Cd34',
    status: 200,
    contentType: 'application/json',
    imagesUnwanted: false,
    spoolDirectory: join(folder, 'spool'),
    ...differences,
  });

async function captured(
  answer: string | Buffer,
  differences?: Partial<CaptureOptions>,
): Promise<CapturedAnswer> {
  const capture = captureWith(differences);
  for (const piece of piecesOf(Buffer.from(answer), [7, 1, 1000])) capture.write(piece);
  return weighed(await capture.end());
}

/** The same, once `bytes` has been found to be what the files have on the disk, and absent where there is none. */
async function weighed(answer: CapturedAnswer): Promise<CapturedAnswer> {
  const paths = [...answer.output_paths, ...(answer.sidecar === undefined ? [] : [answer.sidecar])];
  const files = await Promise.all(paths.map((path) => readKept(path)));
  const bytes = files.reduce((sum, file) => sum + file.length, 0);
  expect([answer.bytes, 'bytes' in answer]).toEqual(files.length > 0 ? [bytes, true] : [undefined, false]);
  return answer;
}

/** The files that are kept, by name; none that is unfinished. */
async function keptNames(): Promise<string[]> {
  const entries = await readdir(join(folder, 'output'), { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map((entry) => entry.name);
}

const readKept = (path: string) => readFile(join(folder, 'output', path));

/** A sidecar as it is on the disk: JSON in two lines, the second of which holds the answer's text. */
async function readSidecar(path = ''): Promise<{ header: SidecarHeader; text: Buffer }> {
  const file = await readKept(path);
  JSON.parse(file.toString());
  const [line = ''] = file.toString().split('\n', 1);
  const textStart = Buffer.byteLength(line) + '\n"answer":'.length;
  const header = JSON.parse(`${line.slice(0, -1)}}`) as SidecarHeader;
  expect(file.subarray(textStart - 9, textStart).toString()).toBe('"answer":');
  expect(file.subarray(-2).toString()).toBe('}\n');
  const text = file.subarray(textStart, -2);
  expect(text).toHaveLength(header.text_bytes);
  return { header, text };
}

/** The answer as it was, from the sidecar and the images beside it; undefined where that cannot be. */
async function givenAgain(path = ''): Promise<Buffer | undefined> {
  const kept = await openKeptAnswer(store, path);
  if (!kept) return undefined;
  const pieces: Buffer[] = [];
  for await (const piece of kept.chunks()) pieces.push(piece);
  await kept.close();
  return Buffer.concat(pieces);
}

/** What the sidecar says is where `info` and `parameters` are. */
async function membersOf(path: string | undefined): Promise<Record<string, string>> {
  const { header, text } = await readSidecar(path);
  return Object.fromEntries(
    Object.entries(header.members).map(([name, [start, end]]) => [name, text.toString('utf8', start, end)]),
  );
}

describe('what the demo backend answers', () => {
  let backend: DemoA1111;
  let url: string;

  beforeEach(async () => {
    backend = createDemoA1111({ generationMs: 0 });
    url = await backend.listen();
  });

  afterEach(() => backend.close());

  test.each([1, 3])(
    '%d images: the files are the images, and with the sidecar they are the answer',
    async (batch_size) => {
      const body = { prompt: 'Wellen \u{1F30A} "/"', batch_size, width: 96, height: 64, steps: 2 };
      const { body: answer } = await post(`${url}/sdapi/v1/txt2img`, body).answer;
      const { output_paths, sidecar, problem } = await captured(answer);
      expect(problem).toBeUndefined();
      expect(output_paths).toEqual(
        Array.from({ length: batch_size }, (_, n) => `2026-11-22/Ab12Cd34-${n}.png`),
      );
      for (const [n, path] of output_paths.entries()) {
        expect(await readKept(path)).toEqual(backend.state.generations[0]?.images[n]);
      }
      expect(sidecar).toBe('2026-11-22/Ab12Cd34.json');
      expect((await givenAgain(sidecar))?.equals(answer)).toBe(true);
      const { header } = await readSidecar(sidecar);
      expect(header).toMatchObject({
        id: 'Ab12Cd34',
        status: 200,
        content_type: 'application/json',
        exact: true,
      });
      const text = answer.toString();
      expect(await membersOf(sidecar)).toEqual({
        parameters: text.slice(text.indexOf('"parameters":') + 13, text.indexOf(',"info":"')),
        info: text.slice(text.indexOf(',"info":"') + 8, -1),
      });
    },
  );

  const wrapped = handlerCases.find(({ name }) => name === 'http.request and pipe');
  const timeless = (text: Buffer) => text.toString().replace(/(\\"job_timestamp\\": \\")\d+/, '$1');

  test.each([
    ['wrap', false, { send_images: false }],
    ['wrap', false, { send_images: 0 }],
    ['wrap', false, { send_images: 'No' }],
    ['wrap', 0, { send_images: false }],
    ['forward', false, { send_images: false, force_task_id: 'task(mine)' }],
  ] as const)(
    '%s mode, headAfter %p, %j: the client gets what it would have got',
    async (mode, headAfter, fields) => {
      const body = {
        ...{ prompt: 'ohne', seed: 7, subseed: 8, batch_size: 2, width: 64, height: 64, steps: 2 },
        ...fields,
      };
      const { body: expected } = await post(`${url}/sdapi/v1/txt2img`, body).answer;
      const gateway = await startGateway({
        dir: join(folder, 'tracker'),
        headAfter,
        ...(mode === 'forward' ? { a1111: url } : { behind: (app) => wrapped?.behind(app, url) }),
      });
      try {
        const answer = await post(`${gateway.url}/sdapi/v1/txt2img`, body).answer;
        expect(timeless(answer.body)).toBe(timeless(expected));
        expect(answer.body.toString()).toContain('"images":[]');
        const job = await gateway.ended(answer.headers['x-job-id'] as string);
        expect(job).toMatchObject({ status: 'Completed', request: { send_images: fields.send_images } });
        for (const [n, path] of job.output_paths.entries()) {
          const image = await readFile(join(folder, 'tracker', 'output', path));
          expect(image).toEqual(backend.state.generations.at(-1)?.images[n]);
        }
        expect(job.output_paths).toHaveLength(2);
      } finally {
        await gateway.close();
      }
    },
  );

  test('an error stays one for a client that wants no images', async () => {
    const body = { prompt: '[refuse]', send_images: false };
    const { body: expected } = await post(`${url}/sdapi/v1/txt2img`, body).answer;
    const gateway = await startGateway({ dir: join(folder, 'tracker'), a1111: url });
    try {
      const answer = await post(`${gateway.url}/sdapi/v1/txt2img`, body).answer;
      expect([answer.status, answer.body.toString()]).toEqual([500, expected.toString()]);
    } finally {
      await gateway.close();
    }
  });
});

describe('answers of every shape', () => {
  const tail = '"parameters":{"cfg_scale":7.0},"info":"{\\"seed\\": 18446744073709551615}"';

  const exact: [what: string, answer: string, images: [extension: string, bytes: Buffer][]][] = [
    ['one image', `{"images":["${whole}"],${tail}}`, [['png', png]]],
    [
      'other formats',
      `{"images":["${jpeg.toString('base64')}","${whole}"],${tail}}`,
      [
        ['jpg', jpeg],
        ['png', png],
      ],
    ],
    [
      'white space everywhere',
      ` {\n "images" : [ "${whole}" ,\t"${whole}" ] ,\r\n ${tail} } \n`,
      [
        ['png', png],
        ['png', png],
      ],
    ],
    [
      'another order and extra keys',
      `{"x":{"images":["no"]},${tail},"images":["${whole}"],"y":[1.50,[]]}`,
      [['png', png]],
    ],
    ['a data URL', `{"images":["data:image/png;base64,${whole}"],${tail}}`, [['png', png]]],
    [
      'escaped slashes',
      `{"images":["${jpeg.toString('base64').replaceAll('/', '\\/')}"],${tail}}`,
      [['jpg', jpeg]],
    ],
    [
      'an escaped data URL',
      `{"images":["data:image\\/png;base64,${whole.replaceAll('/', '\\/')}"],${tail}}`,
      [['png', png]],
    ],
    [
      'a short text among the images',
      `{"images":["no image, sorry","${whole}","a!b"],${tail}}`,
      [['png', png]],
    ],
    [
      'what is no text among the images',
      `{"images":[null,"${whole}",5,{"a":["b"]}],${tail}}`,
      [['png', png]],
    ],
    ['no info and no parameters', `{"images":["${whole}"]}`, [['png', png]]],
    [
      'info and parameters of other kinds',
      `{"images":["${whole}"],"parameters":null,"info":{"a":1}}`,
      [['png', png]],
    ],
    ['a name with an escape', `{"im\\u0061ges":["${whole}"],${tail}}`, [['png', png]]],
    [
      'an unknown format',
      `{"images":["${Buffer.from('something else').toString('base64')}"]}`,
      [['bin', Buffer.from('something else')]],
    ],
    [
      'letters beyond ASCII',
      `{"ä\u{1F30A}":"ö","images":["${whole}"],"parameters":{"prompt":"ü\u{1F30A}"}}`,
      [['png', png]],
    ],
    ['Python’s NaN', `{"images":["${whole}"],"parameters":{"a":NaN}}`, [['png', png]]],
  ];

  test.each(exact)('%s: kept, and given again byte for byte', async (what, answer, images) => {
    const { output_paths, sidecar, problem } = await captured(answer);
    expect(problem).toBeUndefined();
    const files = await Promise.all(output_paths.map((path) => readKept(path)));
    expect(output_paths.map((path, n) => [path.split('.').at(-1), files[n]])).toEqual(images);
    if (what === 'Python’s NaN') {
      expect((await readKept(sidecar as string)).toString()).toContain(answer.replace(whole, ''));
      return;
    }
    expect((await givenAgain(sidecar))?.toString()).toBe(answer);
    expect((await readSidecar(sidecar)).header.exact).toBe(true);
  });

  test('base64 that is another one after decoding is kept, and said not to be exact', async () => {
    for (const [n, base64] of [
      whole.replaceAll('+', '-').replaceAll('/', '_'),
      whole.replace(/=+$/, ''),
      `${whole.slice(0, 40)}\\n${whole.slice(40)}`,
    ].entries()) {
      const answer = `{"images":["${base64}"],${tail}}`;
      const { output_paths, sidecar, problem } = await captured(answer, { stem: `2026-11-22/Exact00${n}` });
      expect(problem).toBeUndefined();
      expect(await readKept(output_paths[0] as string)).toEqual(png);
      const { exact } = (await readSidecar(sidecar)).header;
      expect((await givenAgain(sidecar))?.toString()).toBe(exact ? answer : undefined);
      expect(exact).toBe(base64 === whole);
    }
  });

  const noise = 'Zm9v'.repeat(3_000);
  const large = bigPng(9_000).toString('base64');
  const bad: [what: string, answer: string, code: string, message: string, kept: number][] = [
    [
      'base64 that stops inside of a byte',
      `{"images":["${whole.slice(0, -7)}"]}`,
      'backend',
      'images[0] ends too early',
      0,
    ],
    [
      'an image that ends early',
      `{"images":["${png.subarray(0, -1).toString('base64')}"]}`,
      'backend',
      'images[0] ends too early',
      0,
    ],
    [
      'half an image',
      `{"images":["${png.subarray(0, png.length / 2).toString('base64')}"]}`,
      'backend',
      'images[0] ends too early',
      0,
    ],
    [
      'a JPEG without its end',
      `{"images":["${jpeg.subarray(0, -2).toString('base64')}"]}`,
      'backend',
      'images[0] ends too early',
      0,
    ],
    [
      'a second image that ends early',
      `{"images":["${whole}","${whole.slice(0, -8)}"]}`,
      'backend',
      'images[1] ends too early',
      1,
    ],
    [
      'a first image that ends early',
      `{"images":["${whole.slice(0, -8)}","${whole}"]}`,
      'backend',
      'images[0] ends too early',
      1,
    ],
    [
      'other characters in the base64',
      `{"images":["${large.slice(0, 6_000)}!${large.slice(6_001)}"]}`,
      'backend',
      'images[0] is not base64',
      0,
    ],
    [
      'base64 in pieces',
      `{"images":["${large.slice(0, 5_000)}==${large.slice(5_000)}"]}`,
      'backend',
      'images[0] is not base64',
      0,
    ],
    [
      'a long text',
      `{"images":["${'no image, sorry. '.repeat(500)}","${whole}"]}`,
      'backend',
      'images[0] is not base64',
      1,
    ],
    ['a short text only', '{"images":["no image, sorry"]}', 'backend', 'images[0] is not base64', 0],
    ['an empty text', '{"images":[""]}', 'backend', 'images[0] is not base64', 0],
    ['no image', `{"images":[],${tail}}`, 'empty', 'The answer has no image in it', 0],
    [
      'things that are no texts',
      `{"images":[null,5,true,["${whole}"],{}],${tail}}`,
      'empty',
      'The answer has no image in it',
      0,
    ],
    ['images: null', `{"images":null,${tail}}`, 'empty', 'The answer has no array `images`', 0],
    [
      'images that are a text',
      `{"images":"${whole}",${tail}}`,
      'empty',
      'The answer has no array `images`',
      0,
    ],
    [
      'images that are an object',
      `{"images":{"0":"${whole}"},${tail}}`,
      'empty',
      'The answer has no array `images`',
      0,
    ],
    ['no images at all', `{${tail}}`, 'empty', 'The answer has no array `images`', 0],
    ['an empty object', '{}', 'empty', 'The answer has no array `images`', 0],
    ['nothing', '', 'backend', 'The answer is not whole JSON: ended-early', 0],
    [
      'HTML',
      '<!doctype html><html><body>It works!</body></html>',
      'backend',
      'The answer is not whole JSON: not-an-object',
      0,
    ],
    ['an array', `["${whole}"]`, 'backend', 'The answer is not whole JSON: not-an-object', 0],
    ['a text', `"${noise}"`, 'backend', 'The answer is not whole JSON: not-an-object', 0],
    [
      'JSON that ends in the info',
      `{"images":["${whole}"],"info":"`,
      'backend',
      'The answer is not whole JSON: ended-early',
      1,
    ],
    [
      'JSON that ends in an image',
      `{"images":["${whole}","${whole.slice(0, 50)}`,
      'backend',
      'The answer is not whole JSON: ended-early',
      1,
    ],
    [
      'something behind the JSON',
      `{"images":["${whole}"]}{}`,
      'backend',
      'The answer is not whole JSON: garbage-after-end',
      1,
    ],
    [
      'JSON with a mistake',
      `{"images":["${whole}"],,}`,
      'backend',
      'The answer is not whole JSON: malformed',
      1,
    ],
  ];

  test.each(bad)('%s', async (_what, answer, code, message, kept) => {
    const { output_paths, sidecar, problem } = await captured(answer, { status: 207 });
    expect(problem).toEqual({ code, message, status: 207 });
    expect(output_paths).toHaveLength(kept);
    for (const path of output_paths) expect(await readKept(path)).toEqual(png);
    if (sidecar) expect((await readSidecar(sidecar)).header).toMatchObject({ status: 207, exact: false });
    // Nothing else is left behind.
    expect((await keptNames()).length).toBe(kept + (sidecar ? 1 : 0));
    expect(openFilesBelow(folder)).toEqual([]);
  });

  test('an answer that broke off: what is whole is kept', async () => {
    const capture = captureWith();
    capture.write(Buffer.from(`{"images":["${whole}","${whole.slice(0, 80)}`));
    const { output_paths, sidecar, problem } = await weighed(await capture.breakOff());
    expect(output_paths).toEqual(['2026-11-22/Ab12Cd34-0.png']);
    expect([sidecar, problem]).toEqual([undefined, undefined]);
    expect(await keptNames()).toEqual(['Ab12Cd34-0.png']);
    await until(() => openFilesBelow(folder).length === 0);
  });

  test('a text that needs a file on its way is given again, and the file let go of', async () => {
    const close = jest.spyOn(Spool.prototype, 'close');
    try {
      const answer = `{"images":["${whole}"],"parameters":{"image":"${'A'.repeat(1_000_000)}"}}`;
      const capture = captureWith();
      for (const piece of piecesOf(Buffer.from(answer), [65_536])) capture.write(piece);
      const { sidecar, problem } = await capture.end();
      expect(problem).toBeUndefined();
      expect((await givenAgain(sidecar))?.toString()).toBe(answer);
      expect(close).toHaveBeenCalledTimes(1);
      await captured('<html>');
      await captureWith().breakOff();
      expect(close).toHaveBeenCalledTimes(3);
    } finally {
      close.mockRestore();
    }
  });

  test('any answer, in any pieces', async () => {
    const image = fc.oneof(
      fc.constantFrom(...Object.values(sampleImages)),
      fc.uint8Array({ minLength: 40, maxLength: 9_000 }).map((noise) => makePng(7, 9, noise)),
    );
    const one = fc.record({
      image,
      escaped: fc.boolean(),
      prefix: fc.constantFrom('', 'data:image/png;base64,'),
    });
    let run = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.array(one, { minLength: 1, maxLength: 4 }),
        fc.json(),
        pieceSizes,
        async (images, json, sizes) => {
          const strings = images.map(({ image: bytes, escaped, prefix }) => {
            const base64 = bytes.toString('base64');
            return `"${prefix}${escaped ? base64.replaceAll('/', '\\/') : base64}"`;
          });
          const answer = Buffer.from(
            `{"a":${json},"images":[${strings}],"parameters":${json},"info":${JSON.stringify(json)}}`,
          );
          run += 1;
          const capture = captureWith({ stem: `2026-11-22/Run${run}` });
          for (const piece of piecesOf(answer, sizes)) capture.write(piece);
          const { output_paths, sidecar, problem } = await weighed(await capture.end());
          expect(problem).toBeUndefined();
          const files = await Promise.all(output_paths.map((path) => readKept(path)));
          expect(files).toEqual(images.map(({ image: bytes }) => bytes));
          expect((await givenAgain(sidecar))?.equals(answer)).toBe(true);
          expect(await membersOf(sidecar)).toEqual({ parameters: json, info: JSON.stringify(json) });
        },
      ),
      { numRuns: 40 },
    );
  });
});

describe('the answer for a client that wants no images', () => {
  async function clientAnswer(answer: string): Promise<string | undefined> {
    const capture = captureWith({ imagesUnwanted: true });
    for (const piece of piecesOf(Buffer.from(answer), [5, 1, 300])) capture.write(piece);
    const ended = capture.end();
    // It must not have to wait for the disk.
    const instead = capture.clientAnswer()?.toString();
    await ended;
    return instead;
  }

  const echo = '"cfg_scale":7.0,"seed":18446744073709551615';
  const padding = `"alwayson_scripts":{"ControlNet":{"args":[{"image":"${'A'.repeat(300_000)}"}]}}`;

  test.each([
    [
      'as A1111 answers',
      `{"images":["${whole}"],"parameters":{${echo},"send_images":true,"x":1},"info":"i"}`,
      `{"images":[],"parameters":{${echo},"send_images":false,"x":1},"info":"i"}`,
    ],
    [
      'in another order, with white space',
      `{ "parameters" : { "send_images" : true } , "images" : [ "${whole}" , "${whole}" ] }`,
      '{ "parameters" : { "send_images" : false } , "images" : [] }',
    ],
    [
      'with large parameters',
      `{"images":["${whole}"],"parameters":{${padding},"send_images":true}}`,
      `{"images":[],"parameters":{${padding},"send_images":false}}`,
    ],
    ['without an echo', `{"images":["${whole}"],"parameters":{"a":1}}`, '{"images":[],"parameters":{"a":1}}'],
    [
      'with parameters that are no object',
      `{"images":["${whole}"],"parameters":["send_images"]}`,
      '{"images":[],"parameters":["send_images"]}',
    ],
    [
      'with send_images elsewhere',
      `{"images":["${whole}"],"send_images":true,"x":{"send_images":true}}`,
      '{"images":[],"send_images":true,"x":{"send_images":true}}',
    ],
    ['without images', '{"parameters":{"send_images":true}}', '{"parameters":{"send_images":false}}'],
    ['with something behind it', `{"images":["${whole}"]} x`, '{"images":[]} x'],
    ['that is HTML', '<html>"images":["x"]</html>', '<html>"images":["x"]</html>'],
    ['that is empty', '', ''],
  ])('%s', async (_what, answer, expected) => {
    expect(await clientAnswer(answer)).toBe(expected);
  });

  test('who wants images gets what passed', async () => {
    const capture = captureWith();
    capture.write(Buffer.from(`{"images":["${whole}"]}`));
    await capture.end();
    expect(capture.clientAnswer()).toBeUndefined();
  });
});

describe('secrets that a fork repeats in its parameters', () => {
  const filler = `"alwayson_scripts":{"ControlNet":{"args":["${'A'.repeat(200_000)}"]}}`;

  test.each([
    ['both', '{"prompt":"x","auth":"user:hunter2","url":"http://hunter2.example","seed":1}'],
    ['another order, and white space', '{ "url" : "http://hunter2" , "auth" : "hunter2" }'],
    ['parameters that are large', `{${filler},"auth":"user:hunter2","x":1,"url":"hunter2"}`],
    ['a value that is no text', '{"auth":{"user":"hunter2"},"url":["hunter2"]}'],
    ['a name with an escape', '{"\\u0061uth":"hunter2"}'],
    ['a long one', `{"auth":"${'hunter2'.repeat(20_000)}"}`],
    ['one of them only', '{"auth":"hunter2","authority":"kept","x":{"deep":7.0}}'],
  ])('%s: blanked in the sidecar, where nothing else moves', async (_what, parameters) => {
    const answer = Buffer.from(`{"images":["${whole}"],"parameters":${parameters},"info":"{}"}`);
    const smallest = answer.length < 5_000 ? 1 : 1_000;
    for (const [n, sizes] of [[smallest], [7, 5_000], [Number.MAX_SAFE_INTEGER]].entries()) {
      const capture = captureWith({ stem: `2026-11-22/Secret0${n}` });
      for (const piece of piecesOf(answer, sizes)) capture.write(piece);
      const { sidecar, problem } = await capture.end();
      expect(problem).toBeUndefined();
      expect((await readKept(sidecar as string)).includes('hunter2')).toBe(false);
      const { header } = await readSidecar(sidecar);
      expect(header.exact).toBe(false);
      const members = await membersOf(sidecar);
      expect(members.info).toBe('"{}"');
      expect(Buffer.byteLength(members.parameters as string)).toBe(Buffer.byteLength(parameters));
      const { auth, url, ...others } = JSON.parse(parameters);
      const expected = { ...others, ...(auth && { auth: '' }), ...(url && { url: '' }) };
      expect(JSON.parse(members.parameters as string)).toEqual(expected);
      // Every byte but the secrets' is as it was.
      const before = Buffer.from(answer.toString().replace(whole, ''));
      const { text } = await readSidecar(sidecar);
      expect(text).toHaveLength(before.length);
      const changed = [...text].filter((byte, at) => byte !== before[at]);
      expect(Buffer.from(changed).toString().replaceAll('"', '').trim()).toBe('');
    }
  });

  test('empty ones, and members of the same name elsewhere, are left as they are', async () => {
    const answer = `{"auth":"mine","images":["${whole}"],"parameters":{"auth":"","url":"","x":{"auth":"deep"}},"info":"auth"}`;
    const { sidecar } = await captured(answer);
    expect((await givenAgain(sidecar))?.toString()).toBe(answer);
    expect((await readSidecar(sidecar)).header.exact).toBe(true);
  });
});

/** A store of which some parts are replaced. */
function storeWith(parts: Partial<ImageStore>): ImageStore {
  return {
    open: () => store.open(),
    create: (stem) => store.create(stem),
    read: (path) => store.read(path),
    remove: (path) => store.remove(path),
    ...parts,
  };
}

/** The store, and how many files it has finished. */
/** Counts the images that are kept. */
function countFinished(images: ImageStore): { counted: ImageStore; finished: () => number } {
  let finished = 0;
  const counted = storeWith({
    async create(stem) {
      const writer = await images.create(stem);
      return {
        write: (bytes) => writer.write(bytes),
        discard: () => writer.discard(),
        async finish(extension) {
          const path = await writer.finish(extension);
          if (extension !== 'json') finished += 1;
          return path;
        },
      };
    },
  });
  return { counted, finished: () => finished };
}

/** The store, with other writers for the stems that match. */
function storeWithWriters(
  pattern: RegExp,
  change: (writer: ImageWriter) => Partial<ImageWriter>,
): ImageStore {
  return storeWith({
    async create(stem) {
      const writer = await store.create(stem);
      if (!pattern.test(stem)) return writer;
      stuckWriters.push(writer);
      return {
        write: (bytes) => writer.write(bytes),
        finish: (extension) => writer.finish(extension),
        discard: () => writer.discard(),
        ...change(writer),
      };
    },
  });
}

const no = () => Promise.reject(new Error('the disk is full'));
const never = () => new Promise<never>(() => {});
const throwing = () => {
  throw new Error('the disk is full');
};

describe('a store that fails', () => {
  const failures: [what: string, images: () => ImageStore][] = [
    ['create rejects', () => storeWith({ create: no })],
    ['create throws', () => storeWith({ create: throwing })],
    ['write rejects', () => storeWithWriters(/-\d$/, () => ({ write: no }))],
    ['write throws', () => storeWithWriters(/-\d$/, () => ({ write: throwing }))],
    ['finish rejects', () => storeWithWriters(/-\d$/, () => ({ finish: no }))],
    ['finish throws', () => storeWithWriters(/-\d$/, () => ({ finish: throwing }))],
    [
      'write rejects, and discard as well',
      () => storeWithWriters(/-\d$/, (writer) => ({ write: no, discard: () => writer.discard().then(no) })),
    ],
  ];

  test.each(failures)(
    '%s: not_stored, nothing is left, and the answer was never held up',
    async (_what, images) => {
      const capture = captureWith({ images: images() });
      const answer = answerWith([bigPng(3_000_000), bigPng(3_000_000), bigPng(3_000_000)]);
      for (const piece of piecesOf(answer, [65_536])) capture.write(piece);
      const { output_paths, sidecar, problem } = await weighed(await capture.end());
      expect(problem).toEqual({
        code: 'not_stored',
        message: 'images[0] could not be kept: the disk is full',
      });
      expect([output_paths, sidecar]).toEqual([[], undefined]);
      expect(capture.accepting).toBe(true);
      expect(await keptNames()).toEqual([]);
      await until(() => openFilesBelow(folder).length === 0);
    },
  );

  test('for one image only: the others are kept', async () => {
    const images = storeWithWriters(/-1$/, () => ({ finish: no }));
    const { output_paths, sidecar, problem } = await captured(answerWith([png, png, jpeg]), { images });
    expect(problem).toEqual({ code: 'not_stored', message: 'images[1] could not be kept: the disk is full' });
    expect(output_paths).toEqual(['2026-11-22/Ab12Cd34-0.png', '2026-11-22/Ab12Cd34-2.jpg']);
    expect((await readSidecar(sidecar)).header).toMatchObject({ exact: false, images: [{}, {}] });
  });

  test.each([
    ['create', () => storeWith({ create: (stem) => (stem.endsWith('34') ? no() : store.create(stem)) })],
    ['write', () => storeWithWriters(/34$/, () => ({ write: no }))],
    ['finish', () => storeWithWriters(/34$/, () => ({ finish: no }))],
  ])('for the sidecar (%s): the images are kept all the same', async (_what, images) => {
    const { output_paths, sidecar, problem } = await captured(answerWith([png]), { images: images() });
    expect(problem).toEqual({
      code: 'not_stored',
      message: 'The rest of the answer could not be kept: the disk is full',
    });
    expect([output_paths, sidecar]).toEqual([['2026-11-22/Ab12Cd34-0.png'], undefined]);
    expect(await keptNames()).toEqual(['Ab12Cd34-0.png']);
    await until(() => openFilesBelow(folder).length === 0);
  });

  test('the client gets the whole answer, and the record says why there is no image', async () => {
    const backend = createDemoA1111({ generationMs: 0 });
    const images = storeWithWriters(/-\d$/, () => ({ write: no }));
    const gateway = await startGateway({
      dir: join(folder, 'tracker'),
      a1111: await backend.listen(),
      images,
    });
    try {
      const request = { prompt: 'x', width: 64, height: 64, steps: 1 };
      const answer = await post(`${gateway.url}/sdapi/v1/txt2img`, request).answer;
      expect(answer.status).toBe(200);
      expect(answer.body.equals(backend.state.generations[0]?.answer as Buffer)).toBe(true);
      const job = await gateway.ended(answer.headers['x-job-id'] as string);
      expect(job).toMatchObject({ status: 'Failed', output_paths: [], error: { code: 'not_stored' } });
    } finally {
      await gateway.close();
      await backend.close();
    }
  });
});

describe('a store that is stuck', () => {
  /** The clock stands still until the test lets it go on; everything else happens as ever. */
  const holdClock = () => {
    const others = [
      'Date',
      'hrtime',
      'nextTick',
      'performance',
      'queueMicrotask',
      'setImmediate',
      'clearImmediate',
    ] as const;
    jest.useFakeTimers({ doNotFake: [...others, 'setInterval', 'clearInterval'] });
  };
  const settled = () => new Promise((resolve) => setImmediate(resolve));
  const large = answerWith([bigPng(9_000_000)]);

  /** Resolves to what `end` did, once it has; undefined where it still waits. */
  function watched(ending: Promise<CapturedAnswer>): () => Promise<CapturedAnswer | undefined> {
    let ended: CapturedAnswer | undefined;
    void ending.then((answer) => {
      ended = answer;
    });
    return async () => {
      await settled();
      return ended;
    };
  }

  test('the backend has to wait, but after five seconds no longer; then the answer is over at once', async () => {
    holdClock();
    const capture = captureWith({ images: storeWithWriters(/-0$/, () => ({ write: never })) });
    let accepted = 0;
    capture.onAccepting = () => {
      accepted += 1;
    };
    let written = 0;
    const next = () => {
      capture.write(Buffer.from(large.subarray(written, written + 1_000_000)));
      written += 1_000_000;
    };
    while (capture.accepting && written < large.length) next();
    expect(capture.accepting).toBe(false);
    expect(written).toBeLessThan(large.length);
    jest.advanceTimersByTime(4_999);
    await settled();
    expect([capture.accepting, accepted]).toEqual([false, 0]);
    jest.advanceTimersByTime(1);
    await settled();
    expect([capture.accepting, accepted]).toEqual([true, 1]);
    while (written < large.length) next();
    expect(capture.accepting).toBe(true);
    expect(await capture.end()).toEqual({
      output_paths: [],
      problem: { code: 'not_stored', message: 'The disk took nothing for 5 s' },
    });
    expect(jest.getTimerCount()).toBe(0);
  });

  test('a disk that is slow, but moves, is waited for', async () => {
    holdClock();
    const waiting: (() => void)[] = [];
    let taken = 0;
    const slow = (writer: ImageWriter) => ({
      write: async (bytes: Uint8Array) => {
        await new Promise<void>((resolve) => waiting.push(resolve));
        await writer.write(bytes);
        taken += 1;
      },
    });
    /** The disk takes one more piece, just before it would be given up. */
    const takeOne = async (afterMs: number) => {
      await until(() => waiting.length > 0);
      jest.advanceTimersByTime(afterMs);
      const before = taken;
      waiting.shift()?.();
      await until(() => taken > before);
      await settled();
    };
    const capture = captureWith({ images: storeWithWriters(/-0$/, slow) });
    for (let written = 0; written < large.length; written += 1_000_000) {
      capture.write(Buffer.from(large.subarray(written, written + 1_000_000)));
      while (!capture.accepting) await takeOne(4_900);
    }
    expect(taken).toBeGreaterThan(2);
    const ending = capture.end();
    const result = watched(ending);
    const pieces = Math.ceil(9_000_000 / (1024 * 1024));
    while (taken < pieces) await takeOne(59_000);
    expect(await result()).toBeUndefined();
    const { output_paths, problem } = await ending;
    expect([output_paths, problem]).toEqual([['2026-11-22/Ab12Cd34-0.png'], undefined]);
  });

  test('a disk that has caught up is not given up because the backend pauses', async () => {
    holdClock();
    const { opened, open } = gate();
    const waits = (writer: ImageWriter) => ({
      write: async (bytes: Uint8Array) => {
        await opened;
        await writer.write(bytes);
      },
    });
    const capture = captureWith({ images: storeWithWriters(/-0$/, waits) });
    capture.write(large.subarray(0, 8_000_000));
    expect(capture.accepting).toBe(false);
    const accepting = new Promise<void>((resolve) => {
      capture.onAccepting = resolve;
    });
    open();
    await accepting;
    expect(capture.accepting).toBe(true);
    jest.advanceTimersByTime(3_600_000);
    await settled();
    capture.write(large.subarray(8_000_000));
    expect((await capture.end()).problem).toBeUndefined();
    expect(jest.getTimerCount()).toBe(0);
  });

  const stuck: [what: string, images: () => ImageStore, kept: number][] = [
    [
      'create',
      () => storeWith({ create: (stem) => (stem.endsWith('-1') ? never() : store.create(stem)) }),
      1,
    ],
    ['write', () => storeWithWriters(/-1$/, () => ({ write: never })), 1],
    ['finish', () => storeWithWriters(/-1$/, () => ({ finish: never })), 1],
    ['discard after a failure', () => storeWithWriters(/-1$/, () => ({ write: no, discard: never })), 1],
    [
      'create for the sidecar',
      () => storeWith({ create: (stem) => (/34$/.test(stem) ? never() : store.create(stem)) }),
      2,
    ],
    ['finish for the sidecar', () => storeWithWriters(/34$/, () => ({ finish: never })), 2],
  ];

  test.each(stuck)(
    '%s: a minute after the answer the job ends, with what is kept',
    async (_what, images, kept) => {
      holdClock();
      const { counted, finished } = countFinished(images());
      const capture = captureWith({ images: counted });
      capture.write(answerWith([png, png]));
      expect(capture.accepting).toBe(true);
      const result = watched(capture.end());
      await until(() => finished() === kept);
      for (let turn = 0; turn < 20; turn += 1) await settled();
      jest.advanceTimersByTime(59_999);
      expect(await result()).toBeUndefined();
      jest.advanceTimersByTime(1);
      expect(await weighed((await result()) as CapturedAnswer)).toEqual({
        ...(kept > 0 && { bytes: kept * png.length }),
        output_paths: ['2026-11-22/Ab12Cd34-0.png', '2026-11-22/Ab12Cd34-1.png'].slice(0, kept),
        problem: { code: 'not_stored', message: 'The disk took nothing for 60 s' },
      });
      expect(jest.getTimerCount()).toBe(0);
    },
  );

  test('an answer that broke off does not wait for ever either', async () => {
    holdClock();
    const capture = captureWith({ images: storeWithWriters(/-0$/, () => ({ finish: never })) });
    capture.write(Buffer.from(`{"images":["${whole}","${whole.slice(0, 20)}`));
    const result = watched(capture.breakOff());
    expect(await result()).toBeUndefined();
    jest.advanceTimersByTime(60_000);
    expect(await result()).toMatchObject({ output_paths: [], problem: { code: 'not_stored' } });
  });

  test.each([
    ['an image', /-0$/, '2026-11-22/Ab12Cd34-0.png', 0],
    ['a sidecar', /34$/, '2026-11-22/Ab12Cd34.json', 1],
  ])('%s that is kept after all is removed again: no job has it', async (_what, pattern, late, kept) => {
    holdClock();
    const asked = gate();
    const recovered = gate();
    const removed: string[] = [];
    const slow = storeWithWriters(pattern, (writer) => ({
      async finish(extension) {
        asked.open();
        await recovered.opened;
        return writer.finish(extension);
      },
    }));
    const { counted, finished } = countFinished(slow);
    const images = {
      ...counted,
      remove: async (path: string) => {
        const done = await store.remove(path);
        if (done) removed.push(path);
        return done;
      },
    };
    const capture = captureWith({ images });
    capture.write(answerWith([png]));
    const result = watched(capture.end());
    await asked.opened;
    await until(() => finished() === kept);
    for (let turn = 0; turn < 20; turn += 1) await settled();
    jest.advanceTimersByTime(60_000);
    expect((await result())?.output_paths).toHaveLength(kept);
    recovered.open();
    await until(() => removed.includes(late));
    // The sidecar speaks of an image that no job has, and goes with it.
    const names = () => keptNames().catch(() => undefined);
    // The folder may go while it is looked into.
    await until(async () => (await names())?.length === kept);
  });

  test('the client gets the whole answer a second later, and the job ends', async () => {
    const { opened, open } = gate();
    const answer = answerWith([png]);
    const backend = await startScriptedBackend(async (res) => {
      await opened;
      sendAnswer(res, answer);
    });
    const images = storeWithWriters(/-\d$/, () => ({ write: never }));
    const dir = join(folder, 'tracker');
    const gateway = await startGateway({ dir, a1111: backend.url, images, headAfter: false });
    try {
      const made = post(`${gateway.url}/sdapi/v1/txt2img`, { prompt: 'x' });
      await backend.received();
      holdClock();
      const timers = jest.spyOn(globalThis, 'setTimeout');
      open();
      // The job's minute begins in the same moment as the client's second; others may have timers of their own.
      await until(() => timers.mock.calls.some(([, delayMs]) => delayMs === 60_000));
      jest.advanceTimersByTime(1_000);
      const { status, body, headers } = await made.answer;
      expect([status, body.equals(answer)]).toEqual([200, true]);
      const id = headers['x-job-id'] as string;
      expect(await gateway.tracker.jobs.get(id)).toMatchObject({ status: 'Processing' });
      jest.advanceTimersByTime(59_000);
      expect(await gateway.ended(id)).toMatchObject({ status: 'Failed', error: { code: 'not_stored' } });
    } finally {
      jest.restoreAllMocks();
      jest.useRealTimers();
      await gateway.close();
      await backend.close();
    }
  });
});
