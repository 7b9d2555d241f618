import { access, mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, describe, expect, jest, test } from '@jest/globals';
import { DurableFolders } from '../../lib/images/durable-folders.js';
import { fileHandlePrototype } from '../helpers/file-handles.js';
import { tempFolders } from '../helpers/temp-folder.js';

const newFolder = tempFolders();

afterEach(() => void jest.restoreAllMocks());

describe('DurableFolders', () => {
  test('takes no folder away from a step in it', async () => {
    const base = await newFolder();
    const folders = new DurableFolders();
    await Promise.all(
      Array.from({ length: 300 }, async (_, index) => {
        const folder = join(base, String(index));
        await mkdir(folder);
        await Promise.all([
          folders.removeIfEmpty(folder),
          folders.use(folder, () => writeFile(join(folder, 'file'), '')),
          folders.removeIfEmpty(folder),
        ]);
        await access(join(folder, 'file'));
      }),
    );
  });

  test('removes only an empty folder', async () => {
    const base = await newFolder();
    const folders = new DurableFolders();
    for (const name of ['empty', 'full']) await mkdir(join(base, name));
    await writeFile(join(base, 'full', 'file'), '');
    for (const name of ['empty', 'empty', 'full']) await folders.removeIfEmpty(join(base, name));
    expect(await readdir(base)).toEqual(['full']);
  });

  test.each([
    ['by itself', (folders: DurableFolders, folder: string) => folders.removeIfEmpty(folder)],
    ['by somebody else', (_folders: DurableFolders, folder: string) => rm(folder, { recursive: true })],
  ])('makes a folder again, durably, that was removed %s', async (_who, remove) => {
    const folder = join(await newFolder(), 'day');
    const folders = new DurableFolders();
    await folders.use(folder, async () => {});
    await remove(folders, folder);
    const syncs = jest.spyOn(await fileHandlePrototype(), 'sync');
    await folders.use(folder, () => writeFile(join(folder, 'file'), ''));
    expect(await readdir(folder)).toEqual(['file']);
    expect(syncs).toHaveBeenCalledTimes(1);
  });

  test('goes on after a step that failed', async () => {
    const base = await newFolder();
    const folders = new DurableFolders();
    await writeFile(join(base, 'file'), '');
    const failed = folders.use(join(base, 'file', 'folder'), async () => 'one');
    const done = folders.use(join(base, 'folder'), async () => 'two');
    await expect(failed).rejects.toMatchObject({ code: 'ENOTDIR' });
    expect(await done).toBe('two');
  });

  test('syncs the parent of every folder that it makes', async () => {
    const base = await newFolder();
    const syncs = jest.spyOn(await fileHandlePrototype(), 'sync');
    const folders = new DurableFolders();
    const folder = join(base, 'a', 'b', 'c');
    expect(await folders.use(folder, async () => syncs.mock.calls.length)).toBe(3);
    expect(await folders.use(folder, async () => syncs.mock.calls.length)).toBe(3);
  });

  test('answers nobody with a sync that began before the question', async () => {
    const base = await newFolder();
    const prototype = await fileHandlePrototype();
    const ends: (() => void)[] = [];
    let begun = () => {};
    jest.spyOn(prototype, 'sync').mockImplementation(
      () =>
        new Promise((resolve) => {
          ends.push(resolve);
          begun();
        }),
    );
    const nextBegins = () =>
      new Promise<void>((resolve) => {
        begun = resolve;
      });
    const folders = new DurableFolders();

    const firstBegins = nextBegins();
    const first = folders.sync(base);
    await firstBegins;
    let late = 0;
    const others = [folders.sync(base), folders.sync(base)].map((sync) => sync.then(() => (late += 1)));
    for (let turn = 0; turn < 5; turn += 1) await access(base);
    expect(ends).toHaveLength(1);
    const secondBegins = nextBegins();
    ends[0]?.();
    await first;
    await secondBegins;
    expect(late).toBe(0);
    ends[1]?.();
    await Promise.all(others);
    expect(ends).toHaveLength(2);
  });
});
