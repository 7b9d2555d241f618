import { randomUUID } from 'node:crypto';
import { connect, createServer, type Server } from 'node:net';
import { systemCodeOf } from '../errors.js';

/** How long a process that accepted a connection may take to say who it is. */
const ANSWER_MS = 2_000;

/** A socket that is bound to a path and tells everybody who connects the same random token. */
export interface LockSocket {
  readonly token: string;
  close(): Promise<void>;
}

/** What is at a socket's path: nothing, a socket that nobody listens at, or a process (with its token, if it tells). */
export type Holder = 'none' | 'dead' | { readonly token: string | undefined };

/** Binds a socket; the process may end while it is bound. Rejects with the system's error: `EADDRINUSE` if it is taken. */
export async function bindLockSocket(path: string): Promise<LockSocket> {
  const token = randomUUID();
  const server = createServer((socket) => {
    // Who asks may be gone before it has the answer.
    socket.on('error', () => socket.destroy());
    socket.end(token, () => socket.destroy());
    socket.unref();
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    // In a worker of node:cluster, the primary would otherwise hold the socket in its place.
    server.listen({ path, exclusive: true }, () => {
      server.off('error', reject);
      // A connection that cannot be accepted (too many open files) still counts for the one who asks.
      server.on('error', () => {});
      resolve();
    });
  });
  server.unref();
  return { token, close: () => closeServer(server) };
}

/** Finds out what is at a path. With `waitForToken`, waits until a process has said who it is. */
export function holderOf(path: string, waitForToken: boolean): Promise<Holder> {
  return new Promise((resolve) => {
    let token = '';
    const socket = connect(path);
    const end = (holder: Holder): void => {
      socket.destroy();
      resolve(holder);
    };
    socket.setTimeout(ANSWER_MS, () => end({ token: undefined }));
    socket.setEncoding('latin1');
    socket.on('data', (text: string) => {
      token += text;
    });
    socket.once('end', () => end({ token }));
    socket.once('connect', () => {
      if (!waitForToken) end({ token: undefined });
    });
    socket.once('error', (error) => {
      const code = systemCodeOf(error);
      if (code === 'ENOENT') end('none');
      else if (code === 'ECONNREFUSED' || code === 'ENOTSOCK') end('dead');
      // Somebody is there whom we may not, or cannot now, talk to.
      else end({ token: undefined });
    });
  });
}

function closeServer(server: Server): Promise<void> {
  return new Promise((resolve, reject) => {
    server.close((error) => {
      if (error === undefined || systemCodeOf(error) === 'ERR_SERVER_NOT_RUNNING') resolve();
      else reject(error);
    });
  });
}
