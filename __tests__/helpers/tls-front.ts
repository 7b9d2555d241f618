import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { type AddressInfo, connect } from 'node:net';
import { join } from 'node:path';
import { createServer, type TLSSocket } from 'node:tls';

/** A certificate for `localhost` that nobody has vouched for, and its key. */
export interface SelfSigned {
  readonly certFile: string;
  readonly keyFile: string;
}

/** @param folder where the two files are made. */
export function makeCertificate(folder: string): SelfSigned {
  const certFile = join(folder, 'cert.pem');
  const keyFile = join(folder, 'key.pem');
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', keyFile];
  const names = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost'];
  execFileSync('openssl', ['req', '-x509', ...key, ...names, '-days', '2', '-out', certFile], {
    stdio: 'pipe',
  });
  return { certFile, keyFile };
}

export interface TlsFront {
  readonly url: string;
  /** Which names clients have asked for (SNI), one for each connection. */
  readonly askedFor: (string | false | null)[];
  close(): Promise<void>;
}

/** Takes TLS off and passes on to a plain server, as a proxy in front of a backend does. */
export async function startTlsFront(target: string, { certFile, keyFile }: SelfSigned): Promise<TlsFront> {
  const [cert, key] = await Promise.all([readFile(certFile), readFile(keyFile)]);
  const sockets = new Set<TLSSocket>();
  const askedFor: TlsFront['askedFor'] = [];
  const server = createServer({ cert, key, ALPNProtocols: ['http/1.1'] }, (socket) => {
    askedFor.push(socket.servername);
    sockets.add(socket);
    const plain = connect(Number(new URL(target).port), '127.0.0.1');
    for (const [end, other] of [
      [socket, plain],
      [plain, socket],
    ] as const) {
      end.on('error', () => {});
      end.once('close', () => other.destroySoon());
      end.pipe(other);
    }
    socket.once('close', () => sockets.delete(socket));
  });
  server.on('tlsClientError', () => {});
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `https://localhost:${(server.address() as AddressInfo).port}`,
    askedFor,
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}
