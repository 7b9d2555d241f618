import { mkdir, realpath, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { isStoredPath, isWithin, locateStoredFile } from '../../lib/images/stored-path.js';
import { tempFolders } from '../helpers/temp-folder.js';

const newFolder = tempFolders();

const refused = [
  '',
  '/',
  '/etc/passwd',
  '..',
  '../x.png',
  'day/../x.png',
  'day/../../x.png',
  'day/..',
  '.',
  './x.png',
  'day/./x.png',
  'day//x.png',
  'day/',
  '//day/x.png',
  '.partial/x',
  'day/.hidden',
  'day/x\0.png',
  '\0',
  'C:/x.png',
  'C:x.png',
  'C:\\x.png',
  'day\\..\\x.png',
  '\\\\host\\share\\x.png',
  'day/x.png:stream',
  `day/${'x'.repeat(1020)}.png`,
];

describe('isStoredPath', () => {
  test.each(['x.png', '2026-11-22/Ab12Cd34-0.png', 'a/b/c.bin', 'a..b/c..png', 'a b/ü.png', '%2e%2e/x'])(
    'takes %j',
    (path) => expect(isStoredPath(path)).toBe(true),
  );

  test.each(refused)('refuses %j', (path) => expect(isStoredPath(path)).toBe(false));
});

describe('isWithin', () => {
  test.each([
    ['/a/b', '/a/b', true],
    ['/a/b', '/a/b/c/d', true],
    ['/', '/a', true],
    ['/a/b', '/a/b/..c', true],
    ['/a/b', '/a', false],
    ['/a/b', '/a/bc', false],
    ['/a/b', '/a/c/b', false],
  ])('%s, %s: %p', (outer, inner, within) => expect(isWithin(outer, inner)).toBe(within));
});

describe('locateStoredFile', () => {
  async function newRoot(): Promise<{ root: string; outside: string }> {
    const folder = await realpath(await newFolder());
    const root = join(folder, 'root');
    const outside = join(folder, 'outside');
    await mkdir(join(root, 'day'), { recursive: true });
    await mkdir(outside);
    await writeFile(join(root, 'day', 'x.png'), 'x');
    await writeFile(join(outside, 'x.png'), 'outside');
    return { root, outside };
  }

  test('finds a regular file in the folder', async () => {
    const { root } = await newRoot();
    expect(await locateStoredFile(root, 'day/x.png')).toBe(join(root, 'day', 'x.png'));
  });

  test('finds a file through a link to another folder within', async () => {
    const { root } = await newRoot();
    await symlink(join(root, 'day'), join(root, 'same'));
    expect(await locateStoredFile(root, 'same/x.png')).toBe(join(root, 'day', 'x.png'));
  });

  test('finds nothing where there is nothing, and no folder', async () => {
    const { root } = await newRoot();
    for (const path of ['day/y.png', 'night/x.png', 'day', 'day/x.png/y', `day/${'x'.repeat(300)}`]) {
      expect(await locateStoredFile(root, path)).toBeUndefined();
    }
  });

  test('finds nothing outside', async () => {
    const { root, outside } = await newRoot();
    await symlink(outside, join(root, 'away'));
    await symlink(join(outside, 'x.png'), join(root, 'day', 'link.png'));
    await symlink(join(root, 'day', 'x.png'), join(root, 'day', 'inner-link.png'));
    await symlink('loop', join(root, 'loop'));
    const paths = [
      'away/x.png',
      'day/link.png',
      'day/inner-link.png',
      'loop/x.png',
      '../outside/x.png',
      ...refused,
    ];
    for (const path of paths) expect(await locateStoredFile(root, path)).toBeUndefined();
  });
});
