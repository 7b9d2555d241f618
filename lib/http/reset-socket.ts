import type { Socket } from 'node:net';

/** Ends a connection by RST, so that its other end sees an error and never takes what it has for the whole. */
export function resetSocket(socket: Socket): void {
  try {
    socket.resetAndDestroy();
  } catch {
    // A TLS connection cannot be reset; it ends without a closing alert, which clients take for an error as well.
    socket.destroy();
  }
}
