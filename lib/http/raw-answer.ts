import { type OutgoingHttpHeaders, ServerResponse, STATUS_CODES } from 'node:http';

/** What others have said of another body, or of a connection that would go on. */
const REPLACED = [
  'connection',
  'content-encoding',
  'content-length',
  'date',
  'etag',
  'keep-alive',
  'trailer',
  'transfer-encoding',
];

/** A method that the types for Node 20 leave out. */
type Carrier = ServerResponse & { getRawHeaderNames(): string[] };

/**
 * A whole answer as its bytes on the wire, the last one of its connection: with the headers that are set on `res`, and
 * others that take the place of those. Throws Node's own error where one of them is none.
 */
export function rawAnswer(
  res: ServerResponse,
  status: number,
  headers: Readonly<OutgoingHttpHeaders>,
  body: Buffer,
): Buffer {
  // It judges the headers, merges them and keeps their case.
  const carrier = new ServerResponse(res.req) as Carrier;
  const set = (res as Carrier).getRawHeaderNames().map((name) => [name, res.getHeader(name)] as const);
  for (const [name, value] of [...set, ...Object.entries(headers)]) {
    if (value !== undefined) carrier.setHeader(name, value);
  }
  for (const name of REPLACED) carrier.removeHeader(name);
  const lines = [`HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}`];
  for (const name of carrier.getRawHeaderNames()) {
    for (const value of [carrier.getHeader(name)].flat()) lines.push(`${name}: ${value}`);
  }
  lines.push(
    `Date: ${new Date().toUTCString()}`,
    `Content-Length: ${body.length}`,
    'Connection: close',
    '\r\n',
  );
  return Buffer.concat([Buffer.from(lines.join('\r\n'), 'latin1'), body]);
}
