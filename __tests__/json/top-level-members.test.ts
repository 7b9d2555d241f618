import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { TopLevelMembers, type TopLevelMembersOptions } from '../../lib/json/top-level-members.js';
import { pieceSizes, piecesOf } from '../helpers/byte-splits.js';

function collect(
  text: string,
  sizes: readonly number[] = [Number.MAX_SAFE_INTEGER],
  options?: TopLevelMembersOptions,
): TopLevelMembers {
  const members = new TopLevelMembers(options);
  for (const piece of piecesOf(Buffer.from(text), sizes)) members.write(piece);
  members.end();
  return members;
}

describe('TopLevelMembers', () => {
  test('keeps raw texts that JavaScript could not write again', () => {
    const text =
      '{"prompt": "a \\u0063at ü", "seed": 18446744073709551615 , "cfg_scale": 7.0, "x": {"a": [1.50]}}';
    const members = collect(text);
    expect(members.whole).toBe(true);
    expect(members.get('prompt')?.text).toBe('"a \\u0063at ü"');
    expect(members.get('seed')?.text).toBe('18446744073709551615');
    expect(members.get('cfg_scale')?.text).toBe('7.0');
    expect(members.get('x')?.text).toBe('{"a": [1.50]}');
    expect(members.get('absent')).toBeUndefined();
    expect(members.get('__proto__')).toBeUndefined();
    expect([...members.names()]).toEqual(['prompt', 'seed', 'cfg_scale', 'x']);
  });

  test('has what JSON.parse has, at its place, however the bytes are cut', () => {
    const objects = fc.array(
      fc.tuple(fc.oneof(fc.constantFrom('a', 'b'), fc.string({ unit: 'grapheme' })), fc.jsonValue()),
    );
    fc.assert(
      fc.property(objects, pieceSizes, (entries, sizes) => {
        const inner = entries.map(([name, value]) => ` ${JSON.stringify(name)} :\n${JSON.stringify(value)} `);
        const text = `{${inner.join(',')}}`;
        const members = collect(text, sizes);
        const parsed = new Map(Object.entries(JSON.parse(text) as Record<string, unknown>));
        expect(members.whole).toBe(true);
        expect(new Set(members.names())).toEqual(new Set(parsed.keys()));
        for (const [name, value] of parsed) {
          const member = members.get(name);
          expect(JSON.parse(member?.text ?? 'absent')).toEqual(value);
          expect(Buffer.from(text).toString('utf8', member?.start, member?.end)).toBe(member?.text);
        }
      }),
      { numRuns: 300 },
    );
  });

  test('lets the last of several win', () => {
    expect(collect('{"a":1,"b":2,"a":"last"}').get('a')).toEqual({ start: 17, end: 23, text: '"last"' });
  });

  test.each([[[1]], [[3]], [[Number.MAX_SAFE_INTEGER]]])(
    'knows a large value by its place only, in pieces of %p',
    (sizes) => {
      const members = collect(`{"large":"${'x'.repeat(9)}","fits":"${'y'.repeat(8)}"}`, sizes, {
        maxValueBytes: 10,
      });
      expect(members.get('large')).toEqual({ start: 9, end: 20 });
      expect(members.get('fits')).toEqual({ start: 28, end: 38, text: '"yyyyyyyy"' });
    },
  );

  test('keeps no more than the allowed total, where what was replaced does not count', () => {
    const members = collect('{"a":"1234","a":"5678","b":"1234","c":"1","d":1}', [5], { maxTotalBytes: 13 });
    expect(['a', 'b', 'c', 'd'].map((name) => members.get(name)?.text)).toEqual([
      '"5678"',
      '"1234"',
      undefined,
      '1',
    ]);
    expect(members.get('c')).toEqual({ start: 38, end: 41 });
  });

  test('remembers 10,000 names and no more', () => {
    const many = Array.from({ length: 10_001 }, (_, index) => `"n${index}":${index}`);
    const members = collect(`{${many.join(',')},"n0":"again"}`);
    expect([...members.names()]).toHaveLength(10_000);
    expect(members.get('n10000')).toBeUndefined();
    expect(members.get('n0')?.text).toBe('"again"');
    expect(members.whole).toBe(true);
  });

  test('is not whole before the end, and not with half an object', () => {
    const members = new TopLevelMembers();
    members.write(Buffer.from('{"a":1}'));
    expect(members.whole).toBe(false);
    expect(members.end()).toEqual({ complete: true });
    expect(members.whole).toBe(true);

    const half = collect('{"a":1,"b":2');
    expect(half.whole).toBe(false);
    expect(half.get('a')?.text).toBe('1');
    expect(half.get('b')).toBeUndefined();
  });
});
