import { describe, expect, test } from '@jest/globals';
import { generateJobId, isJobId } from '../lib/job-id.js';

const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789';

describe('an id', () => {
  const ids = Array.from({ length: 20_000 }, () => generateJobId());

  test('has 8 characters of A-Z, a-z, 0-9', () => {
    for (const id of ids) expect(id).toMatch(/^[A-Za-z0-9]{8}$/);
  });

  test('is another one each time', () => {
    // 20,000 of 2 * 10^14: two alike come once in a million runs.
    expect(new Set(ids).size).toBe(ids.length);
  });

  test('has every character in every place about as often', () => {
    const expected = ids.length / ALPHABET.length;
    for (let place = 0; place < 8; place += 1) {
      const counts = new Map([...ALPHABET].map((character) => [character, 0]));
      for (const id of ids) counts.set(id.charAt(place), (counts.get(id.charAt(place)) ?? 0) + 1);
      expect(counts.size).toBe(62);
      const chiSquare = [...counts.values()].reduce(
        (sum, count) => sum + (count - expected) ** 2 / expected,
        0,
      );
      // 61 degrees of freedom: more than 140 comes once in 10^7 times; `byte % 62` would give about 190.
      expect(chiSquare).toBeLessThan(140);
    }
  });
});

describe('what can be an id', () => {
  test.each(['Ab12Cd34', 'AAAAAAAA', '00000000', 'Ab12Cd34E', 'Ab12Cd34Ef'])('%s', (id) => {
    expect(isJobId(id)).toBe(true);
  });

  test.each([
    '',
    'Ab12Cd3',
    'Ab12Cd34Efg',
    'Ab12Cd3_',
    'Ab12Cd3-',
    'Ab12 d34',
    'Ab12Cd34\n',
    '\nAb12Cd34',
    'Äb12Cd34',
    'Ab12Cd3４',
    '../../..',
    '__proto__',
    'a/b12Cd34',
    'Ab12Cd34\0',
  ])('not %j', (id) => {
    expect(isJobId(id)).toBe(false);
  });
});
