import type { IncomingMessage } from 'node:http';
import type { Server, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { TLSSocket } from 'node:tls';
import { headerPairs } from './forward-headers.js';

const ABOUT_UPGRADE = new Set(['connection', 'upgrade', 'http2-settings']);

export function isWebSocket(req: IncomingMessage): boolean {
  return /(^|,)\s*websocket\s*($|,)/i.test(req.headers.upgrade ?? '');
}

/** True where a client offers HTTP/2, with a request that is meant to be served in any case. */
export function offersHttp2(req: IncomingMessage): boolean {
  return /(^|,)\s*h2c\s*($|,)/i.test(req.headers.upgrade ?? '') && !isWebSocket(req);
}

/**
 * Hands a request that offers an upgrade nobody wants back to its server, without the offer, so that it is answered as
 * any other (RFC 9110, section 7.8, allows that). Java's HTTP client and `curl --http2` offer `h2c` with every request,
 * and Node.js gives them all to whoever listens for upgrades.
 */
export function serveWithoutUpgrade(req: IncomingMessage, socket: Duplex, head: Buffer): void {
  const { server } = socket as Socket & { server?: Server };
  if (!server) {
    socket.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n');
    return;
  }
  const lines = [`${req.method} ${req.url} HTTP/${req.httpVersion}`];
  for (const [name, value] of headerPairs(req.rawHeaders)) {
    if (!ABOUT_UPGRADE.has(name.toLowerCase())) lines.push(`${name}: ${value}`);
  }
  socket.unshift(Buffer.concat([Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1'), head]));
  server.emit(socket instanceof TLSSocket ? 'secureConnection' : 'connection', socket);
}
