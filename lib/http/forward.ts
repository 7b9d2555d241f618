import http, { type ClientRequest, type IncomingMessage, type ServerResponse } from 'node:http';
import https from 'node:https';
import type { Duplex } from 'node:stream';
import { pipeline } from 'node:stream';
import { messageOf, systemCodeOf } from '../errors.js';
import { requestHeaders, responseHeaders } from './forward-headers.js';

/** How often TCP looks whether a silent backend is still there. */
const TCP_KEEP_ALIVE_MS = 30_000;

export interface ForwarderOptions {
  /** The backend's address. */
  readonly target: URL;
  /** What to call the backend in messages, and what to check when it cannot be reached. */
  readonly backend: { readonly title: string; readonly hint: string };
}

/** Passes requests on to one backend, as they are, and gives back what it answers. */
export class Forwarder {
  readonly #target: URL;
  readonly #backend: ForwarderOptions['backend'];

  constructor(options: ForwarderOptions) {
    this.#target = options.target;
    this.#backend = options.backend;
  }

  /** Answers with what the backend answers, or with 502 and a JSON body where there is no answer. */
  handle(req: IncomingMessage & { body?: unknown }, res: ServerResponse): void {
    const parsed = req.readableEnded ? parsedBody(req) : undefined;
    if (parsed instanceof Error) {
      answerError(res, 500, parsed.message);
      return;
    }
    const upstream = this.#request(req);
    // A generation takes as long as it takes; only a dead connection ends it.
    upstream.setTimeout(0);
    upstream.setSocketKeepAlive(true, TCP_KEEP_ALIVE_MS);
    upstream.once('response', (answer) => {
      res.writeHead(answer.statusCode ?? 502, answer.statusMessage, responseHeaders(answer));
      // An error here is the connection's end on one side; pipeline() passes it to the other, and there it shows.
      pipeline(answer, res, () => {});
    });
    upstream.on('error', (error) => {
      if (res.headersSent) res.destroy(error);
      else answerError(res, 502, this.#explain(error));
    });
    res.once('close', () => {
      if (!res.writableFinished) upstream.destroy();
    });
    if (parsed) {
      upstream.setHeader('content-length', parsed.length);
      upstream.removeHeader('transfer-encoding');
      upstream.end(parsed);
    } else {
      req.pipe(upstream);
    }
  }

  /** Passes a WebSocket (or any other upgrade) on, for `server.on('upgrade', ...)`. */
  upgrade(req: IncomingMessage, socket: Duplex, head: Buffer): void {
    const upstream = this.#request(req, {
      connection: 'Upgrade',
      upgrade: req.headers.upgrade ?? 'websocket',
    });
    const end = () => {
      upstream.destroy();
      socket.destroy();
    };
    socket.on('error', end);
    socket.once('close', end);
    upstream.once('upgrade', (answer, backendSocket, backendHead) => {
      backendSocket.on('error', end);
      backendSocket.once('close', end);
      socket.write(rawHead(answer, answer.rawHeaders));
      if (backendHead.length > 0) socket.write(backendHead);
      if (head.length > 0) backendSocket.write(head);
      backendSocket.pipe(socket).pipe(backendSocket);
    });
    // The backend refuses the upgrade: its answer goes to the client, and that is all.
    upstream.once('response', (answer) => {
      socket.write(rawHead(answer, [...responseHeaders(answer), 'Connection', 'close']));
      answer.pipe(socket);
    });
    upstream.on('error', (error) => {
      const body = JSON.stringify({ error: this.#explain(error) });
      const head = ['HTTP/1.1 502 Bad Gateway', 'Content-Type: application/json', 'Connection: close'];
      socket.end(`${head.join('\r\n')}\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`);
    });
    upstream.end();
  }

  #request(req: IncomingMessage, extraHeaders: http.OutgoingHttpHeaders = {}): ClientRequest {
    const target = this.#target;
    return (target.protocol === 'https:' ? https : http).request({
      protocol: target.protocol,
      hostname: target.hostname.replace(/^\[|\]$/g, ''),
      port: target.port,
      method: req.method,
      path: target.pathname.replace(/\/$/, '') + req.url,
      headers: { ...requestHeaders(req, target), ...extraHeaders },
      // A connection that was kept may be dead already, and a generation must not be sent twice.
      agent: false,
    });
  }

  #explain(error: unknown): string {
    const { title, hint } = this.#backend;
    const got = systemCodeOf(error) ?? messageOf(error);
    const address = this.#target.origin;
    return got === 'ECONNRESET'
      ? `${title} at ${address} closed the connection before it had answered (${got}). ${hint}`
      : `${title} at ${address} cannot be reached (${got}). ${hint}`;
  }
}

function answerError(res: ServerResponse, status: number, error: string): void {
  const body = Buffer.from(JSON.stringify({ error }));
  res.writeHead(status, { 'Content-Type': 'application/json', 'Content-Length': body.length });
  res.end(body);
}

/** The bytes of a body that the host has parsed before us; an error where they cannot be had any more. */
function parsedBody(req: IncomingMessage & { body?: unknown }): Buffer | Error | undefined {
  const { body } = req;
  if (body === undefined) return undefined;
  if (Buffer.isBuffer(body)) return body;
  if (typeof body === 'string') return Buffer.from(body);
  const type = req.headers['content-type'] ?? '';
  if (/[/+]json\b/i.test(type)) return Buffer.from(JSON.stringify(body));
  const expected = 'Expected a request body that nobody has read yet, or JSON';
  return new Error(
    `${expected}, got a parsed one of type "${type}": mount jobTracker() before the body parser`,
  );
}

function rawHead(answer: IncomingMessage, rawHeaders: readonly string[]): string {
  const lines = [`HTTP/1.1 ${answer.statusCode} ${answer.statusMessage}`];
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) lines.push(`${rawHeaders[i]}: ${rawHeaders[i + 1]}`);
  return `${lines.join('\r\n')}\r\n\r\n`;
}
