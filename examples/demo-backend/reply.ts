import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import { dumpCompact, formatFloat, type PythonValue } from '../demo-shared/python-json.js';
import { ApiError } from './api-error.js';

/** An answer, whole and not compressed. */
export interface Reply {
  readonly status: number;
  readonly headers: OutgoingHttpHeaders;
  readonly body: Buffer;
  /** Break the connection after half of the body. */
  readonly isCutShort?: boolean;
}

export interface SendOptions {
  readonly allowsGzip: boolean;
  /** For `X-Process-Time`; undefined leaves the header out. */
  readonly startedMs: number | undefined;
}

/** Below this, Starlette's GZipMiddleware leaves a body as it is. */
const GZIP_FROM_BYTES = 1000;
const gzipAsync = promisify(gzip);

export function jsonReply(value: PythonValue, status = 200): Reply {
  return {
    status,
    headers: { 'content-type': 'application/json' },
    body: Buffer.from(dumpCompact(value)),
  };
}

/** The answer to whatever a route threw; what is no `ApiError` is a fault of the demo and is also logged. */
export function errorReply(error: unknown): Reply {
  if (error instanceof ApiError) return jsonReply(error.body, error.status);
  console.error('The demo backend failed:', error);
  const { name, message } = error instanceof Error ? error : new Error(String(error));
  return jsonReply({ error: name, detail: '', body: '', errors: message }, 500);
}

/** Sends an answer. Resolves to true once all of it was handed over, to false where the client has gone. */
export async function sendReply(
  req: IncomingMessage,
  res: ServerResponse,
  reply: Reply,
  { allowsGzip, startedMs }: SendOptions,
): Promise<boolean> {
  const headers: OutgoingHttpHeaders = { ...reply.headers, server: 'uvicorn' };
  let { body } = reply;
  const accepted = String(req.headers['accept-encoding'] ?? '');
  if (allowsGzip && body.length >= GZIP_FROM_BYTES && accepted.includes('gzip')) {
    body = await gzipAsync(body, { level: 4 });
    headers['content-encoding'] = 'gzip';
    headers.vary = 'Accept-Encoding';
  }
  headers['content-length'] = body.length;
  if (startedMs !== undefined) {
    headers['x-process-time'] = formatFloat(Math.round((performance.now() - startedMs) * 10) / 10_000);
  }
  if (res.destroyed) return false;
  return new Promise((resolve) => {
    res.once('finish', () => resolve(true));
    res.once('close', () => resolve(false));
    res.writeHead(reply.status, headers);
    if (reply.isCutShort) res.write(body.subarray(0, body.length / 2), () => req.socket.destroy());
    else res.end(body);
  });
}
