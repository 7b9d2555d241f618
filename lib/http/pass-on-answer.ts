import type { ClientRequest, IncomingMessage, ServerResponse } from 'node:http';
import type { BackendAnswer } from './backend-call.js';
import { responseHeaders } from './forward-headers.js';
import { resetSocket } from './reset-socket.js';

/** Lists to which both the backend and a middleware in front may add; of any other header the backend's stands. */
const ADDED_TO = ['set-cookie', 'vary'];

/**
 * Gives a backend's answer, head and body, to a response. An answer that breaks off in the middle breaks the response.
 *
 * @returns false where the answer has a head that nobody can send. Nothing is sent then.
 */
export function passOnAnswer(upstream: ClientRequest, answer: IncomingMessage, res: ServerResponse): boolean {
  const { statusCode = 0, statusMessage = '' } = answer;
  // Node's parser is not as strict as its writer, which would throw.
  if (statusCode < 100) return false;
  // Somebody in front lost patience and has answered by themselves.
  if (res.headersSent) {
    answer.destroy();
    return true;
  }
  setHeaders(res, responseHeaders(answer));
  res.writeHead(statusCode, /^[\t\x20-\x7e\x80-\xff]*$/.test(statusMessage) ? statusMessage : '');
  answer.pipe(res);
  onBrokenAnswer(upstream, answer, () => breakOff(res));
  return true;
}

/** Gives a backend's answer that is all there, maybe with another body, to a response, if nothing has been answered yet. */
export function sendAnswer(res: ServerResponse, answer: BackendAnswer, body: Buffer = answer.body): void {
  if (res.headersSent || res.destroyed) return;
  setHeaders(res, responseHeaders(answer));
  // What the backend said of its length, and of how it was sent, is of the body as it came.
  res.setHeader('Content-Length', body.length);
  res.writeHead(answer.status);
  res.end(body);
}

function setHeaders(res: ServerResponse, headers: readonly [name: string, value: string][]): void {
  const replaced = new Set<string>();
  for (const [name, value] of headers) {
    const lower = name.toLowerCase();
    if (!replaced.has(lower) && !ADDED_TO.includes(lower)) res.removeHeader(name);
    replaced.add(lower);
    res.appendHeader(name, value);
  }
}

/** Calls `listener` where an answer breaks off, maybe more than once. */
export function onBrokenAnswer(upstream: ClientRequest, answer: IncomingMessage, listener: () => void): void {
  const check = () => {
    if (!answer.complete) listener();
  };
  answer.on('error', check);
  // A RST makes Node tell the request first, and then call an answer that has no length complete.
  upstream.on('error', check);
}

function breakOff(res: ServerResponse): void {
  // Who has put another `destroy` on the response decides how it ends.
  if (Object.hasOwn(res, 'destroy')) res.destroy(new Error('The backend broke off its answer'));
  // To a client that speaks HTTP/1.0, or is behind a proxy that does, a FIN is the regular end.
  else if (res.socket) resetSocket(res.socket);
}
