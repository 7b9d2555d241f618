import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from '@jest/globals';
import { shareShape } from '../../lib/http/shared-shape.js';

const lib = join(import.meta.dirname, '../../lib/http/shared-shape.ts');

/** Does what Express does with two requests, and asks V8 whether they have one hidden class. */
const program = `
  const { shareShape } = await import(${JSON.stringify(lib)});
  const isOne = new Function('a', 'b', 'return %HaveSameMap(a, b)');
  const prototype = Object.create({});
  const [one, other] = [0, 1].map(() => {
    const request = Object.setPrototypeOf({ url: '/', method: 'GET' }, prototype);
    request.path = '/';
    shareShape(request);
    request.params = {};
    return request;
  });
  console.log(isOne(one, other));
`;

test('objects whose prototype was replaced share a hidden class, whatever is added afterwards', async () => {
  const { stdout } = await promisify(execFile)(process.execPath, [
    ...['--allow-natives-syntax', '--import', 'tsx', '--input-type=module', '--eval', program],
  ]);
  expect(stdout.trim()).toBe('true');
});

test('nothing else about them changes', () => {
  const prototype = { inherited: 1 };
  const object = Object.assign(Object.create(prototype), { b: 2, a: 1 });
  shareShape(object);
  expect(Object.entries(object)).toEqual([
    ['b', 2],
    ['a', 1],
  ]);
  expect(Object.getPrototypeOf(object)).toBe(prototype);
  expect(JSON.stringify(object)).toBe('{"b":2,"a":1}');
});
