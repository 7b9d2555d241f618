import { createHash } from 'node:crypto';
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import type { AnswerImage, AnswerSummary } from '../../lib/images/answer-summary.js';
import { Base64ImageReader } from '../../lib/images/base64-image-reader.js';
import { pieceSizes, piecesOf } from '../helpers/byte-splits.js';

const UNCUT = [Number.MAX_SAFE_INTEGER];

interface Taken {
  images: Buffer[];
  ended: AnswerImage[];
  text: Buffer;
  summary: AnswerSummary;
}

/** Reads an answer; what the sink is given is copied only at the end, so that a buffer used twice would show. */
function take(answer: Buffer, sizes: readonly number[] = UNCUT): Taken {
  const text: Buffer[] = [];
  const data: { index: number; bytes: Buffer; release: () => void }[] = [];
  const ended: AnswerImage[] = [];
  let started = 0;
  const reader = new Base64ImageReader({
    text: (bytes) => text.push(Buffer.from(bytes)),
    imageStart: (index) => {
      if (index !== started || ended.length !== index)
        throw new Error(`image ${index} starts after ${started}`);
      started += 1;
    },
    imageData: (index, bytes, release) => {
      if (index !== started - 1 || ended.length !== index) throw new Error(`bytes for image ${index}`);
      if (bytes.length === 0 || bytes.length > 1024 * 1024) throw new Error(`${bytes.length} bytes at once`);
      data.push({ index, bytes, release });
    },
    imageEnd: (index, image) => {
      if (index !== started - 1 || image.index !== index) throw new Error(`image ${index} ends`);
      ended.push(image);
    },
  });
  for (const piece of piecesOf(answer, sizes)) reader.write(piece);
  const summary = reader.end();
  const images = ended.map(({ index }) =>
    Buffer.concat(data.filter((part) => part.index === index).map(({ bytes }) => bytes)),
  );
  for (const { release } of data) release();
  return { images, ended, text: Buffer.concat(text), summary };
}

function read(answer: string): Taken {
  return take(Buffer.from(answer));
}

/** The answer as it was, from its text and the images' bytes. */
function rebuilt({ images, text, summary }: Taken): Buffer {
  const parts: Buffer[] = [];
  let from = 0;
  for (const { index, textOffset, escapedSlashes } of summary.images) {
    const base64 = (images[index] as Buffer).toString('base64');
    parts.push(
      text.subarray(from, textOffset),
      Buffer.from(escapedSlashes ? base64.replaceAll('/', '\\/') : base64),
    );
    from = textOffset;
  }
  return Buffer.concat([...parts, text.subarray(from)]);
}

/** Bytes that look random, the same for the same seed. */
function noise(sizeBytes: number, seed: number): Buffer {
  return createHash('shake256', { outputLength: Math.max(sizeBytes, 1) })
    .update(String(seed))
    .digest()
    .subarray(0, sizeBytes);
}

/** How an image can be written into an answer, and whether it can be written so again. */
const styles: Record<string, { exact: boolean; write: (base64: string) => string }> = {
  bare: { exact: true, write: (base64) => base64 },
  'data URL': { exact: true, write: (base64) => `data:image/png;base64,${base64}` },
  'escaped slashes': { exact: true, write: (base64) => base64.replaceAll('/', '\\/') },
  'data URL with escaped slashes': {
    exact: true,
    write: (base64) => `data:image\\/webp;base64,${base64.replaceAll('/', '\\/')}`,
  },
  'some escaped slashes': { exact: false, write: (base64) => `//\\/+${base64}` },
  'unicode escapes': { exact: false, write: (base64) => `\\u002B++\\u0041${base64}` },
  "the URLs' alphabet": {
    exact: false,
    write: (base64) => `-_-_${base64.replaceAll('/', '_').replaceAll('+', '-')}`,
  },
  'escaped line breaks': { exact: false, write: (base64) => base64.replace(/.{1,19}/g, '$&\\r\\n') },
  'white space': { exact: false, write: (base64) => base64.replace(/.{1,76}/g, '$& \\t') },
  'a break before padding': {
    exact: false,
    write: (base64) => base64.replace(/=*$/, '\\n$&'),
  },
  'excess padding': { exact: false, write: (base64) => `${base64}=` },
  'padding from the next line on': {
    exact: false,
    write: (base64) => `${base64.replace(/=+$/, '')}\\n==\\n=`,
  },
};

const images = fc
  .record({
    sizeBytes: fc.oneof(
      fc.integer({ min: 1, max: 100 }),
      fc.integer({ min: 3000, max: 3200 }),
      fc.integer({ min: 1, max: 9000 }),
    ),
    seed: fc.nat(),
    style: fc.constantFrom(...Object.keys(styles)),
  })
  .map(({ sizeBytes, seed, style }) => {
    const { exact, write } = styles[style] as (typeof styles)[string];
    return { kind: 'image' as const, raw: write(noise(sizeBytes, seed).toString('base64')), exact };
  });

const otherStrings = fc
  .constantFrom(
    '',
    'http://host/view?filename=1.png',
    'out of memory',
    'Ünïcode',
    'a\\"b',
    'QUJD\\u00e9',
    'QU=JD',
    '\\b\\f',
    '====',
    '\\n',
  )
  .map((raw) => ({ kind: 'other' as const, raw }));

const notStrings = fc
  .constantFrom('null', '7.0', '{"images":["QUJD"],"image":"QUJD"}', '["QUJD"]', '[]')
  .map((raw) => ({ kind: 'value' as const, raw }));

const space = fc.stringMatching(/^[ \r\n\t]{0,2}$/);

const extraMembers = fc.array(
  fc.oneof(
    fc.constantFrom(
      '"parameters":{"prompt":"a \\"cat\\"","images":["QUJD"],"seed":18446744073709551615}',
      '"parameters" : null',
      '"info":"{\\"seed\\": 7, \\"images\\": [\\"QUJD\\"]}"',
      '"info": {"a": 7.0}',
      '"Images":["QUJD"]',
      '"images":null',
      '"images":{"0":"QUJD"}',
      '"images":"QUJD"',
    ),
    fc.jsonValue({ maxDepth: 2 }).map((value) => `"extra":${JSON.stringify(value)}`),
  ),
  { maxLength: 3 },
);

const answers = fc
  .record({
    arrays: fc.array(
      fc.array(fc.oneof({ weight: 4, arbitrary: images }, otherStrings, notStrings), { maxLength: 4 }),
      {
        minLength: 1,
        maxLength: 2,
      },
    ),
    name: fc.constantFrom('images', '\\u0069mages', 'im\\u0061\\u0067es'),
    before: extraMembers,
    after: extraMembers,
    gap: space,
    mark: fc.constantFrom('', '\ufeff'),
  })
  .map(({ arrays, name, before, after, gap, mark }) => {
    const lists = arrays.map((elements) => {
      const raw = elements.map((element) => (element.kind === 'value' ? element.raw : `"${element.raw}"`));
      return `"${name}":${gap}[${gap}${raw.join(`${gap},${gap}`)}${gap}]`;
    });
    const body = [...before, ...lists, ...after].join(`${gap},${gap}`);
    const strings = arrays.flat().filter((element) => element.kind !== 'value');
    return { answer: Buffer.from(`${mark}${gap}{${gap}${body}${gap}}${gap}`), strings };
  });

/** What Node's own decoder makes of a whole string. */
function decodedByNode(raw: string): Buffer {
  const text = JSON.parse(`"${raw}"`) as string;
  return Buffer.from(text.replace(/^data:.*?;base64,/, ''), 'base64');
}

describe('Base64ImageReader', () => {
  test('gives the same images, text and summary however the answer is cut, and enough to rebuild it', () => {
    fc.assert(
      fc.property(answers, pieceSizes, ({ answer, strings }, sizes) => {
        const taken = take(answer, sizes);
        const { summary } = taken;
        expect(summary.json).toEqual({ complete: true });
        expect(summary.imagesMember).toBe('array');
        expect(taken.ended).toEqual(summary.images);
        expect(summary.images.map(({ verdict }) => verdict)).toEqual(
          strings.map(({ kind }) => (kind === 'image' ? 'whole' : 'not-base64')),
        );
        expect(summary.images.map(({ exact }) => exact)).toEqual(
          strings.map((string) => string.kind !== 'image' || string.exact),
        );
        const expected = strings.map(({ kind, raw }) =>
          kind === 'image' ? decodedByNode(raw) : Buffer.alloc(0),
        );
        expect(Buffer.concat(taken.images).equals(Buffer.concat(expected))).toBe(true);
        expect(summary.images.map(({ sizeBytes }) => sizeBytes)).toEqual(
          expected.map(({ length }) => length),
        );
        expect(summary.textBytes).toBe(taken.text.length);
        if (summary.images.every(({ exact }) => exact)) expect(rebuilt(taken).equals(answer)).toBe(true);

        const text = taken.text.toString().replace(/^\ufeff/, '');
        const whole = JSON.parse(answer.toString().replace(/^\ufeff/, '')) as Record<string, unknown>;
        expect(Object.keys(JSON.parse(text) as object)).toEqual(Object.keys(whole));
        for (const name of ['parameters', 'info'] as const) {
          const range = summary[name];
          const value = range && JSON.parse(taken.text.toString('utf8', range.start, range.end));
          expect(value).toEqual(whole[name]);
        }

        const uncut = take(answer);
        expect(uncut.summary).toEqual(summary);
        expect(uncut.text.equals(taken.text)).toBe(true);
      }),
      { numRuns: 200 },
    );
  });

  test('takes no beginning of an answer for the whole, and loses nothing of it', () => {
    const small = answers.filter(({ answer }) => answer.length < 500);
    fc.assert(
      fc.property(small, pieceSizes, ({ answer, strings }, sizes) => {
        const whole = take(answer);
        const lastByte = answer.lastIndexOf('}');
        for (let length = 0; length <= lastByte; length += 1) {
          const start = answer.subarray(0, length);
          const taken = take(start, sizes);
          if (taken.summary.json.complete) throw new Error(`whole with ${length} of ${answer.length} bytes`);
          const last = taken.summary.images.length - 1;
          taken.summary.images.forEach((image, index) => {
            const same = JSON.stringify(image) === JSON.stringify(whole.summary.images[index]);
            const part =
              index === last &&
              (image.verdict === 'truncated' || strings[index]?.kind === 'other' || !image.sizeBytes);
            if (!same && !part) throw new Error(`${JSON.stringify(image)} at ${length} bytes`);
          });
          const exact = taken.summary.images.every((image) => image.exact);
          if (exact && !rebuilt(taken).equals(start)) throw new Error(`${length} bytes cannot be rebuilt`);
        }
      }),
      { numRuns: 30 },
    );
  });

  test.each([[64 * 1024], [64 * 1024 + 1], [1], [4096], [3 * 1024 * 1024 + 17]])(
    'decodes more than a buffer holds, in pieces of %p bytes',
    (size) => {
      const sizes = size === 1 ? [1, 100_000] : [size];
      const first = noise(2 * 1024 * 1024 + 2, 1);
      const second = noise(1024 * 1024 - 1, 2);
      const answer = Buffer.from(
        JSON.stringify({ images: [first.toString('base64'), second.toString('base64')], info: 'i' }),
      );
      const taken = take(answer, sizes);
      expect(taken.images.map((image, index) => image.equals(index === 0 ? first : second))).toEqual([
        true,
        true,
      ]);
      expect(taken.text.toString()).toBe('{"images":["",""],"info":"i"}');
      expect(rebuilt(taken).equals(answer)).toBe(true);
    },
  );

  test('writes into no buffer that the sink has not released', () => {
    const pictures = Array.from({ length: 12 }, (_, seed) => noise(5000, seed));
    const answer = Buffer.from(
      JSON.stringify({ images: pictures.map((picture) => picture.toString('base64')) }),
    );
    for (const released of [true, false]) {
      const kept: Buffer[] = [];
      const copies: Buffer[] = [];
      const reader = new Base64ImageReader({
        text: () => {},
        imageStart: () => {},
        imageData: (_index, bytes, release) => {
          kept.push(bytes);
          copies.push(Buffer.from(bytes));
          if (!released) return;
          release();
          release();
        },
        imageEnd: () => {},
      });
      reader.write(answer);
      reader.end();
      expect(Buffer.concat(copies).equals(Buffer.concat(pictures))).toBe(true);
      expect(kept.every((bytes, index) => bytes.equals(pictures[index] as Buffer))).toBe(!released);
    }
  });

  describe('judges a string', () => {
    const judged = (raw: string) => {
      const taken = read(`{"images":["${raw}"]}`);
      expect(taken.summary.json).toEqual({ complete: true });
      const { verdict, exact, escapedSlashes } = taken.summary.images[0] as AnswerImage;
      return {
        verdict,
        exact,
        escapedSlashes,
        bytes: taken.images[0]?.toString('latin1'),
        text: taken.text.toString(),
      };
    };
    const cut = '{"images":[""]}';

    test.each([
      ['canonical', 'QUI=', true, 'AB'],
      ['without its padding', 'QUI', false, 'AB'],
      ['with bits behind the last byte', 'QUJ=', false, 'AB'],
      ['with too much padding', 'QUI==', false, 'AB'],
      ['with padding that nothing needs', 'QUJD====', false, 'ABC'],
      ['with a space', 'QUFBQUFBQUFBQUFBQUFBQUFB QUI=', false, 'AAAAAAAAAAAAAAAAAAAB'],
    ])('%s', (_name, raw, exact, bytes) => {
      expect(judged(raw)).toEqual({ verdict: 'whole', exact, escapedSlashes: false, bytes, text: cut });
    });

    test('with one character too many or three too few', () => {
      expect(judged('QUJDQ')).toEqual({
        verdict: 'truncated',
        exact: false,
        escapedSlashes: false,
        bytes: 'ABC',
        text: cut,
      });
    });

    test('whose slashes are all escaped, or only some, or none', () => {
      expect(judged('\\/\\/8=')).toMatchObject({
        verdict: 'whole',
        exact: true,
        escapedSlashes: true,
        bytes: '\xff\xff',
      });
      expect(judged('\\//8=')).toMatchObject({
        verdict: 'whole',
        exact: false,
        escapedSlashes: false,
        bytes: '\xff\xff',
      });
      expect(judged('//8=')).toMatchObject({
        verdict: 'whole',
        exact: true,
        escapedSlashes: false,
        bytes: '\xff\xff',
      });
      expect(judged('\\u002f\\/8=')).toMatchObject({ verdict: 'whole', exact: false, bytes: '\xff\xff' });
    });

    test('of which only the beginning has bare slashes', () => {
      const raw = `A/AA${'AAAA'.repeat(2000)}\\/AAA`;
      expect(judged(raw)).toMatchObject({ verdict: 'whole', exact: false, escapedSlashes: false });
    });

    test('that ends within an escape', () => {
      expect(judged('QUJD\\u00')).toMatchObject({ verdict: 'truncated', exact: false, bytes: 'ABC' });
    });

    test.each([
      ['empty', ''],
      ['a URL', 'https://host/output/1.png'],
      ['a message', 'something went wrong'],
      ['an empty data URL', 'data:image/png;base64,'],
      ['a data URL without base64', 'data:image/svg+xml,%3Csvg%3E'],
      ['a data URL of something else', 'data:image/png;base64,<svg>'],
      ['padding alone', '=='],
      ['padding in the middle', 'QUI=QUJD'],
      ['a foreign letter whose low byte is base64', '\\u0141\\u0141\\u0141\\u0141'],
      ['an escape that is none', '\\u00zz'],
      ['a backspace', '\\bQUJ'],
      ['an escaped backslash before a slash', 'QUJ\\\\/'],
      ['4 KiB of no base64', '?'.repeat(4096)],
    ])('that is %s, and leaves it in the text', (_name, raw) => {
      expect(judged(raw)).toEqual({
        verdict: 'not-base64',
        exact: true,
        escapedSlashes: false,
        bytes: '',
        text: `{"images":["${raw}"]}`,
      });
    });

    test.each([
      ['from the beginning', '?'.repeat(4097)],
      ['after a while', `${'QUJD'.repeat(1024)}?`],
      ['after more than a buffer', `${'QUJD'.repeat(500_000)}?${'QUJD'.repeat(1000)}`],
      ['for the padding in its middle', `${'QUJD'.repeat(1024)}QQ==QUJD`],
      ['but prose', 'lorem ipsum '.repeat(400)],
    ])('that is long and no base64 %s, and cuts it', (_name, raw) => {
      expect(judged(raw)).toMatchObject({
        verdict: 'not-base64',
        exact: false,
        escapedSlashes: false,
        text: cut,
      });
    });

    test('keeps the beginning of a long data URL, in which everything goes on behind the hole', () => {
      const raw = `data:image/jpeg;base64,${'QUJD'.repeat(2000)}`;
      const taken = read(`{"images":["${raw}","QUJD"]}`);
      expect(taken.text.toString()).toBe('{"images":["data:image/jpeg;base64,",""]}');
      expect(taken.summary.images.map(({ textOffset }) => textOffset)).toEqual([35, 38]);
    });
  });

  test.each([
    ['{"images":["', 'truncated', ''],
    ['{"images":["QUJD', 'truncated', 'ABC'],
    ['{"images":["QUJDQ', 'truncated', 'ABC'],
    ['{"images":["QUI=', 'truncated', 'AB'],
    ['{"images":["QUJD\\', 'truncated', 'ABC'],
    ['{"images":["data:image/png;base64,', 'truncated', ''],
    ['{"images":["http://h', 'not-base64', ''],
  ])('judges a string in which the answer ends: %s', (answer, verdict, bytes) => {
    const taken = read(answer);
    expect(taken.summary.images.map((image) => image.verdict)).toEqual([verdict]);
    expect(taken.images[0]?.toString()).toBe(bytes);
    expect(taken.summary.json).toEqual({ complete: false, reason: 'ended-early', offset: answer.length });
  });

  test.each([
    ['{"info":"x"}', 'none', 0],
    ['{"images":null}', 'other', 0],
    ['{"images":{}}', 'other', 0],
    ['{"images":"QUJD"}', 'other', 0],
    ['{"images":[]}', 'array', 0],
    ['{"images":[null,1,["QUJD"],{"images":["QUJD"]}]}', 'array', 0],
    ['{"images":null,"images":["QUJD"]}', 'array', 1],
    ['{"images":["QUJD"],"images":null,"images":["QUJD"]}', 'array', 2],
    ['{"data":{"images":["QUJD"]}}', 'none', 0],
    ['[{"images":["QUJD"]}]', 'none', 0],
    ['<html>"images":["QUJD"]</html>', 'none', 0],
    ['', 'none', 0],
  ])('finds the images of %s', (answer, imagesMember, count) => {
    const { summary, text } = read(answer);
    expect(summary.imagesMember).toBe(imagesMember);
    expect(summary.images).toHaveLength(count);
    expect(text.toString()).toBe(count === 0 ? answer : answer.replaceAll('QUJD', ''));
  });

  test('takes the last of several members, and none that has not ended', () => {
    const { summary, text } = read(
      '{"info":1,"images":["QUJD"],"info":"last","parameters":{"a":1},"info":"cu',
    );
    const { info, parameters } = summary;
    expect(text.toString('utf8', info?.start, info?.end)).toBe('"last"');
    expect(text.toString('utf8', parameters?.start, parameters?.end)).toBe('{"a":1}');
    expect(read('{"parameters":{"a":1').summary).not.toHaveProperty('parameters');
  });
});
