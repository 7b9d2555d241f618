import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { CredentialListCheck, parseCredentialList } from '../../lib/auth/credential-list.js';

describe('reading name:password,name2:password2', () => {
  test.each([
    ['ann:apple', [['ann', 'apple']]],
    [
      'ann:apple, bob:pear',
      [
        ['ann', 'apple'],
        ['bob', 'pear'],
      ],
    ],
    ['ann:a:b:', [['ann', 'a:b:']]],
    ['ann: apple ', [['ann', ' apple ']]],
    ['zoë:pässwörd', [['zoë', 'pässwörd']]],
    ['__proto__:x', [['__proto__', 'x']]],
  ])('%s', (text, entries) => {
    expect(parseCredentialList(text)).toEqual(new Map(entries as [string, string][]));
  });

  test.each([
    ['', 'one without a colon'],
    ['secret', 'one without a colon'],
    ['ann:apple,secret', 'an entry (number 2) without a colon'],
    ['ann:apple,', 'an entry (number 2) without a colon'],
    [':secret', 'one without a name'],
    ['  :secret', 'one without a name'],
    ['ann:', 'one without a password'],
    ['ann:  ', 'one without a password'],
    ['bob:x,ann:secret,ann:secret2', 'the name "ann" twice'],
    // Who writes a line for each has all of them but the first in the first one's password.
    ['ann:secret\nbob:secret', 'one with a password with a line break'],
    ['a\tn:secret', 'one with a name with a control character, or not in UTF-8'],
    [`${'a'.repeat(257)}:secret`, 'one with a name of more than 256 characters'],
    [
      `bob:x,ann:secret${'x'.repeat(1024)}`,
      'an entry (number 2) with a password of more than 1024 characters',
    ],
  ])('%j is refused, without a word of the password', (text, problem) => {
    expect(parseCredentialList(text)).toBe(problem);
  });
});

describe('checking against a list', () => {
  const check = new CredentialListCheck(
    new Map([
      ['ann', 'apple'],
      ['bob', 'pear:with:colons'],
    ]),
  );

  test.each([
    ['ann', 'apple', true],
    ['bob', 'pear:with:colons', true],
    ['ann', 'pear:with:colons', false],
    ['bob', 'apple', false],
    ['bob', 'pear', false],
    ['Ann', 'apple', false],
    ['ann', 'apple ', false],
    ['ann', 'appl', false],
    ['ann', '', false],
    ['', '', false],
    ['bob:pear', 'with:colons', true],
  ])('%s with %s: %s', (name, password, verdict) => {
    // A name with a colon cannot be sent by HTTP Basic; here it only shows what is hashed.
    expect(check.check(name, password)).toBe(verdict);
  });

  test('lets in exactly those who are in the list', () => {
    const name = fc.constantFrom('a', 'b', 'ab', 'A');
    const password = fc.constantFrom('x', 'y', 'x:y', 'y:x', 'é');
    const entries = fc.uniqueArray(fc.tuple(name, password), { selector: ([one]) => one, minLength: 1 });
    fc.assert(
      fc.property(entries, name, password, (list, givenName, givenPassword) => {
        const text = list.map(([one, secret]) => `${one}:${secret}`).join(',');
        const parsed = parseCredentialList(text);
        if (typeof parsed === 'string') throw new Error(parsed);
        const expected = list.some(([one, secret]) => one === givenName && secret === givenPassword);
        expect(new CredentialListCheck(parsed).check(givenName, givenPassword)).toBe(expected);
      }),
    );
  });

  test('keeps no password in readable form', () => {
    const text = JSON.stringify(check, (_key, value) => value) + Object.getOwnPropertyNames(check).join();
    expect(text).not.toContain('apple');
  });
});
