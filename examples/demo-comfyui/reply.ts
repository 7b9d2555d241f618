import type { OutgoingHttpHeaders, ServerResponse } from 'node:http';
import { dumpSpaced, type PythonValue } from '../demo-shared/python-json.js';

/** An answer, whole. */
export interface Reply {
  readonly status: number;
  readonly headers: OutgoingHttpHeaders;
  readonly body: Buffer;
}

const NOTHING = Buffer.alloc(0);

export function jsonReply(value: PythonValue, status = 200): Reply {
  return bytesReply(Buffer.from(dumpSpaced(value)), 'application/json; charset=utf-8', status);
}

export function textReply(text: string, status: number, headers: OutgoingHttpHeaders = {}): Reply {
  const reply = bytesReply(Buffer.from(text), 'text/plain; charset=utf-8', status);
  return { ...reply, headers: { ...reply.headers, ...headers } };
}

export function bytesReply(body: Buffer, type: string, status = 200): Reply {
  return { status, headers: { 'content-type': type, 'content-length': body.length }, body };
}

/** Without a body, and so without a `Content-Type`. */
export function emptyReply(status = 200): Reply {
  return { status, headers: { 'content-length': 0 }, body: NOTHING };
}

/** What aiohttp's folder of static files answers where it has none of that name. */
export function noSuchFile(): Reply {
  const headers = { 'content-type': 'application/octet-stream', 'transfer-encoding': 'chunked' };
  return { status: 404, headers, body: NOTHING };
}

/** What aiohttp answers where a handler raised something; it then ends the connection. */
export function serverError(): Reply {
  const text = '500 Internal Server Error\n\nServer got itself in trouble';
  return textReply(text, 500, { connection: 'close' });
}

export function tooLarge(limitBytes: number, sizeBytes: number): Reply {
  const text = `Maximum request body size ${limitBytes} exceeded, actual body size ${sizeBytes}`;
  return textReply(text, 413, { connection: 'close' });
}

/** Sends an answer; a client that has gone gets none. */
export function sendReply(res: ServerResponse, { status, headers, body }: Reply): void {
  if (res.destroyed) return;
  res.writeHead(status, { ...headers, server: 'Python/3.12 aiohttp/3.11.8' });
  res.end(body);
}
