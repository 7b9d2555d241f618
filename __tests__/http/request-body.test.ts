import { once } from 'node:events';
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import { RequestBody } from '../../lib/http/request-body.js';
import { fileHandlePrototype } from '../helpers/file-handles.js';
import { tempFolders } from '../helpers/temp-folder.js';

const newFolder = tempFolders();
let server: Server;
let directory: string;
let handle: (req: IncomingMessage, res: ServerResponse) => void | Promise<void>;
let failure: Promise<never>;

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

const bodyOf = (req: IncomingMessage, memoryBytes = 1000) =>
  new RequestBody(req, { directory, memoryBytes, onChunk: () => {} });

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
