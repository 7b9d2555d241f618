import type { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { Writable } from 'node:stream';

/**
 * A socket that takes everything and sends it nowhere. A response whose client has left is put on one, so that all of
 * Node's own machinery (write, end, 'finish', 'close') goes on as if somebody were listening.
 */
export class NullSocket extends Writable {
  constructor() {
    super({
      // Node corks a response while it writes, and nobody listens for this stream's 'drain'.
      highWaterMark: Number.MAX_SAFE_INTEGER,
      write: (_chunk, _encoding, done) => done(),
    });
    // pipeline() and undici destroy the response with an error; here it has nowhere to go.
    this.on('error', () => {});
  }

  setTimeout(): this {
    return this;
  }

  setNoDelay(): this {
    return this;
  }

  setKeepAlive(): this {
    return this;
  }

  ref(): this {
    return this;
  }

  unref(): this {
    return this;
  }

  destroySoon(): void {
    this.destroy();
  }
}

/** The parts of `ServerResponse` that its types leave out; the same in Node 20 to 24. */
type ResponseInternals = Omit<ServerResponse, 'detachSocket' | 'assignSocket'> & {
  destroyed: boolean;
  _closed?: boolean;
  assignSocket(socket: unknown): void;
  detachSocket(socket: unknown): void;
};

/**
 * Takes a response off the connection that is being lost, before Node ends it with the connection. To be called from
 * the socket's first 'close' listener.
 */
export function moveToNullSocket(response: ServerResponse, lost: Socket): void {
  const res = response as unknown as ResponseInternals;
  // A pipelined response that waits for its turn has no socket yet.
  if ((res.socket as unknown) === lost) res.detachSocket(lost);
  res.destroyed = false;
  res._closed = false;
  putOnNullSocket(response);
}

/** Gives a response that has no socket one that leads nowhere, for good. */
export function putOnNullSocket(response: ServerResponse): NullSocket {
  const res = response as unknown as ResponseInternals;
  const socket = new NullSocket();
  res.assignSocket(socket);
  // Node will want to do both for the real socket when this response has finished.
  res.detachSocket = () => {};
  res.assignSocket = () => {};
  return socket;
}

/** From now on a response looks to Node like the last one of its connection. */
export function makeLastOnConnection(response: ServerResponse): void {
  // Node works it out from the headers, which the handler may still set.
  Object.defineProperty(response, '_last', { configurable: true, get: () => true, set: () => {} });
}
