import { once } from 'node:events';
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import { type ReceiveOptions, RequestBody } from '../../lib/http/request-body.js';
import { fileHandlePrototype } from '../helpers/file-handles.js';
import { tempFolders } from '../helpers/temp-folder.js';

const newFolder = tempFolders();
let server: Server;
let directory: string;
let handle: (req: IncomingMessage, res: ServerResponse) => void | Promise<void>;
let failure: Promise<never>;
const bodies: RequestBody[] = [];

beforeEach(async () => {
  directory = join(await newFolder(), 'requests');
  failure = new Promise((_resolve, reject) => {
    server = createServer((req, res) => {
      Promise.resolve(handle(req, res)).catch(reject);
    });
  });
  failure.catch(() => {});
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
});

afterEach(async () => {
  jest.restoreAllMocks();
  for (const body of bodies.splice(0)) void body.discard();
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});

function send(bytes: Buffer) {
  const { port } = server.address() as AddressInfo;
  const client = request({ port, host: '127.0.0.1', method: 'POST', agent: false });
  client.on('error', () => {});
  client.end(bytes);
  return client;
}

function bodyOf(req: IncomingMessage, options: Partial<ReceiveOptions> = {}): RequestBody {
  const body = new RequestBody(req, { directory, memoryBytes: 1000, onChunk: () => {}, ...options });
  bodies.push(body);
  return body;
}

const large = Buffer.alloc(3_000_000, 'abcdefg');

describe('a body that does not fit into memory', () => {
  /** The server's side takes the body in, then gives it on; resolves to what was read of it. */
  function takenIn(): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      handle = async (req, res) => {
        const body = bodyOf(req);
        expect(await body.received).toBe(true);
        body.handOn();
        try {
          resolve(await buffer(req));
        } catch (error) {
          reject(error as Error);
        }
        res.end();
      };
    });
  }

  test('goes through a file without a name', async () => {
    const read = takenIn();
    send(large);
    expect((await Promise.race([read, failure])).equals(large)).toBe(true);
    expect(await readdir(directory)).toEqual([]);
  });

  test('stays in memory where the disk refuses', async () => {
    await writeFile(directory, 'in the way');
    const read = takenIn();
    send(large);
    expect((await Promise.race([read, failure])).equals(large)).toBe(true);
  });

  test('arrives although the disk hangs', async () => {
    await mkdir(directory);
    const prototype = await fileHandlePrototype();
    jest.spyOn(prototype, 'writev').mockImplementation(() => new Promise(() => {}));
    const received = new Promise<boolean>((resolve) => {
      handle = async (req, res) => {
        resolve(await bodyOf(req).received);
        res.end();
      };
    });
    send(large);
    expect(await Promise.race([received, failure])).toBe(true);
  });

  test('that cannot be read back is an error for who reads it, and for us', async () => {
    const prototype = await fileHandlePrototype();
    jest.spyOn(prototype, 'read').mockRejectedValue(new Error('EIO') as never);
    const told = new Promise<{ toUs: Error; toReader: unknown }>((resolve) => {
      handle = async (req) => {
        const body = bodyOf(req);
        await body.received;
        let toUs: Error | undefined;
        body.handOn([], (error) => {
          toUs = error;
        });
        const toReader = await buffer(req).catch((error: unknown) => error);
        resolve({ toUs: toUs as Error, toReader });
      };
    });
    send(large);
    const { toUs, toReader } = await Promise.race([told, failure]);
    expect(toUs.message).toContain('EIO');
    expect(toReader).toBeInstanceOf(Error);
  });
});

test('what was let go before it was read never looks whole', async () => {
  const outcome = new Promise<unknown>((resolve) => {
    handle = async (req) => {
      const body = bodyOf(req);
      await body.received;
      body.handOn();
      await body.discard();
      resolve(await buffer(req).catch((error: unknown) => error));
    };
  });
  send(large);
  expect(await Promise.race([outcome, failure])).toBeInstanceOf(Error);
});

test('what was read in whole is whole, also when it is let go at once', async () => {
  const outcome = new Promise<unknown>((resolve) => {
    handle = async (req, res) => {
      const body = bodyOf(req);
      await body.received;
      body.handOn();
      req.once('data', (chunk) => {
        void body.discard();
        req.once('end', () => resolve(String(chunk)));
      });
      await once(req, 'end');
      res.end();
    };
  });
  send(Buffer.from('small'));
  expect(await Promise.race([outcome, failure])).toBe('small');
});

describe('the client leaves after the last byte', () => {
  async function left(giveOn: (body: RequestBody) => void): Promise<IncomingMessage> {
    const arrived = new Promise<[IncomingMessage, RequestBody]>((resolve) => {
      handle = async (req) => {
        const body = bodyOf(req);
        await body.received;
        giveOn(body);
        resolve([req, body]);
      };
    });
    const client = send(large);
    const [req] = await Promise.race([arrived, failure]);
    const gone = once(req.socket, 'close');
    client.destroy();
    await gone;
    return req;
  }

  test('the body is still there', async () => {
    const req = await left((body) => body.handOn());
    expect(req.destroyed).toBe(false);
    expect((await buffer(req)).equals(large)).toBe(true);
  });

  test('a released request is lost with its client, as ever', async () => {
    const req = await left((body) => body.release());
    expect(req.destroyed).toBe(true);
    expect(Object.hasOwn(req, 'destroy')).toBe(false);
  });
});

/** A request whose body has arrived and waits. */
async function received(
  bytes: Buffer,
  options: Partial<ReceiveOptions> = {},
): Promise<{ req: IncomingMessage; res: ServerResponse; body: RequestBody }> {
  const arrived = new Promise<{ req: IncomingMessage; res: ServerResponse; body: RequestBody }>((resolve) => {
    handle = async (req, res) => {
      const body = bodyOf(req, options);
      expect(await body.received).toBe(true);
      resolve({ req, res, body });
    };
  });
  send(bytes);
  return await Promise.race([arrived, failure]);
}

/** What a copy gives; undefined where there is none. */
async function copied(body: RequestBody): Promise<Buffer | undefined> {
  const copy = body.keptCopy();
  return copy && (await buffer(copy));
}

const small = Buffer.from('{"prompt":"a cat"}');
const inMemory = 10 * 1024 * 1024;

describe('the whole body again', () => {
  test.each([
    ['a small one', small, 1000],
    ['a large one, from a file', large, 1000],
    ['a large one, from memory', large, inMemory],
    ['an empty one', Buffer.alloc(0), 1000],
  ])('after it was read, without the edits: %s', async (_name, bytes, memoryBytes) => {
    const { req, body } = await received(bytes, { keep: true, memoryBytes });
    body.handOn(bytes.length > 0 ? [{ start: 1, end: 1, text: '"more":1,' }] : []);
    expect((await buffer(req)).length).toBe(bytes.length + (bytes.length > 0 ? 9 : 0));
    expect((await copied(body))?.equals(bytes)).toBe(true);
    expect(await copied(body)).toBeUndefined();
    if (bytes === large) expect(await readdir(directory)).toEqual([]);
  });

  test.each([true, false])('while nobody has read it (keep: %s)', async (keep) => {
    const { req, body } = await received(large, { keep });
    body.handOn();
    expect((await copied(body))?.equals(large)).toBe(true);
    await expect(buffer(req)).rejects.toThrow();
  });

  test('when a part of it was read: the handler gets no more of it', async () => {
    const { req, body } = await received(large, { keep: true });
    let failed: Error | undefined;
    body.handOn([], (error) => {
      failed = error;
    });
    for (let read = 0; read < 500_000; ) {
      await once(req, 'readable');
      read += (req.read() as Buffer | null)?.length ?? 0;
    }
    expect((await copied(body))?.equals(large)).toBe(true);
    await expect(buffer(req)).rejects.toThrow();
    expect(failed).toBeInstanceOf(Error);
  });

  test('at any moment while the handler is reading', async () => {
    for (let chunks = 0; chunks <= 14; chunks += 1) {
      const { req, body } = await received(large, { keep: true });
      const prototype = await fileHandlePrototype();
      const { read } = prototype;
      let copy: Promise<Buffer | undefined> | undefined;
      let reads = 0;
      // In the middle of the handler's own read from the file.
      const spy = jest.spyOn(prototype, 'read').mockImplementation(async function (
        this: typeof prototype,
        ...args: unknown[]
      ) {
        if (reads++ === chunks) copy ??= copied(body);
        return (read as (...args: unknown[]) => Promise<never>).apply(this, args);
      });
      body.handOn();
      const read2 = await buffer(req).catch(() => undefined);
      copy ??= copied(body);
      expect((await copy)?.equals(large)).toBe(true);
      if (read2) expect(read2.equals(large)).toBe(true);
      spy.mockRestore();
    }
  });

  test('is not there without `keep`, once somebody has begun to read', async () => {
    const { req, body } = await received(large);
    body.handOn();
    await once(req, 'readable');
    expect(body.keptCopy()).toBeUndefined();
    expect((await buffer(req)).equals(large)).toBe(true);
    expect(body.keptCopy()).toBeUndefined();
  });

  test('is not there before it has arrived, nor after it was let go', async () => {
    const early = new Promise<unknown>((resolve) => {
      handle = async (req, res) => {
        const body = bodyOf(req, { keep: true });
        const before = body.keptCopy();
        await body.received;
        await body.discard();
        resolve([before, body.keptCopy()]);
        res.end();
      };
    });
    send(small);
    expect(await Promise.race([early, failure])).toEqual([undefined, undefined]);
  });

  test('let go while it is copied, it never looks whole', async () => {
    const { req, body } = await received(large, { keep: true });
    body.handOn();
    await buffer(req);
    const copy = body.keptCopy() as AsyncGenerator<Buffer>;
    await copy.next();
    await body.discard();
    await expect(buffer(copy)).rejects.toThrow(/3000000/);
  });

  test('of a request that goes untracked nothing is kept', async () => {
    const { req, body } = await received(small, { keep: true });
    body.release();
    await buffer(req);
    expect(body.keptCopy()).toBeUndefined();
  });

  test('costs a body that fits into memory neither a copy of its bytes nor a file', async () => {
    const chunks: Buffer[] = [];
    const { req, body } = await received(small, { keep: true, onChunk: (chunk) => chunks.push(chunk) });
    body.handOn();
    await buffer(req);
    const again: Buffer[] = [];
    for await (const chunk of body.keptCopy() ?? []) again.push(chunk);
    expect(again.length).toBe(chunks.length);
    expect(again[0]).toBe(chunks[0]);
    await expect(readdir(directory)).rejects.toMatchObject({ code: 'ENOENT' });
  });

  test('in memory where the disk refuses, as far as that goes', async () => {
    await writeFile(directory, 'in the way');
    const half = large.subarray(0, 400_000);
    const few = await received(half, { keep: true, memoryBytes: inMemory });
    few.body.handOn();
    expect((await buffer(few.req)).equals(half)).toBe(true);
    expect((await copied(few.body))?.equals(half)).toBe(true);
    const many = await received(large, { keep: true, memoryBytes: inMemory });
    many.body.handOn();
    expect((await buffer(many.req)).equals(large)).toBe(true);
    expect(many.body.keptCopy()).toBeUndefined();
  });

  test('a disk that hangs holds the handler for a second at most, and then nothing is kept', async () => {
    await mkdir(directory);
    const prototype = await fileHandlePrototype();
    let goOn = (_error: Error) => {};
    jest.spyOn(prototype, 'writev').mockImplementation(
      () =>
        new Promise((_resolve, reject) => {
          goOn = reject;
        }),
    );
    const { req, body } = await received(large, { keep: true, memoryBytes: inMemory });
    const begun = performance.now();
    body.handOn();
    expect((await buffer(req)).equals(large)).toBe(true);
    expect(performance.now() - begun).toBeLessThan(1_900);
    expect(body.keptCopy()).toBeUndefined();
    goOn(new Error('EIO'));
  });

  test('waits for a disk that is only slow', async () => {
    const prototype = await fileHandlePrototype();
    const { writev } = prototype;
    jest.spyOn(prototype, 'writev').mockImplementation(async function (this: typeof prototype, ...args) {
      await new Promise((resolve) => setTimeout(resolve, 20));
      return writev.apply(this, args as never) as never;
    });
    const { req, body } = await received(large, { keep: true, memoryBytes: inMemory });
    body.handOn();
    await buffer(req);
    expect((await copied(body))?.equals(large)).toBe(true);
  });
});

describe('a body that the host has parsed', () => {
  async function parsed(
    keep: boolean,
  ): Promise<{ req: IncomingMessage & { body?: unknown }; body: RequestBody }> {
    const arrived = new Promise<{ req: IncomingMessage & { body?: unknown }; body: RequestBody }>(
      (resolve) => {
        handle = async (req: IncomingMessage & { body?: unknown }) => {
          req.body = JSON.parse((await buffer(req)).toString());
          resolve({ req, body: bodyOf(req, { keep }) });
        };
      },
    );
    send(small);
    return await Promise.race([arrived, failure]);
  }

  test('is kept as it was before it was changed', async () => {
    const { req, body } = await parsed(true);
    Object.assign(req.body as object, { more: 1 });
    body.handOn();
    expect(await copied(body)).toEqual(small);
  });

  test('is not kept unless that is wanted', async () => {
    const { body } = await parsed(false);
    expect(body.keptCopy()).toBeUndefined();
    await expect(body.moveTo(async () => () => [] as never)).rejects.toThrow();
  });

  test('can be moved', async () => {
    const { body } = await parsed(true);
    let moved: Buffer | undefined;
    await body.moveTo(async (chunks) => {
      moved = await buffer(chunks);
      return () => [] as never;
    });
    expect(moved).toEqual(small);
  });
});

describe('moving the body elsewhere', () => {
  test.each([
    ['small', small],
    ['large', large],
    ['empty', Buffer.alloc(0)],
  ])('what is read then comes from there, with the edits: %s', async (_name, bytes) => {
    const { req, body } = await received(bytes, { keep: true });
    let elsewhere: Buffer | undefined;
    let opened = 0;
    await body.moveTo(async (chunks) => {
      elsewhere = await buffer(chunks);
      return async function* () {
        opened += 1;
        yield elsewhere as Buffer;
      };
    });
    expect(elsewhere?.equals(bytes)).toBe(true);
    expect(body.keptCopy()).toBeUndefined();
    const edits = bytes.length > 0 ? [{ start: 0, end: 1, text: '' }] : [];
    body.handOn(edits);
    expect(opened).toBe(0);
    expect((await buffer(req)).equals(bytes.subarray(edits.length))).toBe(true);
    expect(opened).toBe(1);
  });

  test('a source that fails, or ends early, is an error for who reads it, and for us', async () => {
    for (const end of [new Error('EIO'), undefined]) {
      const { req, body } = await received(small);
      await body.moveTo(async (chunks) => {
        const bytes = await buffer(chunks);
        return async function* () {
          yield bytes.subarray(0, 5);
          if (end) throw end;
        };
      });
      const told = new Promise<Error>((resolve) => body.handOn([], resolve));
      await expect(buffer(req)).rejects.toThrow();
      expect((await told).message).toContain(end?.message ?? 'read');
    }
  });

  test('a source that is not read to its end is closed when the body is let go', async () => {
    const { req, body } = await received(small);
    const closed = new Promise<void>((resolve) => {
      void body
        .moveTo(async (chunks) => {
          const bytes = await buffer(chunks);
          return async function* () {
            try {
              for (const byte of bytes) yield Buffer.alloc(100_000, byte);
            } finally {
              resolve();
            }
          };
        })
        .then(() => {
          body.handOn();
          req.once('readable', () => void body.discard());
        });
    });
    await closed;
  });

  test.each([0, 1, 5, 11])('where it fails after %i chunks, all is as before', async (count) => {
    for (const keep of [true, false]) {
      const { req, body } = await received(large, { keep });
      const moving = body.moveTo(async (chunks) => {
        let taken = 0;
        for await (const _ of chunks) if (taken++ === count) throw new Error('ENOSPC');
        throw new Error('ENOSPC');
      });
      await expect(moving).rejects.toThrow('ENOSPC');
      body.handOn();
      expect((await buffer(req)).equals(large)).toBe(true);
      if (keep) expect((await copied(body))?.equals(large)).toBe(true);
      else expect(body.keptCopy()).toBeUndefined();
    }
  });

  test('can be tried again, and be copied after it has failed', async () => {
    const { body } = await received(large);
    const failing = async (chunks: AsyncIterable<Buffer>) => {
      for await (const _ of chunks) throw new Error('ENOSPC');
      return () => [] as never;
    };
    await expect(body.moveTo(failing)).rejects.toThrow('ENOSPC');
    await expect(body.moveTo(failing)).rejects.toThrow('ENOSPC');
    expect((await copied(body))?.equals(large)).toBe(true);
  });

  test('given up while it hangs: the body goes on, and the late writer gets nothing more', async () => {
    const { req, body } = await received(large);
    const patience = new AbortController();
    let takeMore = () => {};
    const late = new Promise<unknown>((resolve) => {
      const moving = body.moveTo(async (chunks) => {
        const iterator = chunks[Symbol.asyncIterator]();
        await iterator.next();
        await new Promise<void>((more) => {
          takeMore = more;
          patience.abort(new Error('too late'));
        });
        resolve(await iterator.next().catch((error: unknown) => error));
        return () => [] as never;
      }, patience.signal);
      moving.catch((error: Error) => {
        expect(error.message).toBe('too late');
        body.handOn();
        takeMore();
      });
    });
    const [read, error] = await Promise.all([buffer(req), late]);
    expect(read.equals(large)).toBe(true);
    expect(error).toBeInstanceOf(Error);
  });

  test('given up before it has begun', async () => {
    const { body } = await received(small);
    const write = jest.fn(async () => () => [] as never);
    await expect(body.moveTo(write, AbortSignal.abort(new Error('no')))).rejects.toThrow('no');
    expect(write).not.toHaveBeenCalled();
    expect(await copied(body)).toEqual(small);
  });

  test('ends when the disk does not even take what was given; nothing is lost', async () => {
    await writeFile(directory, 'in the way');
    const { req, body } = await received(large, { memoryBytes: inMemory });
    let taken = 0;
    const moving = body.moveTo(async (chunks) => {
      for await (const chunk of chunks) taken += chunk.length;
      return () => [] as never;
    });
    await expect(moving).rejects.toThrow();
    expect(taken).toBeLessThan(1_000_000);
    body.handOn();
    expect((await buffer(req)).equals(large)).toBe(true);
  });

  test('let go meanwhile, it never looks whole', async () => {
    const { body } = await received(large);
    const moving = body.moveTo(async (chunks) => {
      for await (const _ of chunks) void body.discard();
      return () => [] as never;
    });
    await expect(moving).rejects.toThrow(/3000000/);
  });
});
