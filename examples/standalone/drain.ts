import type { Server } from 'node:http';
import { Server as NetServer, type Socket } from 'node:net';

/**
 * Prepares a server for an end without harm.
 *
 * @returns a function that takes no more connections, ends idle ones and WebSockets, and resolves once the requests that
 * run have been answered to their last byte, or broken off after `patienceMs`.
 */
export function drainable(server: Server, patienceMs: number): () => Promise<void> {
  /** Each connection with the number of requests that run on it. */
  const running = new Map<Socket, number>();
  let draining = false;
  const endIdle = (socket: Socket) => {
    if (draining && running.get(socket) === 0) socket.destroySoon();
  };
  server.on('connection', (socket) => {
    if (running.has(socket)) return;
    running.set(socket, 0);
    socket.once('close', () => running.delete(socket));
  });
  server.prependListener('request', (req, res) => {
    const { socket } = req;
    const count = (change: number) => running.set(socket, (running.get(socket) ?? 0) + change);
    count(1);
    res.once('close', () => {
      if (!running.has(socket)) return;
      count(-1);
      endIdle(socket);
    });
  });
  return async () => {
    draining = true;
    // http.Server's own close() first destroys whatever has no request, also where an answer is still being sent.
    const closed = new Promise((resolve) => NetServer.prototype.close.call(server, resolve));
    for (const socket of running.keys()) endIdle(socket);
    const impatient = setTimeout(() => {
      for (const socket of running.keys()) socket.destroy();
    }, patienceMs);
    await closed;
    clearTimeout(impatient);
  };
}
