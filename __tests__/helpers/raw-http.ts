import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';

export interface RawServer {
  readonly url: string;
  readonly port: number;
  close(): Promise<void>;
}

/** A server of bare connections: what it says need not be HTTP. */
export async function startRawServer(
  serve: (socket: Socket) => void,
  host = '127.0.0.1',
): Promise<RawServer> {
  const sockets = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.once('close', () => sockets.delete(socket));
    serve(socket);
  });
  server.listen(0, host);
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://${host.includes(':') ? `[${host}]` : host}:${port}`,
    port,
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** A server that says one thing to each request, without reading further, and then does `after`. */
export function startRawAnswer(
  answer: string,
  after: (socket: Socket) => void = () => {},
): Promise<RawServer> {
  return startRawServer((socket) => {
    socket.once('data', () => socket.write(answer, 'latin1', () => after(socket)));
  });
}

export interface RawClient {
  readonly socket: Socket;
  /** What has come so far, a character for each byte. */
  readonly text: string;
  /** Resolves once this has come. Rejects where the connection ends without it. */
  until(part: string): Promise<string>;
  /** Resolves when the connection has ended: by FIN, or by an error such as a RST. */
  readonly ended: Promise<'fin' | 'error'>;
}

/** A client that says exactly this. */
export function rawClient(port: number, text: string | Buffer): RawClient {
  const socket = connect(port, '127.0.0.1');
  let received = '';
  let over: 'fin' | 'error' | undefined;
  const ended = new Promise<'fin' | 'error'>((resolve) => {
    socket.once('end', () => resolve('fin'));
    socket.once('error', () => resolve('error'));
    socket.once('close', () => resolve('fin'));
  });
  void ended.then((how) => {
    over = how;
  });
  socket.on('data', (chunk) => {
    received += chunk.toString('latin1');
  });
  socket.write(text, 'latin1');
  return {
    socket,
    get text() {
      return received;
    },
    async until(part) {
      while (!received.includes(part)) {
        if (over)
          throw new Error(`Expected ${JSON.stringify(part)}, got ${JSON.stringify(received)} and ${over}`);
        await Promise.race([once(socket, 'data'), ended]);
      }
      return received;
    },
    ended,
  };
}
