import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import type { ScanResult, ValueKind } from '../../lib/json/object-listener.js';
import { ObjectScanner } from '../../lib/json/object-scanner.js';
import { pieceSizes, piecesOf } from '../helpers/byte-splits.js';

interface Seen {
  members: { name: string; kind: ValueKind; start: number; end?: number }[];
  /** The raw strings of wanted arrays; `open` where one has not ended. */
  elements: { raw: string; at: number; escaped: boolean; open: boolean }[];
  text: string;
  result: ScanResult;
}

/** Scans latin1 text, so that one character is one byte. */
function scan(input: string, sizes: readonly number[] = [Number.MAX_SAFE_INTEGER], wanted = 'images'): Seen {
  const seen: Omit<Seen, 'result'> = { members: [], elements: [], text: '' };
  const element = () => seen.elements.at(-1) as Seen['elements'][number];
  const scanner = new ObjectScanner({
    memberStart: (name, start, kind) => {
      seen.members.push({ name, kind, start });
      return name === wanted;
    },
    memberEnd: (name, start, end) => {
      const member = seen.members.at(-1);
      if (member?.name !== name || member.start !== start)
        throw new Error(`${name} ends, ${member?.name} began`);
      member.end = end;
    },
    elementStart: () => seen.elements.push({ raw: '', at: seen.text.length, escaped: false, open: true }),
    elementBytes: (bytes, escaped) => {
      if (escaped !== bytes.includes('\\')) throw new Error(`escaped: ${escaped} for ${bytes}`);
      element().raw += bytes.toString('latin1');
      element().escaped ||= escaped;
    },
    elementEnd: () => {
      element().open = false;
    },
    text: (bytes) => {
      seen.text += bytes.toString('latin1');
    },
  });
  for (const piece of piecesOf(Buffer.from(input, 'latin1'), sizes)) scanner.write(piece);
  return { ...seen, result: scanner.end() };
}

/** Puts the elements back where they were. */
function rebuilt({ text, elements }: Seen): string {
  let result = '';
  let from = 0;
  for (const { raw, at } of elements) {
    result += text.slice(from, at) + raw;
    from = at;
  }
  return result + text.slice(from);
}

const space = fc.stringMatching(/^[ \t\r\n]{0,3}$/);

/** A JSON string for `text`, some of its characters written as escapes. */
const writtenString = (text: string) =>
  fc.array(fc.boolean(), { minLength: 1, maxLength: 5 }).map((escapes) => {
    const characters = [...text].map((character, index) => {
      if (!escapes[index % escapes.length]) return JSON.stringify(character).slice(1, -1);
      return [...Array(character.length).keys()]
        .map((unit) => `\\u${character.charCodeAt(unit).toString(16).padStart(4, '0')}`)
        .join('');
    });
    return `"${characters.join('')}"`;
  });

const anyString = fc.oneof(
  fc.constantFrom('images', 'parameters', '', '"', '\\', '\\"', 'a\\\\', '}{][,:', '__proto__', 'ü€😀'),
  fc.string({ unit: 'grapheme' }),
);

const anyValue = fc.oneof(
  { weight: 1, arbitrary: anyString.chain(writtenString) },
  {
    weight: 1,
    arbitrary: fc.constantFrom(
      '18446744073709551615',
      '7.0',
      '-0',
      '1e-7',
      'true',
      'false',
      'null',
      '{}',
      '[]',
    ),
  },
  {
    weight: 3,
    arbitrary: fc
      .tuple(fc.jsonValue({ maxDepth: 3 }), fc.constantFrom(0, 1))
      .map(([value, indent]) => JSON.stringify({ images: value, value }, undefined, indent)),
  },
  {
    weight: 2,
    arbitrary: fc
      .array(fc.oneof(anyString.chain(writtenString), fc.constantFrom('null', '[["a"]]', '{"a":"]"}', '1.0')))
      .map((elements) => `[${elements.join(' ,\n')}]`),
  },
);

/** The text of an object, and of its members' names and values. */
const anyObject = fc
  .tuple(
    fc.array(fc.tuple(anyString.chain(writtenString), anyValue, space, space), { maxLength: 6 }),
    space,
    space,
    fc.constantFrom('', '\ufeff'),
  )
  .map(([members, before, after, mark]) => {
    const inner = members.map(
      ([name, value, left, right]) => `${left}${name}${right}:${left}${value}${right}`,
    );
    const text = `${mark}${before}{${inner.join(',')}${after}}${after}`;
    return { members, bytes: Buffer.from(text) };
  });

describe('ObjectScanner', () => {
  test('finds what JSON.parse finds, and keeps every byte, however the object is cut', () => {
    fc.assert(
      fc.property(anyObject, pieceSizes, ({ members, bytes }, sizes) => {
        const input = bytes.toString('latin1');
        const seen = scan(input, sizes);
        expect(seen.result).toEqual({ complete: true });
        expect(rebuilt(seen)).toBe(input);
        expect(seen.members.map(({ name }) => name)).toEqual(members.map(([name]) => JSON.parse(name)));
        expect(seen.members.map(({ start, end }) => bytes.toString('utf8', start, end))).toEqual(
          members.map(([, value]) => value),
        );
        const wanted = members
          .filter(([name, value]) => JSON.parse(name) === 'images' && value.startsWith('['))
          .flatMap(([, value]) => JSON.parse(value) as unknown[])
          .filter((element) => typeof element === 'string');
        const found = seen.elements.map(({ raw }) =>
          JSON.parse(`"${Buffer.from(raw, 'latin1').toString()}"`),
        );
        expect(found).toEqual(wanted);
        expect(seen).toEqual(scan(input));
      }),
      { numRuns: 300 },
    );
  });

  test('never takes the beginning of an object for the whole', () => {
    fc.assert(
      fc.property(anyObject, pieceSizes, ({ bytes }, sizes) => {
        const input = bytes.toString('latin1').trimEnd();
        fc.pre(input.length < 400);
        for (let length = 0; length < input.length; length += 1) {
          const seen = scan(input.slice(0, length), sizes);
          expect(seen.result).toEqual({ complete: false, reason: 'ended-early', offset: length });
          expect(rebuilt(seen)).toBe(input.slice(0, length));
        }
      }),
      { numRuns: 40 },
    );
  });

  test('takes anything without a throw, tells all of it, and judges it alike however it is cut', () => {
    const rubbish = fc.oneof(
      fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes).toString('latin1')),
      fc
        .array(
          fc.constantFrom('{', '}', '[', ']', ':', ',', '"', '\\', ' ', '"images"', '["', '"a"', '1', 'null'),
        )
        .map((tokens) => `{${tokens.join('')}`),
    );
    fc.assert(
      fc.property(rubbish, pieceSizes, (input, sizes) => {
        const seen = scan(input, sizes);
        expect(rebuilt(seen)).toBe(input);
        expect(seen).toEqual(scan(input));
      }),
      { numRuns: 500 },
    );
  });

  test.each([
    ['', 'ended-early', 0],
    ['  ', 'ended-early', 2],
    ['\xef\xbb', 'ended-early', 2],
    ['\xef\xbb{}', 'not-an-object', 2],
    [' \xef\xbb\xbf{}', 'not-an-object', 1],
    ['[]', 'not-an-object', 0],
    ['"{}"', 'not-an-object', 0],
    ['<html>{}</html>', 'not-an-object', 0],
    ['{}x', 'garbage-after-end', 2],
    ['{} {}', 'garbage-after-end', 3],
    ['{"a":1}}', 'garbage-after-end', 7],
    ['{,}', 'malformed', 1],
    ['{"a":1,}', 'malformed', 7],
    ['{"a"}', 'malformed', 4],
    ['{"a":}', 'malformed', 5],
    ['{"a":,"b":1}', 'malformed', 5],
    ['{"a" 1}', 'malformed', 5],
    ['{"a":1 2}', 'malformed', 7],
    ['{"a":1 "b":2}', 'malformed', 7],
    ['{"a":"b""c"}', 'malformed', 8],
    ['{a:1}', 'malformed', 1],
    ["{'a':1}", 'malformed', 1],
    ['{"a":undefined}', 'malformed', 14],
    ['{"a":01}', 'malformed', 7],
    ['{"a":1.}', 'malformed', 7],
    ['{"a":[1}}', 'malformed', 7],
    ['{"a":{"b":1]}', 'malformed', 11],
    ['{"a":1]', 'malformed', 6],
    ['{"a\\x":1}', 'malformed', 5],
    ['{"a\n":1}', 'malformed', 4],
    ['{"images":["a" "b"]}', 'malformed', 15],
    ['{"images":["a",]}', 'malformed', 15],
    ['{"images":[,"a"]}', 'malformed', 11],
    ['{"images":["a"}', 'malformed', 14],
    ['{"images":["a":"b"]}', 'malformed', 14],
  ])('says what is wrong with %s', (input, reason, offset) => {
    expect(scan(input).result).toEqual({ complete: false, reason, offset });
    expect(scan(input, [1]).result).toEqual({ complete: false, reason, offset });
  });

  test('reads no number of more than 1,024 digits', () => {
    expect(scan(`{"a":${'1'.repeat(1024)}}`, [100]).result).toEqual({ complete: true });
    expect(scan(`{"a":${'1'.repeat(1025)}}`, [100]).result).toMatchObject({
      reason: 'malformed',
      offset: 1030,
    });
  });

  test.each(['NaN', 'Infinity', '-Infinity'])("takes Python's %s for a value", (value) => {
    expect(scan(`{"a":${value},"b":1}`).result).toEqual({ complete: true });
  });

  test('reaches into no value but the array that is wanted', () => {
    const input =
      '{"images":null,"images":{"images":["a"]},"x":{"images":["b"]},"y":["c"],"images":"d","images":[],' +
      '"i\\u006dages":["e",["f"],{"images":["g"]},1,"h"],"images":["i"]}';
    const seen = scan(input);
    expect(seen.result).toEqual({ complete: true });
    expect(seen.elements.map(({ raw }) => raw)).toEqual(['e', 'h', 'i']);
    expect(seen.members.filter(({ name }) => name === 'images').map(({ kind }) => kind)).toEqual([
      'scalar',
      'object',
      'string',
      'array',
      'array',
      'array',
    ]);
    expect(seen.text).toBe(input.replace('"e"', '""').replace('"h"', '""').replace('"i"', '""'));
  });

  test('leaves a string open that the input ends in', () => {
    const seen = scan('{"images":["ab\\"c\\');
    expect(seen.elements).toEqual([{ raw: 'ab\\"c\\', at: 12, escaped: true, open: true }]);
  });

  test('counts brackets instead of remembering them', () => {
    const depth = 1_000_000;
    const input = `{"a":${'['.repeat(depth)}${']'.repeat(depth)},"images":["b"]}`;
    const seen = scan(input, [65_536]);
    expect(seen.result).toEqual({ complete: true });
    expect(seen.members[0]).toEqual({ name: 'a', kind: 'array', start: 5, end: 5 + 2 * depth });
    expect(seen.elements).toHaveLength(1);
  });

  test('holds nothing of a name without end', () => {
    const scanner = new ObjectScanner({});
    scanner.write(Buffer.from('{"'));
    const chunk = Buffer.alloc(1024 * 1024, 'n');
    const before = process.memoryUsage().arrayBuffers;
    for (let count = 0; count < 64; count += 1) scanner.write(chunk);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(16 * 1024 * 1024);
    scanner.write(Buffer.from('":1}'));
    expect(scanner.end()).toEqual({ complete: true });
  });

  test('passes over a member whose name is longer than 1 KiB', () => {
    const input = `{"${'n'.repeat(1025)}":["a"],"${'m'.repeat(1024)}":1}`;
    const seen = scan(input, [100]);
    expect(seen.result).toEqual({ complete: true });
    expect(seen.members.map(({ name }) => name)).toEqual(['m'.repeat(1024)]);
  });
});
