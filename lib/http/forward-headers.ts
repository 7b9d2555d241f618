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

function namedInConnection(headers: IncomingHttpHeaders): Set<string> {
  return new Set((headers.connection ?? '').toLowerCase().split(/\s*,\s*/));
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

/** The backend's headers as the client gets them, as a flat list that keeps their case, order and repetition. */
export function responseHeaders(answer: IncomingMessage): string[] {
  const dropped = namedInConnection(answer.headers);
  const kept: string[] = [];
  for (let i = 0; i + 1 < answer.rawHeaders.length; i += 2) {
    const name = answer.rawHeaders[i] as string;
    const lower = name.toLowerCase();
    if (!HOP_BY_HOP.has(lower) && !dropped.has(lower)) kept.push(name, answer.rawHeaders[i + 1] as string);
  }
  return kept;
}
