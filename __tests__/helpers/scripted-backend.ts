import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { buffer } from 'node:stream/consumers';

export type Script = (res: ServerResponse, body: Buffer, req: IncomingMessage) => void | Promise<void>;

export interface ScriptedBackend {
  readonly url: string;
  /** The bodies that came, in order. */
  readonly bodies: Buffer[];
  readonly headers: IncomingMessage['headers'][];
  /** Resolves when so many requests have come whole. */
  received(count?: number): Promise<void>;
  script: Script;
  close(): Promise<void>;
}

/** A backend that does what the test says, byte by byte. */
export async function startScriptedBackend(script: Script): Promise<ScriptedBackend> {
  const bodies: Buffer[] = [];
  const headers: IncomingMessage['headers'][] = [];
  const waiting: (() => void)[] = [];
  const server = createServer(async (req, res) => {
    try {
      const body = await buffer(req);
      bodies.push(body);
      headers.push(req.headers);
      for (const wake of waiting.splice(0)) wake();
      await backend.script(res, body, req);
    } catch {
      res.destroy();
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const backend: ScriptedBackend = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    bodies,
    headers,
    async received(count = 1) {
      while (bodies.length < count) await new Promise<void>((resolve) => waiting.push(resolve));
    },
    script,
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return backend;
}

/** A PNG of about so many bytes that nothing can compress: whole as far as its chunks go. */
export function bigPng(sizeBytes: number): Buffer {
  const chunk = (type: string, data: Buffer) => {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(data.length);
    return Buffer.concat([length, Buffer.from(type, 'latin1'), data, Buffer.alloc(4)]);
  };
  return Buffer.concat([
    Buffer.from('89504e470d0a1a0a', 'hex'),
    chunk('IHDR', Buffer.from('00000001000000010806000000', 'hex')),
    chunk('IDAT', randomBytes(sizeBytes)),
    chunk('IEND', Buffer.alloc(0)),
  ]);
}

/** An answer as A1111 gives it. */
export function answerWith(images: readonly Buffer[], parameters = '{"cfg_scale":7.0}'): Buffer {
  const strings = images.map((image) => `"${image.toString('base64')}"`).join(',');
  return Buffer.from(`{"images":[${strings}],"parameters":${parameters},"info":"{\\"seed\\": 1}"}`);
}

export function sendAnswer(res: ServerResponse, answer: Buffer): void {
  res.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': answer.length });
  res.end(answer);
}

/** A gate: `open()` lets everybody through who waits for `opened`. */
export function gate(): { readonly opened: Promise<void>; open: () => void } {
  let open = () => {};
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { opened, open: () => open() };
}
