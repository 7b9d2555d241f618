import { describe, expect, test } from '@jest/globals';
import { checkByFunction, type LoginFunction } from '../../lib/auth/login-check.js';
import { inspectingLogger } from '../helpers/inspected-log.js';

function checkBy(login: (name: string, password: string) => unknown) {
  const log: string[] = [];
  return { check: checkByFunction(login as LoginFunction, inspectingLogger(log)), log };
}

describe("the host's own function", () => {
  test.each([
    ['true', true, true],
    ['a promise of true', Promise.resolve(true), true],
    ['false', false, false],
    ['a promise of false', Promise.resolve(false), false],
    ['undefined', undefined, false],
    ['null', null, false],
    ['1', 1, false],
    ['"true"', 'true', false],
    ['an object', { id: 7 }, false],
    ['a promise of an object', Promise.resolve({ id: 7 }), false],
  ])('that gives %s: %s', async (_name, verdict, isIn) => {
    expect(await checkBy(() => verdict).check.check('ann', 'apple')).toBe(isIn);
  });

  test('gets name and password, and is asked each time', async () => {
    const calls: string[][] = [];
    const { check, log } = checkBy((...login) => calls.push(login) > 0);
    await check.check('ann', 'apple');
    await check.check('ann', 'apple');
    expect(calls).toEqual([
      ['ann', 'apple'],
      ['ann', 'apple'],
    ]);
    expect(log).toEqual([]);
  });

  test('that gives something that only looks true is said so, once', async () => {
    const { check, log } = checkBy(() => ({ password: 'apple' }));
    await check.check('ann', 'apple');
    await check.check('bob', 'pear');
    expect(log).toEqual([
      'Expected the function in `auth` to give true or false, got object: nobody is let in by that',
    ]);
  });

  test('that fails is not taken for a no', async () => {
    const { check } = checkBy(() => {
      throw new Error('no database');
    });
    await expect(check.check('ann', 'apple')).rejects.toThrow('no database');
  });
});
