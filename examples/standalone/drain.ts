import type { Server } from 'node:http';
import { Server as NetServer, type Socket } from 'node:net';

/** The end of a server without harm. */
export interface Drain {
  /**
   * Takes no more connections and ends idle ones and WebSockets. Resolves once the requests that run have been answered to
   * their last byte. May be called twice.
   */
  begin(): Promise<void>;
  /** Breaks off what still runs, so that no client takes what it has for the whole; to be called after `begin`. */
  breakOff(): void;
}

/** Prepares a server for its end. To be called before it listens. */
export function drainable(server: Server): Drain {
  /** Each connection with the number of requests that run on it. */
  const running = new Map<Socket, number>();
  let drained: Promise<void> | undefined;
  const endIdle = (socket: Socket) => {
    if (drained && running.get(socket) === 0) socket.destroySoon();
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
  return {
    begin() {
      // http.Server's own close() first destroys whatever has no request, also where an answer is still being sent.
      drained ??= new Promise((resolve) => NetServer.prototype.close.call(server, () => resolve()));
      for (const socket of running.keys()) endIdle(socket);
      return drained;
    },
    breakOff() {
      // By RST: behind a proxy that speaks HTTP/1.0 a FIN is the regular end of an answer.
      for (const socket of running.keys()) socket.resetAndDestroy();
    },
  };
}
