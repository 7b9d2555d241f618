import type { Socket } from 'node:net';

/** What wants to hear of the loss of one connection. Several requests may be under way on it (pipelining). */
const listenersOf = new WeakMap<Socket, Set<() => void>>();

/**
 * Calls `listener` when the connection is gone, before Node's own HTTP server acts on it: in time to take the
 * responses off the socket. One listener per socket, however many requests it carries.
 *
 * @returns a function that takes the listener back.
 */
export function onConnectionLoss(socket: Socket, listener: () => void): () => void {
  let listeners = listenersOf.get(socket);
  if (!listeners) {
    const added = new Set<() => void>();
    listeners = added;
    listenersOf.set(socket, added);
    socket.prependListener('close', () => {
      for (const call of [...added]) call();
      added.clear();
    });
  }
  listeners.add(listener);
  return () => listeners.delete(listener);
}
