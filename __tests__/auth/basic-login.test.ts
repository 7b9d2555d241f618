import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { readBasicLogin } from '../../lib/auth/basic-login.js';

const base64 = (text: string | Buffer) => Buffer.from(text as string).toString('base64');
const basic = (text: string | Buffer) => `Basic ${base64(text)}`;
const read = (authorization: string | undefined) =>
  readBasicLogin(authorization === undefined ? {} : { authorization });

describe('an Authorization header', () => {
  test.each([
    [basic('ann:apple'), 'ann', 'apple'],
    [`basic ${base64('ann:apple')}`, 'ann', 'apple'],
    [`BASIC   ${base64('ann:apple')} `, 'ann', 'apple'],
    [basic('ann:a:b:'), 'ann', 'a:b:'],
    [basic('ann: '), 'ann', ' '],
    [basic('zoë:pässwörd'), 'zoë', 'pässwörd'],
    [basic(`${'a'.repeat(256)}:${'b'.repeat(1024)}`), 'a'.repeat(256), 'b'.repeat(1024)],
  ])('%s is a login', (header, name, password) => {
    expect(read(header)).toEqual({ kind: 'login', name, password });
  });

  test.each([
    [undefined, 'no Authorization header'],
    ['', 'an empty Authorization header'],
    ['   ', 'an empty Authorization header'],
    ['Bearer abc', 'another scheme of authorization'],
    ['Bearer ', 'another scheme of authorization'],
    ['Basically', 'another scheme of authorization'],
    ['dXNlcjpwYXNz', 'another scheme of authorization'],
    ['Basic', 'neither name nor password'],
    ['Basic ', 'neither name nor password'],
    ['Basic Og==', 'an empty name'],
    [basic(':apple'), 'an empty name'],
    [basic('ann:'), 'an empty password'],
  ])('%s is no login', (header, got) => {
    expect(read(header)).toEqual({ kind: 'absent', got });
  });

  test.each([
    ['no base64', 'Basic ann:apple'],
    ['a tab in place of the space', `Basic\t${base64('ann:apple')}`],
    ['no colon', basic('ann')],
    ['two at once, as Node joins them where it is told to', `${basic('ann:apple')}, ${basic('bob:pear')}`],
    ['a line break in the password', basic('ann:app\nle')],
    ['a name with a line break', basic('an\nn:apple')],
    ['a name with a NUL', basic('an\0n:apple')],
    ['a name with a C1 control', basic('an\u0085n:apple')],
    ['a name that is not UTF-8', basic(Buffer.from('zo\xeb:apple', 'latin1'))],
    ['a name that is too long', basic(`${'a'.repeat(257)}:apple`)],
    ['a password that is too long', basic(`ann:${'b'.repeat(1025)}`)],
  ])('with %s can never be right', (_name, header) => {
    const login = read(header);
    expect(login.kind).toBe('impossible');
    expect(JSON.stringify(login)).not.toMatch(/ann|apple/);
  });

  test('whatever it is: what is judged has a name and a password, and nothing of them is repeated otherwise', () => {
    const header = fc.oneof(
      fc.string(),
      fc.string().map((text) => `Basic ${text}`),
      fc.string({ unit: 'binary' }).map(basic),
      fc.base64String().map((text) => `basic ${text}`),
    );
    fc.assert(
      fc.property(header, (text) => {
        const login = read(text);
        if (login.kind === 'login') {
          expect(login.name).not.toMatch(/[\p{Cc}:]/u);
          expect(login.name.length * login.password.length).toBeGreaterThan(0);
        } else {
          expect(login.got).toMatch(/^[\x20-\x7e]+$/);
        }
      }),
      { numRuns: 500 },
    );
  });
});
