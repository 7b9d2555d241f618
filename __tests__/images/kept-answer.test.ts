import { rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { automatic1111 } from '../../lib/backends/automatic1111.js';
import type { CapturedAnswer } from '../../lib/backends/backend.js';
import { FileImageStore } from '../../lib/images/file-image-store.js';
import { openKeptAnswer } from '../../lib/images/kept-answer.js';
import { pieceSizes, piecesOf } from '../helpers/byte-splits.js';
import { collectLog } from '../helpers/job-records.js';
import { openFilesBelow } from '../helpers/kept-jobs.js';
import { makePng, sampleImages } from '../helpers/sample-images.js';
import { answerWith, bigPng } from '../helpers/scripted-backend.js';
import { tempFolders } from '../helpers/temp-folder.js';

const newFolder = tempFolders();
const png = sampleImages.png as Buffer;
let folder: string;
let store: FileImageStore;
let jobs = 0;

beforeEach(async () => {
  folder = await newFolder();
  store = new FileImageStore({ folder, logger: collectLog() });
  await store.open();
});

afterEach(() => {
  expect(openFilesBelow(folder)).toEqual([]);
});

async function capture(answer: string | Buffer, sizes: readonly number[] = [1000]): Promise<CapturedAnswer> {
  jobs += 1;
  const id = `Job${String(jobs).padStart(5, '0')}`;
  const capture = automatic1111.captureAnswer({
    images: store,
    stem: `2026-11-22/${id}`,
    jobId: id,
    status: 201,
    contentType: 'application/json; charset=x',
    imagesUnwanted: false,
    spoolDirectory: join(folder, 'spool'),
  });
  for (const piece of piecesOf(Buffer.from(answer), sizes)) capture.write(piece);
  return await capture.end();
}

/** The answer once more, as a client gets it; undefined where there is none. */
async function givenAgain({ sidecar }: CapturedAnswer, imagesUnwanted = false): Promise<Buffer | undefined> {
  const kept = sidecar === undefined ? undefined : await openKeptAnswer(store, sidecar);
  if (!kept) return undefined;
  try {
    expect([kept.status, kept.contentType]).toEqual([201, 'application/json; charset=x']);
    const { sizeBytes, chunks } = await automatic1111.answerAgain(kept, { imagesUnwanted });
    const pieces: Buffer[] = [];
    for await (const piece of chunks()) pieces.push(piece);
    const answer = Buffer.concat(pieces);
    if (sizeBytes !== undefined) expect(sizeBytes).toBe(answer.length);
    return answer;
  } finally {
    await kept.close();
  }
}

test('every answer that is kept is given again byte for byte', async () => {
  const image = fc
    .uint8Array({ minLength: 1, maxLength: 40 })
    .map((noise) => makePng(5, 7, noise).toString('base64'));
  const string = fc.oneof(
    { weight: 4, arbitrary: image },
    { weight: 1, arbitrary: image.map((base64) => base64.replaceAll('/', '\\/')) },
    { weight: 1, arbitrary: image.map((base64) => `data:image/png;base64,${base64}`) },
    {
      weight: 1,
      arbitrary: fc.constantFrom('', '====', 'not base64 "', png.toString('base64').slice(0, 50)),
    },
  );
  const blank = fc.constantFrom('', ' ', '\n', '\t\r\n  ');
  const others = fc.dictionary(
    fc.string({ unit: 'grapheme', maxLength: 8 }).filter((name) => name !== 'images'),
    fc.oneof(fc.jsonValue({ maxDepth: 2 }), fc.constantFrom('7.0', '18446744073709551615')),
    { maxKeys: 4 },
  );
  const answers = fc.record({
    strings: fc.array(string, { maxLength: 4 }),
    before: others,
    after: others,
    blank,
  });
  await fc.assert(
    fc.asyncProperty(answers, pieceSizes, async ({ strings, before, after, blank }, sizes) => {
      const members = (of: Record<string, unknown>) =>
        Object.entries(of).map(([name, value]) => `${JSON.stringify(name)}:${blank}${JSON.stringify(value)}`);
      const images = `"images"${blank}:[${strings
        .map((text) => (text.includes('\\/') ? `"${text}"` : JSON.stringify(text)))
        .join(`,${blank}`)}]`;
      const answer = `{${blank}${[...members(before), images, ...members(after)].join(`${blank},`)}}${blank}`;
      const captured = await capture(answer, sizes);
      const again = await givenAgain(captured);
      if (again !== undefined) expect(again.toString()).toBe(answer);
      // Only what is no picture, or holds a secret, is not kept as it came.
      const isPlain = strings.length > 0 && strings.every((text) => /^iVBOR/.test(text));
      if (isPlain && !captured.problem) expect(again).toBeDefined();
    }),
    { numRuns: 60 },
  );
});

test.each([[[1_500_000, 100, 700_001]], [[48 * 1024, 48 * 1024 + 1, 48 * 1024 + 2]]])(
  'large images: %j',
  async (sizes) => {
    const answer = answerWith(sizes.map((size) => bigPng(size)));
    expect((await givenAgain(await capture(answer, [65_536])))?.equals(answer)).toBe(true);
  },
);

test('an answer without images for who wants none', async () => {
  const captured = await capture(answerWith([png, png], '{"send_images":true,"cfg_scale":7.0}'));
  expect((await givenAgain(captured, true))?.toString()).toBe(
    '{"images":[],"parameters":{"send_images":false,"cfg_scale":7.0},"info":"{\\"seed\\": 1}"}',
  );
});

describe('there is no answer to be given again, and nothing stays open, where', () => {
  let captured: CapturedAnswer;

  beforeEach(async () => {
    captured = await capture(answerWith([png, png]));
    expect(await givenAgain(captured)).toBeDefined();
  });

  const at = (path = '') => join(folder, path);

  test('an image has gone', async () => {
    await rm(at(captured.output_paths[1]));
    expect(await givenAgain(captured)).toBeUndefined();
  });

  test('the sidecar has gone, was cut, or is something else', async () => {
    await truncate(at(captured.sidecar), 250);
    expect(await givenAgain(captured)).toBeUndefined();
    await writeFile(at(captured.sidecar), '{"a":1}');
    expect(await givenAgain(captured)).toBeUndefined();
    await rm(at(captured.sidecar));
    expect(await givenAgain(captured)).toBeUndefined();
  });

  test('a secret has been cut out of it', async () => {
    expect(await givenAgain(await capture(answerWith([png], '{"auth":"ann:one"}')))).toBeUndefined();
  });
});

test('a file that becomes shorter while it is read is an error, and nothing stays open', async () => {
  const captured = await capture(answerWith([bigPng(500_000)]), [65_536]);
  const kept = await openKeptAnswer(store, captured.sidecar ?? '');
  await truncate(join(folder, captured.output_paths[0] ?? ''), 100_000);
  const read = async () => {
    for await (const chunk of kept?.chunks() ?? []) expect(chunk.length).toBeGreaterThan(0);
  };
  await expect(read()).rejects.toThrow('in a kept file');
  await kept?.close();
});

test('whoever stops in the middle leaves nothing open', async () => {
  const captured = await capture(answerWith([bigPng(500_000)]), [65_536]);
  const kept = await openKeptAnswer(store, captured.sidecar ?? '');
  for await (const chunk of kept?.chunks() ?? []) {
    expect(chunk.length).toBeGreaterThan(0);
    break;
  }
  await kept?.close();
});
