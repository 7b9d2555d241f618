import { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { NullSocket, putOnNullSocket } from './null-socket.js';

export interface ReplayedRequestOptions {
  readonly head: {
    readonly method: string;
    /** Path and query. */
    readonly url: string;
    /** By their names in lower case. */
    readonly headers: Readonly<Record<string, string>>;
    /** The address of whoever sent it; `''` where that is not known. */
    readonly ip: string;
  };
  readonly bodyBytes: number;
  /** Read at the pace of whoever reads the request, and left early where the request is destroyed. */
  readonly body: AsyncIterable<Buffer>;
}

/**
 * A request that was kept, as if it had just come: its body arrives by and by, as from Node's parser. It has no client;
 * what is written to its response goes nowhere, and ends natively with 'finish' and 'close'. A body that cannot be read to
 * its end breaks off, as that of a client that leaves in the middle of it.
 */
export function replayedRequest({ head, bodyBytes, body }: ReplayedRequestOptions): {
  readonly req: IncomingMessage;
  readonly res: ServerResponse;
} {
  const socket = new ReplaySocket(head.ip);
  const req = new IncomingMessage(socket as unknown as Socket);
  req.method = head.method;
  req.url = head.url;
  req.httpVersion = '1.1';
  req.httpVersionMajor = 1;
  req.httpVersionMinor = 1;
  const { 'transfer-encoding': _framing, ...headers } = head.headers;
  req.headers = { ...headers, 'content-length': String(bodyBytes) };
  req.rawHeaders = Object.entries(req.headers as Record<string, string>).flat();
  const res = new ServerResponse(req);
  const outward = putOnNullSocket(res);
  // Node's server does this to a response of its own; the rest follows from it.
  res.once('finish', () => outward.destroy());
  void deliver(body, req, socket);
  return { req, res };
}

/** Pushes as Node's parser does: until the request has enough, and on when it asks its socket for more. */
async function deliver(
  body: AsyncIterable<Buffer>,
  req: IncomingMessage,
  socket: ReplaySocket,
): Promise<void> {
  try {
    // Whoever made the request takes hold of it first.
    await new Promise(setImmediate);
    for await (const chunk of body) {
      if (req.destroyed) return;
      if (!req.push(chunk)) await socket.resumed();
      if (req.destroyed) return;
    }
    req.complete = true;
    req.push(null);
  } catch (error) {
    req.destroy(error as Error);
  }
}

/** The side of a socket that a request asks to go on. */
class ReplaySocket extends NullSocket {
  readonly readable = true;
  readonly remoteAddress: string | undefined;
  #resume: () => void = () => {};

  constructor(ip: string) {
    super();
    this.remoteAddress = ip === '' ? undefined : ip;
    this.once('close', () => this.#resume());
  }

  /** Resolves when it is asked to go on, or is destroyed. */
  async resumed(): Promise<void> {
    if (!this.destroyed)
      await new Promise<void>((resolve) => {
        this.#resume = resolve;
      });
  }

  resume(): this {
    this.#resume();
    return this;
  }

  pause(): this {
    return this;
  }
}
