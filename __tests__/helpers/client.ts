import http, { type IncomingHttpHeaders } from 'node:http';

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly rawHeaders: readonly string[];
  readonly body: Buffer;
}

export interface Call {
  /** The head, as soon as it is there. Rejects when the connection breaks before. */
  readonly head: Promise<Omit<Answer, 'body'>>;
  /** The whole answer. Rejects when the connection breaks before its end. */
  readonly answer: Promise<Answer>;
  /** The client's side, to leave it (`destroy`, `socket.resetAndDestroy`). */
  readonly request: http.ClientRequest;
  /** What has come of the body so far. */
  readonly received: Buffer[];
  /** The answer, to pause it. */
  readonly incoming: Promise<http.IncomingMessage>;
}

export interface CallOptions {
  readonly method?: string;
  readonly headers?: http.OutgoingHttpHeaders;
  readonly body?: string | Buffer;
  /** Do not end the request; the test writes its body. */
  readonly open?: boolean;
  /** Leave the answer's body unread until the test reads it. */
  readonly unread?: boolean;
}

/** One call over a connection of its own, by Node's plain client. */
export function call(url: string, options: CallOptions = {}): Call {
  const received: Buffer[] = [];
  const request = http.request(url, {
    method: options.method ?? (options.body === undefined && !options.open ? 'GET' : 'POST'),
    headers: options.headers,
    agent: false,
  });
  const incoming = new Promise<http.IncomingMessage>((resolve, reject) => {
    request.once('response', resolve);
    request.once('error', reject);
    request.once('close', () => reject(new Error('closed before the head')));
  });
  const head = incoming.then(({ statusCode = 0, headers, rawHeaders }) => ({
    status: statusCode,
    headers,
    rawHeaders,
  }));
  const answer = incoming.then(
    (message) =>
      new Promise<Answer>((resolve, reject) => {
        if (!options.unread) message.on('data', (chunk: Buffer) => received.push(chunk));
        message.once('end', () => {
          const { statusCode = 0, headers, rawHeaders } = message;
          if (message.complete)
            resolve({ status: statusCode, headers, rawHeaders, body: Buffer.concat(received) });
        });
        message.once('error', reject);
        message.once('close', () => reject(new Error('closed before the end')));
      }),
  );
  for (const promise of [incoming, head, answer]) promise.catch(() => {});
  request.on('error', () => {});
  if (!options.open) request.end(options.body);
  return { head, answer, request, received, incoming };
}

/** A POST of JSON. */
export function post(url: string, body: unknown, options: CallOptions = {}): Call {
  return call(url, {
    ...options,
    headers: { 'Content-Type': 'application/json', ...options.headers },
    body: typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body),
  });
}

export async function getJson<T>(url: string): Promise<T> {
  return JSON.parse((await call(url).answer).body.toString()) as T;
}
