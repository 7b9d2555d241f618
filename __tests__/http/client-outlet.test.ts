import { type FileHandle, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, describe, expect, jest, test } from '@jest/globals';
import { ClientOutlet } from '../../lib/http/client-outlet.js';
import type { DetachedResponse } from '../../lib/http/detached-response.js';
import { fileHandlePrototype } from '../helpers/file-handles.js';
import { tempFolders } from '../helpers/temp-folder.js';

const newFolder = tempFolders();

/** A client that takes what the test lets it take. */
class SlowClient {
  readonly taken: Buffer[] = [];
  room = Number.POSITIVE_INFINITY;
  lost = false;
  #drain: () => void = () => {};
  #loss: () => void = () => {};
  #resolve: (how: 'finished' | 'reset') => void = () => {};
  readonly over = new Promise<'finished' | 'reset'>((resolve) => {
    this.#resolve = resolve;
  });
  readonly response = this as unknown as DetachedResponse;

  onDrain(listener: () => void): void {
    this.#drain = listener;
  }
  onLost(listener: () => void): void {
    this.#loss = listener;
  }
  write(chunk: Buffer): boolean {
    this.taken.push(chunk);
    this.room -= chunk.length;
    return this.room > 0;
  }
  finish(): void {
    this.#resolve('finished');
  }
  resetClient(): void {
    this.#resolve('reset');
    this.leave();
  }
  takeMore(room = Number.POSITIVE_INFINITY): void {
    this.room = room;
    this.#drain();
  }
  leave(): void {
    this.lost = true;
    this.#loss();
  }
}

const chunk = (n: number) => Buffer.alloc(100, n);

afterEach(() => {
  jest.restoreAllMocks();
});

async function outletFor(client: SlowClient) {
  const directory = join(await newFolder(), 'spool');
  return { directory, outlet: new ClientOutlet(client.response, { directory, memoryBytes: 250 }) };
}

test('keeps the order and loses nothing, however the client takes it', async () => {
  const client = new SlowClient();
  const { outlet } = await outletFor(client);
  client.room = 150;
  const sent = Array.from({ length: 60 }, (_, n) => chunk(n));
  for (const [n, bytes] of sent.entries()) {
    outlet.write(bytes);
    if (n % 7 === 0) client.takeMore(130);
    if (n % 5 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  outlet.end();
  client.takeMore();
  expect(await client.over).toBe('finished');
  expect(Buffer.concat(client.taken).equals(Buffer.concat(sent))).toBe(true);
});

describe('a disk that hangs', () => {
  async function stuck() {
    const client = new SlowClient();
    const { outlet } = await outletFor(client);
    const prototype = await fileHandlePrototype();
    const writing = new Promise<void>((resolve) => {
      jest.spyOn(prototype, 'writev').mockImplementation(() => {
        resolve();
        return new Promise(() => {});
      });
    });
    client.room = 0;
    for (let n = 0; n < 10; n += 1) outlet.write(chunk(n));
    await writing;
    expect(outlet.accepting).toBe(false);
    return { client, outlet };
  }

  test('holds nobody once the client has left', async () => {
    const { client, outlet } = await stuck();
    const accepting = new Promise<void>((resolve) => {
      outlet.onAccepting = resolve;
    });
    client.leave();
    await accepting;
    outlet.write(chunk(1));
    outlet.end();
    expect(await client.over).toBe('finished');
  });

  test('nor where the client leaves after the end', async () => {
    const { client, outlet } = await stuck();
    outlet.end();
    client.leave();
    expect(await client.over).toBe('finished');
  });
});

test('a disk that refuses makes the writer wait for the client, and loses nothing', async () => {
  const client = new SlowClient();
  const { outlet, directory } = await outletFor(client);
  await writeFile(directory, 'in the way');
  client.room = 0;
  for (let n = 0; n < 10; n += 1) outlet.write(chunk(n));
  expect(outlet.accepting).toBe(false);
  const accepting = new Promise<void>((resolve) => {
    outlet.onAccepting = resolve;
  });
  client.takeMore();
  await accepting;
  outlet.end();
  expect(await client.over).toBe('finished');
  expect(
    Buffer.concat(client.taken).equals(Buffer.concat(Array.from({ length: 10 }, (_, n) => chunk(n)))),
  ).toBe(true);
});

test('a client is cut off where its bytes cannot be read back', async () => {
  const client = new SlowClient();
  const { outlet } = await outletFor(client);
  const prototype = await fileHandlePrototype();
  jest.spyOn(prototype, 'read').mockRejectedValue(new Error('EIO') as never);
  client.room = 0;
  for (let n = 0; n < 10; n += 1) outlet.write(chunk(n));
  outlet.end();
  client.takeMore();
  expect(await client.over).toBe('reset');
});

test('a file that cannot be closed ends nothing but itself', async () => {
  const client = new SlowClient();
  const { outlet } = await outletFor(client);
  const prototype = await fileHandlePrototype();
  const { writev } = prototype;
  let begin = () => {};
  const begun = new Promise<void>((resolve) => {
    begin = resolve;
  });
  let closed = () => {};
  const closing = new Promise<void>((resolve) => {
    closed = resolve;
  });
  jest.spyOn(prototype, 'writev').mockImplementation(async function (this: FileHandle, ...args) {
    const close = this.close;
    this.close = async () => {
      await close();
      closed();
      throw new Error('EIO');
    };
    begin();
    return await writev.apply(this, args);
  });
  const unhandled: unknown[] = [];
  const collect = (error: unknown) => void unhandled.push(error);
  process.on('unhandledRejection', collect);
  client.room = 0;
  for (let n = 0; n < 10; n += 1) outlet.write(chunk(n));
  outlet.end();
  await begun;
  client.leave();
  expect(await client.over).toBe('finished');
  await closing;
  await new Promise((resolve) => setImmediate(resolve));
  process.off('unhandledRejection', collect);
  expect(unhandled).toEqual([]);
});
