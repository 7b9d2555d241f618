import type { IncomingMessage } from 'node:http';
import { type BackendAnswer, type BackendCall, callBackend } from '../http/backend-call.js';
import type { Forwarder } from '../http/forward.js';
import { originForm } from '../http/forward-headers.js';

/** A whole history may be large, and ComfyUI is slow to write it while it works. */
const ANSWER_WITHIN_MS = 120_000;
const MAX_ANSWER_BYTES = 512 * 1024 * 1024;
/** Of a body that may be another one, or of a part of the answer. */
const LEFT_OUT = [
  ...['content-length', 'transfer-encoding', 'content-encoding', 'expect'],
  ...['range', 'if-range', 'if-match', 'if-none-match', 'if-modified-since', 'if-unmodified-since'],
];

export interface AskOptions {
  readonly url: URL;
  readonly forwarder: Pick<Forwarder, 'headersFor'>;
  readonly signal?: AbortSignal;
}

/**
 * Asks ComfyUI what a client asks us, with that client's headers, so that ComfyUI judges the client as ever: whether a page of
 * another site is at work, for instance. Rejects with `BACKEND_UNANSWERED`.
 *
 * @param call where the client's own path, query or body is not to be sent.
 */
export function askAs(
  req: IncomingMessage,
  { url, forwarder, signal }: AskOptions,
  call: {
    readonly method: 'GET' | 'POST';
    readonly query?: URLSearchParams | undefined;
    readonly body?: Buffer;
    readonly headers?: BackendCall['headers'];
  },
): Promise<BackendAnswer> {
  const { method, query, body, headers } = call;
  const [path = '/'] = originForm(req).split('?', 1);
  return callBackend(url, {
    method,
    path: query ? `${path}${query.size > 0 ? `?${query}` : ''}` : originForm(req),
    headers: { ...headersOf(req, forwarder), ...headers },
    body,
    timeoutMs: ANSWER_WITHIN_MS,
    maxBytes: MAX_ANSWER_BYTES,
    signal,
  });
}

function headersOf(req: IncomingMessage, forwarder: AskOptions['forwarder']): Record<string, string | null> {
  // Without this, the credentials in the address would be sent.
  const headers: Record<string, string | null> = { authorization: null };
  for (const [name, value] of Object.entries(forwarder.headersFor(req))) {
    if (!LEFT_OUT.includes(name) && value !== undefined) headers[name] = [value].flat().join(', ');
  }
  return { ...headers, 'accept-encoding': 'identity' };
}
