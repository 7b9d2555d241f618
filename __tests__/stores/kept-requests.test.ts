import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdir, readdir, readFile, stat, symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import fc from 'fast-check';
import { KeptRequests } from '../../lib/stores/kept-requests.js';
import type { RequestFile } from '../../lib/stores/request-file.js';
import type { RequestHead } from '../../lib/stores/request-head.js';
import { fileHandlePrototype } from '../helpers/file-handles.js';
import { inspectingLogger } from '../helpers/inspected-log.js';
import { tempFolders } from '../helpers/temp-folder.js';

const newFolder = tempFolders();
const id = 'abcDEF12';
const head: RequestHead = {
  method: 'POST',
  url: '/sdapi/v1/txt2img?a=%20b',
  headers: { 'content-type': 'application/json', host: 'x:1', 'x-name': 'J\u00fcrgen' },
  ip: '::1',
};

let folder: string;
let kept: KeptRequests;
let log: string[];

beforeEach(async () => {
  folder = join(await newFolder(), 'deep', 'requests');
  log = [];
  kept = new KeptRequests({ folder, logger: inspectingLogger(log) });
});

afterEach(() => {
  jest.restoreAllMocks();
});

async function* of(...chunks: (Buffer | string | Error)[]): AsyncGenerator<Buffer> {
  for (const chunk of chunks) {
    if (chunk instanceof Error) throw chunk;
    yield Buffer.from(chunk);
  }
}

/** What is kept, read as somebody would who runs it again. */
async function read(jobId: string, store = kept): Promise<{ head: RequestHead; body: Buffer } | undefined> {
  const request = await store.open(jobId);
  if (!request) return undefined;
  try {
    const body = await buffer(request.chunks());
    expect(request.bodyBytes).toBe(body.length);
    return { head: request.head, body };
  } finally {
    await request.close();
  }
}

const pathOf = (jobId: string) => join(folder, `${jobId}.request`);

describe('a request', () => {
  test.each([
    ['without a body', []],
    ['of 18 bytes', ['{"prompt":"a c', 'at"}']],
    [
      'of 3 MB with newlines',
      [randomBytes(1_000_000), Buffer.alloc(1_000_000, '\n'), randomBytes(1_000_000)],
    ],
  ])('%s comes back as it was, also to another process', async (_name, chunks) => {
    await kept.keep(id, head, of(...chunks));
    const other = new KeptRequests({ folder, logger: inspectingLogger(log) });
    const found = await read(id, other);
    expect(found?.head).toEqual(head);
    expect(found?.body.equals(Buffer.concat(chunks.map((chunk) => Buffer.from(chunk))))).toBe(true);
    expect(await readdir(folder)).toEqual([`${id}.request`]);
    expect(log).toEqual([]);
  });

  test('has the mark of its head, and is for nobody else to read', async () => {
    const marked: RequestHead = { ...head, needs_login: true };
    await kept.keep(id, marked, of('x'));
    expect((await read(id))?.head).toEqual(marked);
    if (process.platform !== 'win32') expect((await stat(pathOf(id))).mode & 0o777).toBe(0o600);
  });

  test('takes the place of an earlier one', async () => {
    await kept.keep(id, head, of('a longer one'));
    await kept.keep(id, { ...head, ip: '' }, of('short'));
    expect(await read(id)).toEqual({ head: { ...head, ip: '' }, body: Buffer.from('short') });
  });

  test('can be read twice, and while it is removed', async () => {
    await kept.keep(id, head, of('bytes'));
    const request = (await kept.open(id)) as RequestFile;
    await kept.remove(id);
    expect(String(await buffer(request.chunks()))).toBe('bytes');
    expect(String(await buffer(request.chunks()))).toBe('bytes');
    await request.close();
    await request.close();
    await expect(buffer(request.chunks())).rejects.toThrow();
  });

  test('is durable before that is said: the bytes, then the name', async () => {
    const prototype = await fileHandlePrototype();
    const steps: string[] = [];
    const sync = prototype.sync;
    jest.spyOn(prototype, 'sync').mockImplementation(async function (this: typeof prototype) {
      const isFolder = (await this.stat()).isDirectory();
      steps.push(isFolder ? `folder with ${(await readdir(folder)).map((name) => name.slice(-8))}` : 'file');
      await sync.call(this);
    });
    await mkdir(folder, { recursive: true });
    await kept.keep(id, head, of('x'));
    expect(steps).toEqual(['file', 'folder with .request']);
  });
});

describe('a request that is kept loosely', () => {
  test.each([
    ['small', ['{"prompt":"p"}']],
    ['large', [randomBytes(1_000_000), Buffer.alloc(70_000, '\n'), Buffer.from('end')]],
  ])('comes back as it was: a %s one', async (_name, chunks) => {
    await kept.keep(id, head, of('an earlier one, in a folder that is there'), 'loosely');
    await kept.keep(id, head, of(...chunks), 'loosely');
    expect((await read(id))?.body.equals(Buffer.concat(chunks.map((chunk) => Buffer.from(chunk))))).toBe(
      true,
    );
    expect((await stat(pathOf(id))).mode & 0o777).toBe(0o600);
    expect(await readdir(folder)).toEqual([`${id}.request`]);
  });

  test('waits for no disk', async () => {
    await mkdir(folder, { recursive: true });
    const syncs = jest.spyOn(await fileHandlePrototype(), 'sync');
    await kept.keep(id, head, of('x'), 'loosely');
    expect(syncs).not.toHaveBeenCalled();
  });

  test('is not read before all of it is there', async () => {
    let go = () => {};
    const held = new Promise<void>((resolve) => {
      go = resolve;
    });
    const slow = async function* () {
      yield Buffer.alloc(100_000, 'a');
      await held;
      yield Buffer.from('b');
    };
    const keeping = kept.keep(id, head, slow(), 'loosely');
    const reading = read(id);
    go();
    await keeping;
    expect((await reading)?.body.length).toBe(100_001);
    expect(log).toEqual([]);
  });

  test('and cannot be, leaves nothing behind', async () => {
    const keeping = kept.keep(id, head, of('half', new Error('gone')), 'loosely');
    await expect(keeping).rejects.toMatchObject({ code: 'NOT_STORED' });
    expect(await readdir(folder)).toEqual([]);
  });
});

describe('a request that cannot be kept leaves nothing behind', () => {
  test('its body breaks off', async () => {
    const keeping = kept.keep(id, head, of('half', new Error('gone')));
    await expect(keeping).rejects.toMatchObject({ name: 'JobTrackerError', code: 'NOT_STORED' });
    await expect(keeping).rejects.toThrow(/abcDEF12.*gone/);
    expect(await readdir(folder)).toEqual([]);
  });

  test.each(['write', 'sync'] as const)('the disk refuses to %s', async (method) => {
    await kept.keep('earlier1', head, of('x'));
    const prototype = await fileHandlePrototype();
    jest.spyOn(prototype, method).mockRejectedValue(new Error('ENOSPC') as never);
    await expect(kept.keep(id, head, of('y'))).rejects.toMatchObject({ code: 'NOT_STORED' });
    expect(await readdir(folder)).toEqual(['earlier1.request']);
  });

  test('its name cannot be made durable', async () => {
    await mkdir(folder, { recursive: true });
    const prototype = await fileHandlePrototype();
    const sync = prototype.sync;
    jest.spyOn(prototype, 'sync').mockImplementation(async function (this: typeof prototype) {
      if ((await this.stat()).isDirectory()) throw new Error('EIO');
      await sync.call(this);
    });
    await expect(kept.keep(id, head, of('y'))).rejects.toMatchObject({ code: 'NOT_STORED' });
    expect(await readdir(folder)).toEqual([]);
  });

  test('the folder cannot be made', async () => {
    await writeFile(join(folder, '..', '..', 'deep'), 'in the way');
    await expect(kept.keep(id, head, of('y'))).rejects.toMatchObject({ code: 'NOT_STORED' });
    expect(log).toEqual([]);
  });

  test.each<[string, Partial<RequestHead>]>([
    ['a header with a line break', { headers: { 'x-a': 'b\r\nx-c: d' } }],
    ['a header whose name is none', { headers: { 'x a': 'b' } }],
    ['a path with a blank', { url: '/a b' }],
    ['a path that is none', { url: 'http://else.where/' }],
    ['a method that is none', { method: 'GET /' }],
    ['a head without end', { headers: { a: 'b'.repeat(300_000) } }],
  ])('%s', async (_name, wrong) => {
    await expect(kept.keep(id, { ...head, ...wrong }, of('y'))).rejects.toMatchObject({ code: 'NOT_STORED' });
    expect(await readdir(folder)).toEqual([]);
  });

  test('a step that failed is no obstacle to the next one', async () => {
    await kept.keep(id, head, of(new Error('gone'))).catch(() => {});
    await kept.keep(id, head, of('well'));
    expect(String((await read(id))?.body)).toBe('well');
  });
});

test.each(['../../x', 'a/../b1', '', 'abcDEF1', 'abcDEF12345', 'abcDEF1\0', 'abc.DEF1', '..'])(
  'what is no job id (%j) becomes no path',
  async (notId) => {
    await expect(kept.keep(notId, head, of('x'))).rejects.toMatchObject({ code: 'NOT_STORED' });
    expect(await kept.open(notId)).toBeUndefined();
    await kept.remove(notId);
    await expect(readdir(folder)).rejects.toMatchObject({ code: 'ENOENT' });
  },
);

describe('what is on the disk is not taken on trust', () => {
  test('nothing there', async () => {
    expect(await kept.open(id)).toBeUndefined();
    expect(log).toEqual([]);
  });

  test('any byte that was changed, any that is missing, any too many', async () => {
    await kept.keep(id, head, of('{"prompt":"p"}'));
    const good = await readFile(pathOf(id));
    await fc.assert(
      fc.asyncProperty(
        fc.nat(good.length - 1),
        fc.integer({ min: 1, max: 255 }),
        fc.constantFrom('change', 'cut', 'add'),
        async (at, bits, damage) => {
          const bad = Buffer.from(good);
          bad[at] = (bad[at] as number) ^ bits;
          if (damage === 'change') await writeFile(pathOf(id), bad);
          if (damage === 'cut') await writeFile(pathOf(id), good.subarray(0, at));
          if (damage === 'add') await writeFile(pathOf(id), Buffer.concat([good, Buffer.from([bits])]));
          expect(await read(id)).toBeUndefined();
        },
      ),
      { numRuns: 400 },
    );
    expect(log[0]).toContain(id);
  });

  test('white space that was changed', async () => {
    await kept.keep(id, head, of('{"prompt":"p"}'));
    const good = await readFile(pathOf(id));
    for (let at = good.indexOf(' '); at < 40; at += 5) {
      for (const blank of '\t\r\n') {
        const bad = Buffer.from(good);
        bad.write(blank, at);
        await writeFile(pathOf(id), bad);
        expect(await kept.open(id)).toBeUndefined();
      }
    }
  });

  test('a file that was never finished', async () => {
    await kept.keep(id, head, of('{"prompt":"p"}'));
    const good = await readFile(pathOf(id), 'latin1');
    await writeFile(pathOf(id), good.replace(/: *14,/, `:${' '.repeat(16)},`), 'latin1');
    expect(await kept.open(id)).toBeUndefined();
  });

  test.each([
    '',
    '\n',
    'null\n',
    '[]\n',
    '{}\n',
    '{"body_bytes":0,"crc32":0,"request":{}}\n',
    'x'.repeat(300_000),
  ])('a foreign file (%#)', async (text) => {
    await mkdir(folder, { recursive: true });
    await writeFile(pathOf(id), text);
    expect(await kept.open(id)).toBeUndefined();
    expect(log).toHaveLength(1);
  });

  test('a folder, a link and a pipe in its place', async () => {
    await kept.keep('original1', head, of('x'));
    await mkdir(pathOf('afolder1'));
    await symlink(pathOf('original1'), pathOf('alink123'));
    execFileSync('mkfifo', [pathOf('apipe123')]);
    for (const name of ['afolder1', 'alink123', 'apipe123']) {
      expect(await kept.open(name)).toBeUndefined();
    }
  });

  test('a file that is cut while it is read ends in an error, and not early', async () => {
    await kept.keep(id, head, of(randomBytes(1_000_000)));
    const request = (await kept.open(id)) as RequestFile;
    await truncate(pathOf(id), 600_000);
    await expect(buffer(request.chunks())).rejects.toThrow(/600000/);
    await request.close();
  });
});

describe('remove', () => {
  test('takes it away, also where it has not been there', async () => {
    await kept.remove(id);
    await kept.keep(id, head, of('x'));
    await kept.remove(id);
    await kept.remove(id);
    expect(await readdir(folder)).toEqual([]);
  });

  test('waits for one that is being kept', async () => {
    let go = () => {};
    const held = new Promise<void>((resolve) => {
      go = resolve;
    });
    const slow = async function* () {
      yield Buffer.from('a');
      await held;
    };
    const keeping = kept.keep(id, head, slow());
    const removing = kept.remove(id);
    go();
    await Promise.all([keeping, removing]);
    expect(await readdir(folder)).toEqual([]);
  });
});

describe('clear', () => {
  test('leaves the requests of these jobs, and nothing else', async () => {
    for (const name of ['keepthis', 'notthis1']) await kept.keep(name, head, of(name));
    await writeFile(join(folder, 'leftover.spool'), 'x');
    await writeFile(join(folder, 'keepthis'), 'x');
    await mkdir(join(folder, 'inside', 'deeper'), { recursive: true });
    await mkdir(pathOf('afolder1'));
    await symlink(join(folder, '..'), pathOf('alink123'));
    await kept.clear(new Set(['keepthis', 'afolder1', 'alink123', 'notthere']));
    expect(await readdir(folder)).toEqual(['keepthis.request']);
    expect(String((await read('keepthis'))?.body)).toBe('keepthis');
    expect(log).toEqual([]);
  });

  test('has nothing to do without a folder', async () => {
    await kept.clear(new Set());
    expect(log).toEqual([]);
  });

  test('says what it cannot remove, and goes on', async () => {
    await mkdir(join(folder, '..'), { recursive: true });
    await writeFile(folder, 'no folder');
    await kept.clear(new Set());
    expect(log).toHaveLength(1);
    expect(log[0]).toContain(folder);
  });
});
