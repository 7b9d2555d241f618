import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { arrayElements } from '../../lib/json/array-elements.js';

const elementsIn = (text: string) => {
  const bytes = Buffer.from(text);
  return arrayElements(bytes, { start: 0, end: bytes.length })?.map(({ start, end }) =>
    bytes.toString('utf8', start, end).trim(),
  );
};

test.each([
  ['[]', []],
  ['  [ ]', []],
  ['[1]', ['1']],
  [
    '[18446744073709551615, 7.0, "a]\\",", {"x": [1, 2]}, [], null]',
    ['18446744073709551615', '7.0', '"a]\\","', '{"x": [1, 2]}', '[]', 'null'],
  ],
])('%s', (text, elements) => {
  expect(elementsIn(text)).toEqual(elements);
});

test.each(['', '{}', '"[1]"', '1', '[1', '[1, "', '[1, "\\"]', '[1}', '[[1]'])(
  '%j is no whole array',
  (text) => {
    expect(elementsIn(text)).toBeUndefined();
  },
);

test('a place within a larger text is all that is looked at', () => {
  const text = Buffer.from('{"a": [1, 2], "b": 3}');
  const elements = arrayElements(text, { start: 6, end: 12 });
  expect(elements?.map(({ start, end }) => text.toString('utf8', start, end))).toEqual(['1', ' 2']);
  expect(arrayElements(text, { start: 6, end: 11 })).toBeUndefined();
});

test('whatever is in an array: its elements are what JSON.parse makes of it', () => {
  fc.assert(
    fc.property(fc.array(fc.jsonValue()), fc.constantFrom(undefined, 1), (values, indent) => {
      const elements = elementsIn(JSON.stringify(values, null, indent));
      expect(elements?.map((element) => JSON.parse(element))).toEqual(JSON.parse(JSON.stringify(values)));
    }),
  );
});
