import { describe, expect, test } from '@jest/globals';
import { isRefusal, mayTouch } from '../../lib/auth/identity.js';

describe('who may see, stop or forget a job', () => {
  const ann = { name: 'ann', isAdmin: false };
  const nobody = { name: undefined, isAdmin: false };
  test.each([
    ['its maker', ann, { user: 'ann' }, true],
    ['another user', ann, { user: 'bob' }, false],
    ["a user, of nobody's job", ann, {}, false],
    ['somebody without a name', nobody, { user: 'ann' }, false],
    ["somebody without a name, of nobody's job", nobody, {}, false],
    ['an admin', { name: 'root', isAdmin: true }, { user: 'ann' }, true],
    ["an admin, of nobody's job", { name: 'root', isAdmin: true }, {}, true],
    ['everybody, where nobody has to log in', { name: undefined, isAdmin: true }, { user: 'ann' }, true],
  ])('%s', (_name, identity, job, may) => {
    expect(mayTouch(identity, job)).toBe(may);
  });
});

test('a refusal is told from an identity', () => {
  expect(isRefusal({ status: 401, headers: {}, error: 'no' })).toBe(true);
  expect(isRefusal({ name: undefined, isAdmin: false })).toBe(false);
});
