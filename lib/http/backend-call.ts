import http, { type ClientRequest, type IncomingHttpHeaders, type IncomingMessage } from 'node:http';
import https from 'node:https';
import { JobTrackerError, messageOf, systemCodeOf } from '../errors.js';
import { lookup } from './lookup.js';

const MAX_ANSWER_BYTES = 1024 * 1024;

export interface BackendCall {
  /** Default: `GET`. */
  readonly method?: string | undefined;
  /** Below the path of the backend's URL, with the query; in the form in which it is sent. */
  readonly path: string;
  /**
   * Undefined is absent, and `null` takes away what would be sent otherwise: `authorization: null` keeps the credentials
   * of the backend's URL back.
   */
  readonly headers?: Readonly<Record<string, string | null | undefined>> | undefined;
  readonly body?: Buffer | string | undefined;
  /** For the whole call, until the last byte of the answer. */
  readonly timeoutMs: number;
  /** How large the answer's body may be. Default: 1 MB. */
  readonly maxBytes?: number | undefined;
  /** Ends the call at once; it rejects with the signal's reason. */
  readonly signal?: AbortSignal | undefined;
}

export interface BackendAnswer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** Names and values by turns, as they came. */
  readonly rawHeaders: readonly string[];
  readonly body: Buffer;
}

/**
 * A small call of the tracker's own to a backend. Whatever status comes is an answer; redirects are not followed.
 *
 * @param base the backend's URL, which may hold a name and a password for HTTP Basic.
 * @throws JobTrackerError `BACKEND_UNANSWERED` that says what happened, where no whole answer came.
 */
export function callBackend(base: URL, call: BackendCall): Promise<BackendAnswer> {
  const { body, timeoutMs, maxBytes = MAX_ANSWER_BYTES, signal } = call;
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const request = requestTo(base, call);
    // The first outcome is the one that counts; a promise sees to that.
    const settle = (outcome: () => void) => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', abort);
      outcome();
      request.destroy();
    };
    const fail = (what: string, cause?: unknown) =>
      settle(() => reject(new JobTrackerError('BACKEND_UNANSWERED', `${base.origin} ${what}`, { cause })));
    const abort = () => settle(() => reject(signal?.reason));
    const timer = setTimeout(
      () => fail(`did not answer within ${timeoutMs / 1000} seconds`),
      timeoutMs,
    ).unref();
    signal?.addEventListener('abort', abort, { once: true });

    let answer: IncomingMessage | undefined;
    request.once('response', (incoming) => {
      answer = incoming;
      const chunks: Buffer[] = [];
      let sizeBytes = 0;
      incoming.on('data', (chunk: Buffer) => {
        sizeBytes += chunk.length;
        if (sizeBytes > maxBytes) fail(`gave an answer of more than ${maxBytes} bytes`);
        else chunks.push(chunk);
      });
      incoming.once('end', () => {
        const { statusCode: status = 0, headers, rawHeaders } = incoming;
        settle(() => resolve({ status, headers, rawHeaders, body: Buffer.concat(chunks) }));
      });
      incoming.on('error', (error) => fail(`broke off its answer${inBrackets(error)}`, error));
    });
    request.on('error', (error) => fail(explain(error, answer !== undefined), error));
    request.once('close', () => {
      // With an answer, its own end is still to be heard of.
      if (!answer) fail('closed the connection before it had answered');
    });
    request.end(body);
  });
}

/** A call whose answer is read in passing. */
export type BackendDownload = Pick<BackendCall, 'path' | 'headers' | 'signal'> & {
  /** So long nothing may come, in milliseconds. */
  readonly idleMs: number;
};

/**
 * Asks a backend for something large. Resolves with the answer's head; its body has to be read. A body that breaks off, or
 * stops coming, ends in an error of the stream.
 *
 * @throws JobTrackerError `BACKEND_UNANSWERED` where no answer came.
 */
export function downloadFromBackend(base: URL, call: BackendDownload): Promise<IncomingMessage> {
  const { idleMs, signal } = call;
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const request = requestTo(base, call);
    const abort = () => request.destroy(signal?.reason);
    signal?.addEventListener('abort', abort, { once: true });
    request.setTimeout(idleMs, () => request.destroy(new Error(`nothing came for ${idleMs / 1000} seconds`)));
    request.once('response', resolve);
    request.on('error', (cause) => {
      reject(new JobTrackerError('BACKEND_UNANSWERED', `${base.origin} ${explain(cause, false)}`, { cause }));
    });
    request.once('close', () => signal?.removeEventListener('abort', abort));
    request.end();
  });
}

function requestTo(
  base: URL,
  call: Pick<BackendCall, 'method' | 'path' | 'headers' | 'body'>,
): ClientRequest {
  return (base.protocol === 'https:' ? https : http).request({
    protocol: base.protocol,
    hostname: base.hostname.replace(/^\[|\]$/g, ''),
    port: base.port,
    method: call.method ?? 'GET',
    path: base.pathname.replace(/\/$/, '') + call.path,
    headers: headersOf(base, call),
    // A connection that was kept may be dead already.
    agent: false,
    lookup,
  });
}

function headersOf(
  base: URL,
  { headers = {}, body }: Pick<BackendCall, 'headers' | 'body'>,
): Record<string, string> {
  const all: Record<string, string | null> = {
    authorization: basicAuthorization(base),
    'accept-encoding': 'identity',
  };
  // Node itself gives no length with a GET or a DELETE.
  if (body !== undefined) all['content-length'] = String(Buffer.byteLength(body));
  for (const [name, value] of Object.entries(headers)) {
    if (value !== undefined) all[name.toLowerCase()] = value;
  }
  return Object.fromEntries(
    Object.entries(all).filter((header): header is [string, string] => header[1] !== null),
  );
}

/** The credentials in a URL as HTTP Basic sends them; null where it has none. */
export function basicAuthorization({ username, password }: URL): string | null {
  if (username === '' && password === '') return null;
  return `Basic ${Buffer.from(`${decoded(username)}:${decoded(password)}`).toString('base64')}`;
}

/** A `%` that encodes nothing stands for itself, as people write it. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function explain(error: unknown, hasAnswered: boolean): string {
  const code = systemCodeOf(error) ?? '';
  if (code.startsWith('HPE_')) return `gave an answer that is not HTTP (${code})`;
  if (hasAnswered) return `broke off its answer${inBrackets(error)}`;
  if (code === 'ECONNRESET' || code === 'EPIPE') {
    return `closed the connection before it had answered (${code})`;
  }
  return `cannot be reached${inBrackets(error)}`;
}

function inBrackets(error: unknown): string {
  return ` (${systemCodeOf(error) ?? messageOf(error)})`;
}
