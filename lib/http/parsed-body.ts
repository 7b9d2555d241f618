import type { IncomingMessage, OutgoingHttpHeaders } from 'node:http';

/** A request whose body a parser in front may have read. */
export type ParsedRequest = IncomingMessage & { body?: unknown };

/** A body that has been parsed, as bytes again, with the headers that describe those. */
export interface ParsedBody {
  readonly bytes: Buffer;
  readonly headers: OutgoingHttpHeaders;
}

/**
 * The body of a request that the host has parsed; undefined where it still waits to be read, or there is none; an error
 * where its bytes cannot be had any more.
 */
export function parsedBody(req: ParsedRequest): ParsedBody | Error | undefined {
  const { 'content-length': length, 'transfer-encoding': encoding } = req.headers;
  const isEmpty = encoding === undefined && (length === undefined || length === '0');
  if (!req.readableEnded || isEmpty) return undefined;
  const bytes = bytesOf(req);
  if (bytes instanceof Error) return bytes;
  // Parsers undo a Content-Encoding.
  const headers = {
    'content-length': bytes.length,
    'transfer-encoding': undefined,
    'content-encoding': undefined,
  };
  return { bytes, headers };
}

/** Whether what a parser has left says all that the body did: the rest of a form may lie anywhere. */
export function saysAll({ body, headers }: ParsedRequest): boolean {
  const isText = Buffer.isBuffer(body) || typeof body === 'string';
  return isText || (body !== undefined && /[/+]json\b/i.test(headers['content-type'] ?? ''));
}

function bytesOf(req: ParsedRequest): Buffer | Error {
  const { body, headers } = req;
  if (saysAll(req)) return bytesOfParsed(body);
  const type = headers['content-type'] ?? '';
  const what = body === undefined ? 'one that has been read and left nothing' : 'a parsed one';
  return new Error(
    `Expected a request body that nobody has read yet, or JSON, got ${what} of type "${type}": ` +
      'mount jobTracker() before whatever reads bodies',
  );
}

/** What a body parser of the host left in `req.body`, as the bytes that say the same. */
export function bytesOfParsed(body: unknown): Buffer {
  if (Buffer.isBuffer(body)) return body;
  if (typeof body === 'string') return Buffer.from(body);
  return body === undefined ? Buffer.alloc(0) : Buffer.from(JSON.stringify(body));
}
