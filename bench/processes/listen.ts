import { once } from 'node:events';
import type { RequestListener } from 'node:http';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

/** Listens, and tells the parent where. */
export async function listen(handler: RequestListener): Promise<void> {
  const server = createServer({ keepAliveTimeout: 60_000 }, handler);
  server.listen(0, '127.0.0.1', 4096);
  await once(server, 'listening');
  sayReady(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
}

export function sayReady(url = ''): void {
  process.stdout.write(`ready at <${url}>\n`);
}
