import { Writable } from 'node:stream';

/**
 * A socket that takes everything and sends it nowhere. A response whose client has left is put on one, so that all of
 * Node's own machinery (write, end, 'finish', 'close') goes on as if somebody were listening.
 */
export function createNullSocket(): Writable {
  const socket = new Writable({
    // Node corks a response while it writes, and nobody listens for this stream's 'drain'.
    highWaterMark: Number.MAX_SAFE_INTEGER,
    write: (_chunk, _encoding, done) => done(),
  });
  // pipeline() and undici destroy the response with an error; here it has nowhere to go.
  socket.on('error', () => {});
  const self = () => socket;
  return Object.assign(socket, {
    setTimeout: self,
    setNoDelay: self,
    setKeepAlive: self,
    ref: self,
    unref: self,
    destroySoon: () => socket.destroy(),
  });
}
