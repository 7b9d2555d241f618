import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { readPreferences } from '../../lib/http/preferences.js';

const read = (header: string | string[] | undefined) => Object.fromEntries(readPreferences(header));

describe('a Prefer header (RFC 7240)', () => {
  test.each([
    ['respond-async', { 'respond-async': '' }],
    ['wait=25', { wait: '25' }],
    ['respond-async, wait=25', { 'respond-async': '', wait: '25' }],
    ['Respond-Async , WAIT = 25', { 'respond-async': '', wait: '25' }],
    ['wait="25"', { wait: '25' }],
    ['foo="a, b; c=\\"d\\" \\\\", wait=1', { foo: 'a, b; c="d" \\', wait: '1' }],
    ['foo; bar=1; baz="x, y", wait=2;hint', { foo: '', wait: '2' }],
    ['wait=1, wait=2', { wait: '1' }],
    ['wait=', {}],
    ['=25, wait = 3', { wait: '3' }],
    ['wait=1 2', {}],
    ['two words, "quoted"', {}],
    ['foo="open, wait=25', {}],
    [',, ,', {}],
    ['', {}],
    ['__proto__=1', { ['__proto__']: '1' }],
  ])('%j', (header, expected) => {
    expect(read(header)).toEqual(expected);
  });

  test('none, and several', () => {
    expect(read(undefined)).toEqual({});
    expect(read(['respond-async', 'wait=5'])).toEqual({ 'respond-async': '', wait: '5' });
  });

  test('anything at all is read without harm, and what is well-formed is found among it', () => {
    const junk = fc.string({ unit: fc.constantFrom('a', '=', ';', ' ', '\\', '\t', '1') });
    fc.assert(
      fc.property(fc.array(junk), fc.array(junk), fc.nat(), (before, after, seconds) => {
        const header = [...before, `x-mine=${seconds}`, ...after].join(',');
        expect(read(header)['x-mine']).toBe(String(seconds));
      }),
    );
    fc.assert(fc.property(fc.string({ unit: 'binary' }), (text) => read(text) !== undefined));
  });

  test('a long one takes no time', () => {
    const before = performance.now();
    for (const part of ['a=  ', '"\\', ' ', ',', ';', '=', 'a"']) read(part.repeat(16_000));
    expect(performance.now() - before).toBeLessThan(1_000);
  });
});
