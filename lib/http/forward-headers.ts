import type { IncomingHttpHeaders, IncomingMessage, OutgoingHttpHeaders } from 'node:http';
import type { TLSSocket } from 'node:tls';

/** RFC 9110, section 7.6.1: headers that speak of one connection only. */
const HOP_BY_HOP = new Set([
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);

/** Without these a message would have no bounds or no destination, whatever `Connection` says of them. */
const NEVER_DROPPED = ['content-length', 'host'];

/** What `Connection` usually says, which names no header. */
const USUAL = /^(?:keep-alive|close)$/i;
const NONE: ReadonlySet<string> = new Set();

function namedInConnection(headers: IncomingHttpHeaders): ReadonlySet<string> {
  if (headers.connection === undefined || USUAL.test(headers.connection)) return NONE;
  const named = new Set(headers.connection.toLowerCase().split(/\s*,\s*/));
  for (const name of NEVER_DROPPED) named.delete(name);
  return named;
}

/**
 * Path and query of a request, which a client may also write with the server's address in front (RFC 9112, 3.2.2). A
 * fragment has no place in a request: one server drops it, and another one takes it for a part of the query.
 */
export function originForm(req: IncomingMessage): string {
  const path = (req.url ?? '').replace(/#.*/s, '').replace(/^https?:\/\/[^/?]*/i, '');
  return path === '' || path.startsWith('?') ? `/${path}` : path;
}

/**
 * The client's headers as the backend gets them: all that are not of one connection, plus `X-Forwarded-*`.
 *
 * The client's `Host` is kept, because ComfyUI holds it against `Origin`; only a backend behind https gets its own,
 * because such a host is found by name.
 */
export function requestHeaders(req: IncomingMessage, target: URL): OutgoingHttpHeaders {
  const dropped = namedInConnection(req.headers);
  const headers: OutgoingHttpHeaders = {};
  for (const [name, value] of Object.entries(req.headers)) {
    if (HOP_BY_HOP.has(name) || dropped.has(name) || value === undefined) continue;
    // Node has answered `Expect: 100-continue` already.
    if (name !== 'expect') headers[name] = value;
  }
  // A length stands for itself; without one, the body keeps the framing that the client gave it.
  if (req.headers['transfer-encoding'] && headers['content-length'] === undefined) {
    headers['transfer-encoding'] = 'chunked';
  }
  const forwardedFor = [headers['x-forwarded-for'], req.socket.remoteAddress].filter(Boolean).join(', ');
  if (forwardedFor) headers['x-forwarded-for'] = forwardedFor;
  headers['x-forwarded-proto'] ??= (req.socket as TLSSocket).encrypted ? 'https' : 'http';
  if (req.headers.host) headers['x-forwarded-host'] ??= req.headers.host;
  if (target.protocol === 'https:' || !headers.host) headers.host = target.host;
  return headers;
}

/** Names and values of raw headers, which Node gives by turns. */
export function headerPairs(rawHeaders: readonly string[]): [name: string, value: string][] {
  const pairs: [string, string][] = [];
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    pairs.push([rawHeaders[i] as string, rawHeaders[i + 1] as string]);
  }
  return pairs;
}

/** The backend's headers as the client gets them, in their case and order, repeated ones as they were. */
export function responseHeaders(answer: {
  readonly headers: IncomingHttpHeaders;
  readonly rawHeaders: readonly string[];
}): [name: string, value: string][] {
  const dropped = namedInConnection(answer.headers);
  return headerPairs(answer.rawHeaders).filter(([name]) => {
    const lower = name.toLowerCase();
    return !HOP_BY_HOP.has(lower) && !dropped.has(lower);
  });
}
