import { execFile, execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { mkdir, readdir, readFile, realpath, rm, stat, symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterEach, describe, expect, jest, test } from '@jest/globals';
import { FileImageStore } from '../../lib/images/file-image-store.js';
import type { ImageStore, StoredFile } from '../../lib/images/image-store.js';
import { fileHandlePrototype } from '../helpers/file-handles.js';
import { sampleImages } from '../helpers/sample-images.js';
import { tempFolders } from '../helpers/temp-folder.js';

const newFolder = tempFolders();
const png = sampleImages.png as Buffer;

afterEach(() => void jest.restoreAllMocks());

interface Opened {
  /** The real path of a folder around the store's. */
  base: string;
  folder: string;
  store: FileImageStore;
  warnings: unknown[];
}

async function openStore(): Promise<Opened> {
  const base = await realpath(await newFolder());
  const folder = join(base, 'output');
  const warnings: unknown[] = [];
  const warn = (...parts: unknown[]) => void warnings.push(parts.join(' '));
  const store = new FileImageStore({ folder, logger: { info: warn, warn, error: warn } });
  await store.open();
  return { base, folder, store, warnings };
}

async function put(store: ImageStore, stem: string, bytes: Uint8Array, extension = 'png'): Promise<string> {
  const writer = await store.create(stem);
  await writer.write(bytes);
  return writer.finish(extension);
}

async function contentOf(store: ImageStore, path: string): Promise<Buffer | undefined> {
  const file = await store.read(path);
  if (!file) return undefined;
  try {
    return await buffer(file.read());
  } finally {
    await file.close();
  }
}

/** All files below a folder. */
async function filesIn(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1));
}

describe('FileImageStore, writing', () => {
  test('shows a file under its name only when it is finished', async () => {
    const { folder, store } = await openStore();
    const bytes = randomBytes(300_000);
    const writer = await store.create('2026-11-22/Ab12Cd34-0');
    await writer.write(bytes.subarray(0, 100_000));
    await writer.write(bytes.subarray(100_000));
    expect(await filesIn(folder)).toEqual([expect.stringMatching(/^\.partial\/[^/]+$/)]);
    expect(await store.read((await filesIn(folder))[0] as string)).toBeUndefined();

    expect(await writer.finish('png')).toBe('2026-11-22/Ab12Cd34-0.png');
    expect(await filesIn(folder)).toEqual(['2026-11-22/Ab12Cd34-0.png']);
    expect(bytes.equals((await contentOf(store, '2026-11-22/Ab12Cd34-0.png')) as Buffer)).toBe(true);
  });

  test('is done with the bytes when a write has resolved, and keeps the order of writes nobody waits for', async () => {
    const { store } = await openStore();
    const writer = await store.create('day/x');
    const shared = Buffer.alloc(1000, 'a');
    await writer.write(shared);
    shared.fill('b');
    const pieces = Array.from({ length: 50 }, (_, index) => Buffer.alloc(1000 + index, index));
    const writes = pieces.map((piece) => writer.write(piece));
    const finished = writer.finish('bin');
    await Promise.all([...writes, finished]);
    expect(await contentOf(store, await finished)).toEqual(
      Buffer.concat([Buffer.alloc(1000, 'a'), ...pieces]),
    );
  });

  test('writes an empty file', async () => {
    const { store } = await openStore();
    const writer = await store.create('day/empty');
    expect(await contentOf(store, await writer.finish('json'))).toEqual(Buffer.alloc(0));
  });

  test('syncs the file, then its name, and the name of a new folder', async () => {
    const { folder, store } = await openStore();
    const steps: string[] = [];
    const prototype = await fileHandlePrototype();
    const { datasync, sync } = prototype;
    const names = () => filesIn(folder).then((files) => (files.includes('day/x.png') ? 'named' : 'unnamed'));
    jest.spyOn(prototype, 'datasync').mockImplementation(async function (this: FileHandle) {
      steps.push(`file, ${await names()}`);
      return datasync.call(this);
    });
    jest.spyOn(prototype, 'sync').mockImplementation(async function (this: FileHandle) {
      const { ino } = await this.stat();
      const which =
        ino === (await stat(folder)).ino
          ? 'output'
          : ino === (await stat(join(folder, 'day'))).ino
            ? 'day'
            : '?';
      steps.push(`${which}, ${await names()}`);
      return sync.call(this);
    });
    await put(store, 'day/x', png);
    expect(steps).toEqual(['file, unnamed', 'output, unnamed', 'day, named']);
    steps.length = 0;
    await put(store, 'day/y', png);
    expect(steps).toEqual(['file, named', 'day, named']);
  });

  test('keeps many files that are finished at once', async () => {
    const { store } = await openStore();
    const paths = await Promise.all(
      Array.from({ length: 40 }, (_, index) => put(store, `day-${index % 3}/x-${index}`, png)),
    );
    for (const path of paths) expect(await contentOf(store, path)).toEqual(png);
  });

  test('does not take a file for kept whose name could not be made durable', async () => {
    const { folder, store } = await openStore();
    await put(store, 'day/first', png);
    const prototype = await fileHandlePrototype();
    jest
      .spyOn(prototype, 'sync')
      .mockRejectedValue(Object.assign(new Error('EIO: i/o error, fsync'), { code: 'EIO' }));
    const writer = await store.create('day/x');
    await expect(writer.finish('png')).rejects.toMatchObject({
      code: 'NOT_STORED',
      message: 'Could not store day/x: EIO: i/o error, fsync',
      cause: { code: 'EIO' },
    });
    await writer.discard();
    expect(await filesIn(folder)).toEqual(['day/first.png']);
  });

  test('syncs a new folder again when that failed for the file before', async () => {
    const { store } = await openStore();
    const prototype = await fileHandlePrototype();
    const syncs = jest.spyOn(prototype, 'sync').mockRejectedValueOnce(new Error('not now'));
    await expect(put(store, 'day/x', png)).rejects.toThrow('not now');
    syncs.mockClear();
    await put(store, 'day/y', png);
    expect(syncs).toHaveBeenCalledTimes(2);
  });

  test('never replaces a file', async () => {
    const { folder, store } = await openStore();
    await put(store, 'day/x', Buffer.from('first'));
    const second = await store.create('day/x');
    await second.write(Buffer.from('second'));
    await expect(second.finish('png')).rejects.toMatchObject({
      code: 'NOT_STORED',
      message: expect.stringContaining(join(folder, 'day/x.png')),
    });
    expect(await contentOf(store, 'day/x.png')).toEqual(Buffer.from('first'));
    await second.discard();
    expect(await filesIn(folder)).toEqual(['day/x.png']);
  });

  test('lets one of several files have a name that all want at once', async () => {
    const { folder, store } = await openStore();
    const texts = ['one', 'two', 'three', 'four'];
    for (let round = 0; round < 20; round += 1) {
      const outcomes = await Promise.allSettled(
        texts.map((text) => put(store, `day/${round}`, Buffer.from(text))),
      );
      const kept = texts.filter((_, index) => outcomes[index]?.status === 'fulfilled');
      expect(kept).toEqual([await readFile(join(folder, `day/${round}.png`), 'utf8')]);
    }
  });

  test('throws away what is discarded, at any time', async () => {
    const { folder, store, warnings } = await openStore();
    const atOnce = await store.create('day/a');
    await atOnce.discard();
    const writing = await store.create('day/b');
    const write = writing.write(png);
    await writing.discard();
    await write;
    await writing.discard();
    await expect(writing.write(png)).rejects.toMatchObject({ code: 'NOT_STORED' });
    await expect(writing.finish('png')).rejects.toMatchObject({ code: 'NOT_STORED' });
    expect(await filesIn(folder)).toEqual([]);

    const finished = await store.create('day/c');
    const finishing = finished.finish('png');
    await finished.discard();
    expect(await filesIn(folder)).toEqual([await finishing]);
    await expect(finished.finish('png')).rejects.toMatchObject({ code: 'NOT_STORED' });
    expect(await filesIn(folder)).toEqual(['day/c.png']);
    expect(warnings).toEqual([]);
  });

  test('says it when what was discarded cannot be removed', async () => {
    const { folder, store, warnings } = await openStore();
    const writer = await store.create('day/a');
    const [partial] = await filesIn(folder);
    await rm(join(folder, partial as string));
    await mkdir(join(folder, partial as string));
    await writer.discard();
    expect(warnings).toEqual([expect.stringContaining(partial as string)]);
  });

  test.each(['../x', '/x', 'day/../../x', '.partial/x', 'day\\x', '', 'day/'])(
    'refuses the stem %j',
    async (stem) => {
      const { base, folder, store } = await openStore();
      await expect(store.create(stem)).rejects.toMatchObject({
        code: 'NOT_STORED',
        message: expect.stringContaining('stem'),
      });
      expect(await filesIn(folder)).toEqual([]);
      expect(await readdir(base)).toEqual(['output']);
    },
  );

  test.each(['/../../../x', '/../y', 'png\\'])('refuses the extension %j', async (extension) => {
    const { folder, store } = await openStore();
    const writer = await store.create('day/x');
    await expect(writer.finish(extension)).rejects.toMatchObject({ code: 'NOT_STORED' });
    await writer.discard();
    expect(await filesIn(folder)).toEqual([]);
  });

  test('writes through no folder that leads out', async () => {
    const { base, folder, store } = await openStore();
    await mkdir(join(base, 'outside'));
    await symlink(join(base, 'outside'), join(folder, 'day'));
    await expect(put(store, 'day/x', png)).rejects.toMatchObject({ code: 'NOT_STORED' });
    expect(await readdir(join(base, 'outside'))).toEqual([]);
  });

  test('goes on when somebody has cleared the folder', async () => {
    const { folder, store } = await openStore();
    await rm(folder, { recursive: true });
    expect(await contentOf(store, await put(store, 'day/x', png))).toEqual(png);
  });

  test('rejects everything after a write that the disk has not taken as a whole', async () => {
    const folder = join(await newFolder(), 'output');
    const script = fileURLToPath(new URL('../helpers/limited-disk-child.ts', import.meta.url));
    // No file may be larger than 2,048 blocks of 512 bytes.
    const command = 'ulimit -f 2048 && exec "$0" --import tsx "$1" "$2"';
    const { stdout } = await promisify(execFile)('sh', ['-c', command, process.execPath, script, folder]);
    const tooLarge = 'Could not store day/too-large: EFBIG: file too large, write';
    expect(JSON.parse(stdout)).toEqual({
      outcomes: ['done', tooLarge, tooLarge, tooLarge, 'done'],
      left: ['.partial'],
    });
  });
});

describe('FileImageStore, opening', () => {
  const quiet = { info: () => {}, warn: () => {}, error: () => {} };

  test('removes what an earlier process left unfinished, and nothing else', async () => {
    const { base, folder, store } = await openStore();
    await put(store, 'day/x', png);
    const writer = await store.create('day/y');
    await writer.write(png);
    await mkdir(join(base, 'outside'));
    await writeFile(join(base, 'outside', 'file'), 'kept');
    await symlink(join(base, 'outside'), join(folder, '.partial', 'link'));
    await mkdir(join(folder, '.partial', 'folder'));

    await store.open();
    expect(await filesIn(folder)).toHaveLength(3);
    await new FileImageStore({ folder, logger: quiet }).open();
    expect(await filesIn(folder)).toEqual(['day/x.png']);
    expect(await readdir(join(base, 'outside'))).toEqual(['file']);
    await writer.discard();
  });

  test('does not follow a link in the place of its folder for partial files', async () => {
    const { base, folder } = await openStore();
    await rm(join(folder, '.partial'), { recursive: true });
    await mkdir(join(base, 'outside'));
    await writeFile(join(base, 'outside', 'file'), 'kept');
    await symlink(join(base, 'outside'), join(folder, '.partial'));
    await new FileImageStore({ folder, logger: quiet }).open();
    expect(await readdir(join(base, 'outside'))).toEqual(['file']);
    expect((await stat(join(folder, '.partial'))).isDirectory()).toBe(true);
  });

  test('takes a link to a folder', async () => {
    const { base } = await openStore();
    await mkdir(join(base, 'elsewhere'));
    await symlink(join(base, 'elsewhere'), join(base, 'link'));
    const store = new FileImageStore({ folder: join(base, 'link'), logger: quiet });
    await store.open();
    const path = await put(store, 'day/x', png);
    expect(await contentOf(store, path)).toEqual(png);
    expect(await filesIn(join(base, 'elsewhere'))).toEqual(['day/x.png']);
    expect(await store.remove(path)).toBe(true);
  });

  test('rejects with the folder and the reason, and can be tried again', async () => {
    const base = await newFolder();
    const folder = join(base, 'file', 'output');
    await writeFile(join(base, 'file'), '');
    const store = new FileImageStore({ folder, logger: quiet });
    const outcomes = await Promise.allSettled([store.open(), store.open()]);
    for (const outcome of outcomes) {
      expect(outcome).toMatchObject({
        reason: {
          code: 'FOLDER_UNUSABLE',
          message: expect.stringMatching(/output.*ENOTDIR/),
          cause: { code: 'ENOTDIR' },
        },
      });
    }
    await expect(store.create('day/x')).rejects.toMatchObject({ code: 'FOLDER_UNUSABLE' });
    await rm(join(base, 'file'));
    await store.open();
    expect(await put(store, 'day/x', png)).toBe('day/x.png');
  });

  test('really tries to write', async () => {
    const { folder } = await openStore();
    const prototype = await fileHandlePrototype();
    const full = Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' });
    jest.spyOn(prototype, 'writeFile').mockRejectedValue(full);
    const store = new FileImageStore({ folder, logger: quiet });
    await expect(store.open()).rejects.toMatchObject({ code: 'FOLDER_UNUSABLE', cause: { code: 'ENOSPC' } });
  });
});

describe('FileImageStore, reading', () => {
  async function keep(bytes: Buffer): Promise<Opened & { path: string; file: StoredFile }> {
    const opened = await openStore();
    const path = await put(opened.store, 'day/x', bytes, 'bin');
    return { ...opened, path, file: (await opened.store.read(path)) as StoredFile };
  }

  test('gives streams, ranges and slices', async () => {
    const bytes = randomBytes(700_001);
    const { file } = await keep(bytes);
    expect(file.sizeBytes).toBe(700_001);
    const same = async (read: Promise<Buffer>, start: number, end: number) =>
      (await read).equals(bytes.subarray(start, end));
    expect(await same(buffer(file.read()), 0, 700_001)).toBe(true);
    expect(await same(buffer(file.read({ start: 0, end: 0 })), 0, 1)).toBe(true);
    expect(await same(buffer(file.read({ start: 5, end: 600_000 })), 5, 600_001)).toBe(true);
    expect(await same(buffer(file.read({ start: 700_000, end: 900_000 })), 700_000, 700_001)).toBe(true);
    expect(await same(file.slice(0, 10), 0, 10)).toBe(true);
    expect(await same(file.slice(300_000, 300_000), 300_000, 600_000)).toBe(true);
    expect(await same(file.slice(699_999, 10), 699_999, 700_001)).toBe(true);
    expect(await file.slice(800_000, 10)).toEqual(Buffer.alloc(0));
    const [one, two] = await Promise.all([buffer(file.read()), buffer(file.read())]);
    expect(one?.equals(bytes) && two?.equals(bytes)).toBe(true);
    await file.close();
  });

  test('closes after the streams that are under way, and only then', async () => {
    const bytes = randomBytes(600_000);
    const { file, store, path } = await keep(bytes);
    const stream = file.read();
    const abandoned = file.read();
    let closed = false;
    const closing = file.close().then(() => {
      closed = true;
    });
    expect(() => file.read()).toThrow(expect.objectContaining({ code: 'CLOSED' }));
    await expect(file.slice(0, 1)).rejects.toMatchObject({ code: 'CLOSED' });
    await store.remove(path);
    expect((await buffer(stream)).equals(bytes)).toBe(true);
    expect(closed).toBe(false);
    abandoned.destroy();
    await closing;
    await file.close();
  });

  test('breaks a stream whose file has become shorter', async () => {
    const { file, folder, path } = await keep(randomBytes(600_000));
    await truncate(join(folder, path), 300_000);
    await expect(buffer(file.read())).rejects.toThrow('Expected 600000 bytes in a kept file, found 300000');
    expect(await file.slice(299_000, 2000)).toHaveLength(1000);
    await file.close();
  });

  test('finds nothing where there is nothing, and nothing outside', async () => {
    const { base, folder, store, file } = await keep(png);
    await file.close();
    await writeFile(join(base, 'secret.png'), png);
    await mkdir(join(base, 'outside'));
    await writeFile(join(base, 'outside', 'x.png'), png);
    await symlink(join(base, 'outside'), join(folder, 'away'));
    await symlink(join(base, 'secret.png'), join(folder, 'day', 'link.png'));
    const paths = [
      'day/y.png',
      'day',
      '',
      '../secret.png',
      'away/x.png',
      'day/link.png',
      'day/../../secret.png',
      'day/x.bin/y',
    ];
    for (const path of paths) {
      expect(await store.read(path)).toBeUndefined();
      expect(await store.remove(path)).toBe(false);
    }
    expect(await filesIn(base)).toEqual(
      expect.arrayContaining(['secret.png', 'outside/x.png', 'output/day/link.png', 'output/day/x.bin']),
    );
  });

  test('says why a file that is there cannot be read, and closes it', async () => {
    const { store } = await openStore();
    await put(store, 'day/x', png);
    let handle: FileHandle | undefined;
    jest.spyOn(await fileHandlePrototype(), 'stat').mockImplementation(async function (this: FileHandle) {
      handle = this;
      throw Object.assign(new Error('EIO: i/o error'), { code: 'EIO' });
    });
    await expect(store.read('day/x.png')).rejects.toMatchObject({ code: 'EIO' });
    expect(handle?.fd).toBe(-1);
  });

  test('reads an image at an absolute path, and nothing that is none', async () => {
    const { base, store } = await openStore();
    const image = join(base, 'old image.png');
    await writeFile(image, png);
    await writeFile(join(base, 'passwd'), 'root:x:0:0');
    await writeFile(join(base, 'empty.png'), '');
    await mkdir(join(base, 'folder.png'));
    await symlink(image, join(base, 'link.png'));
    execFileSync('mkfifo', [join(base, 'pipe.png')]);
    expect(await contentOf(store, image)).toEqual(png);
    for (const name of [
      'passwd',
      'empty.png',
      'folder.png',
      'link.png',
      'pipe.png',
      'absent.png',
      'old image.png\0',
    ]) {
      expect(await store.read(join(base, name))).toBeUndefined();
    }
    expect(await store.remove(image)).toBe(false);
    expect(await readFile(image)).toEqual(png);
  });

  test('leaves nothing open that is no image', async () => {
    const { base, store } = await openStore();
    await writeFile(join(base, 'passwd'), 'root:x:0:0');
    const prototype = await fileHandlePrototype();
    const { stat: original } = prototype;
    const handles: FileHandle[] = [];
    jest.spyOn(prototype, 'stat').mockImplementation(function (this: FileHandle) {
      handles.push(this);
      return original.call(this);
    } as typeof original);
    expect(await store.read(join(base, 'passwd'))).toBeUndefined();
    expect(handles.map(({ fd }) => fd)).toEqual([-1]);
  });
});

describe('FileImageStore, a check', () => {
  test('writes and syncs a file, which is gone afterwards', async () => {
    const { folder, store } = await openStore();
    await put(store, 'day/x', png);
    const syncs = jest.spyOn(await fileHandlePrototype(), 'datasync');
    await store.check();
    expect(syncs).toHaveBeenCalledTimes(1);
    expect(await filesIn(folder)).toEqual(['day/x.png']);
  });

  test('is one for all who ask at once', async () => {
    const { store } = await openStore();
    const syncs = jest.spyOn(await fileHandlePrototype(), 'datasync');
    await Promise.all([store.check(), store.check(), store.check()]);
    expect(syncs).toHaveBeenCalledTimes(1);
    await store.check();
    expect(syncs).toHaveBeenCalledTimes(2);
  });

  test('says what is wrong, leaves nothing behind, and is well again when that is', async () => {
    const { folder, store } = await openStore();
    const failure = Object.assign(new Error('EIO: i/o error, fdatasync'), { code: 'EIO' });
    jest.spyOn(await fileHandlePrototype(), 'datasync').mockRejectedValueOnce(failure);
    await expect(store.check()).rejects.toMatchObject({
      code: 'NOT_STORED',
      message: `Images cannot be written to ${folder}: EIO: i/o error, fdatasync`,
      cause: failure,
    });
    expect(await filesIn(folder)).toEqual([]);
    await store.check();
  });

  test('minds a folder that has been cleared as little as an image does', async () => {
    const { folder, store } = await openStore();
    await rm(folder, { recursive: true });
    await store.check();
    await rm(folder, { recursive: true });
    await writeFile(folder, '');
    await expect(store.check()).rejects.toMatchObject({ code: 'NOT_STORED', cause: { code: 'ENOTDIR' } });
  });

  test('touches nothing before the store is open', async () => {
    const base = await newFolder();
    const store = new FileImageStore({ folder: join(base, 'output'), logger: console });
    await expect(store.check()).rejects.toMatchObject({
      code: 'NOT_STORED',
      message: expect.stringContaining(join(base, 'output')),
    });
    expect(await readdir(base)).toEqual([]);
  });

  // Only root may mount a filesystem, and only Linux has this one.
  const canMount = process.platform === 'linux' && process.getuid?.() === 0;
  (canMount ? test : test.skip)('sees a disk that is full, and one that may not be written', async () => {
    const { base, folder, store } = await openStore();
    const mount = (...options: string[]) => execFileSync('mount', [...options, folder]);
    mount('-t', 'tmpfs', '-o', 'size=16k', 'tmpfs');
    try {
      await store.open();
      await store.check();
      await writeFile(join(folder, 'filler'), Buffer.alloc(16 * 1024));
      await expect(store.check()).rejects.toMatchObject({ code: 'NOT_STORED', cause: { code: 'ENOSPC' } });
      expect(await filesIn(folder)).toEqual(['filler']);
      await rm(join(folder, 'filler'));
      await store.check();
      mount('-o', 'remount,ro');
      await expect(store.check()).rejects.toMatchObject({ code: 'NOT_STORED', cause: { code: 'EROFS' } });
    } finally {
      execFileSync('umount', [folder]);
    }
    expect(await readdir(base)).toEqual(['output']);
  });
});

describe('FileImageStore, removing', () => {
  test('removes a file, and the folder that it leaves empty', async () => {
    const { folder, store } = await openStore();
    await put(store, 'day/x', png);
    await put(store, 'day/y', png);
    expect(await store.remove('day/x.png')).toBe(true);
    expect(await store.remove('day/x.png')).toBe(false);
    expect(await store.read('day/x.png')).toBeUndefined();
    expect(await filesIn(folder)).toEqual(['day/y.png']);
    expect(await store.remove('day/y.png')).toBe(true);
    expect(await readdir(folder)).toEqual(['.partial']);
  });

  test('removes a file beside the folders, and not the folder itself', async () => {
    const { folder, store } = await openStore();
    await put(store, 'x', png);
    await rm(join(folder, '.partial'), { recursive: true });
    expect(await store.remove('x.png')).toBe(true);
    expect(await readdir(folder)).toEqual([]);
  });

  test('never takes the folder away from a file that is just being finished', async () => {
    const { folder, store, warnings } = await openStore();
    for (let round = 0; round < 30; round += 1) {
      const old = await put(store, 'day/old', png);
      const [path] = await Promise.all([put(store, `day/new-${round}`, png), store.remove(old)]);
      expect(await contentOf(store, path)).toEqual(png);
      await store.remove(path);
    }
    expect(await filesIn(folder)).toEqual([]);
    expect(warnings).toEqual([]);
  });
});
