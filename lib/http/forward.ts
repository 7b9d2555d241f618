import http, { type ClientRequest, type IncomingMessage, type ServerResponse } from 'node:http';
import https from 'node:https';
import type { Duplex } from 'node:stream';
import { messageOf, systemCodeOf } from '../errors.js';
import { answerError } from './error-answer.js';
import { originForm, requestHeaders } from './forward-headers.js';
import { lookup } from './lookup.js';
import { type ParsedRequest, parsedBody } from './parsed-body.js';
import { passOnAnswer } from './pass-on-answer.js';
import { isWebSocket, serveWithoutUpgrade } from './plain-upgrade.js';
import { tunnelUpgrade } from './upgrade-tunnel.js';

/** How often TCP looks whether a silent backend is still there. */
const TCP_KEEP_ALIVE_MS = 30_000;

export interface ForwarderOptions {
  /** The backend's address. */
  readonly target: URL;
  /** What to call the backend in messages, and what to check when it cannot be reached. */
  readonly backend: { readonly title: string; readonly hint: string };
  /** What the backend gets as `Authorization`, `null` for none. Undefined: whatever the client has sent. */
  readonly authorization?: string | null | undefined;
  /**
   * Who reads along the text messages that a WebSocket brings from the backend, up to 1 MB each; undefined for one that
   * nobody reads. `path` is without the query.
   */
  readonly readerOf?: ((path: string) => ((text: string) => void) | undefined) | undefined;
}

/**
 * Takes a request over that the backend answers with this status, before anything of that is passed on; 502 with a message
 * where it does not answer at all. False: the answer is passed on as ever.
 */
export type TakeOver = (status: number, error?: string) => boolean;

/** Passes requests on to one backend, as they are, and gives back what it answers. */
export class Forwarder {
  readonly #target: URL;
  readonly #backend: ForwarderOptions['backend'];
  /** Headers that differ from the client's, with every request; undefined takes one away. */
  readonly #changes: http.OutgoingHttpHeaders;
  /** A connection that was kept may be dead already, and a generation must not be sent twice: each has its own. */
  readonly #agent: http.Agent;
  readonly #readerOf: NonNullable<ForwarderOptions['readerOf']>;

  constructor({ target, backend, authorization, readerOf = () => undefined }: ForwarderOptions) {
    this.#target = target;
    this.#agent = new (target.protocol === 'https:' ? https : http).Agent({ keepAlive: false });
    this.#backend = backend;
    this.#readerOf = readerOf;
    this.#changes = authorization === undefined ? {} : { authorization: authorization ?? undefined };
  }

  /** Answers with what the backend answers, or with 502 and a JSON body where there is no answer. */
  handle(req: ParsedRequest, res: ServerResponse, takeOver: TakeOver = () => false): void {
    // The client left while somebody in front was busy: there will be no 'close' to wait for.
    if (res.destroyed) return;
    const parsed = parsedBody(req);
    if (parsed instanceof Error) {
      answerError(res, 500, parsed.message);
      return;
    }
    const upstream = this.#request(req, parsed?.headers);
    let answered = false;
    let failure: unknown;
    upstream.once('response', (answer) => {
      if (takeOver(answer.statusCode ?? 0)) {
        answered = true;
        upstream.destroy();
        return;
      }
      answered = passOnAnswer(upstream, answer, res);
      if (!answered) upstream.destroy(Object.assign(new Error(), { code: 'HPE_INVALID_STATUS' }));
    });
    upstream.on('error', (error) => {
      failure ??= error;
    });
    upstream.once('close', () => {
      const brokeOff = req.destroyed && !req.readableEnded;
      if (brokeOff) answerError(res, 500, 'The request broke off before its end');
      else if (!answered && !takeOver(502, this.#explain(failure))) {
        answerError(res, 502, this.#explain(failure));
      }
      // Some clients look at an answer only when they have sent all that they have.
      req.unpipe(upstream);
      req.resume();
    });
    res.once('close', () => upstream.destroy());
    if (parsed) {
      upstream.end(parsed.bytes);
    } else {
      req.once('close', () => req.readableEnded || upstream.destroy());
      req.pipe(upstream);
    }
  }

  /**
   * Passes a WebSocket on, for `server.on('upgrade', ...)`. A request that offers any other upgrade is served as the
   * plain request that it also is.
   */
  upgrade(req: IncomingMessage, socket: Duplex, head: Buffer): void {
    if (!isWebSocket(req)) {
      serveWithoutUpgrade(req, socket, head);
      return;
    }
    const onText = this.#readerOf(originForm(req).replace(/\?.*/s, ''));
    const upstream = this.#request(req, {
      connection: 'Upgrade',
      upgrade: req.headers.upgrade,
      // Compressed messages could not be read along. Nobody has to agree to compression that is offered (RFC 7692).
      ...(onText && { 'sec-websocket-extensions': undefined }),
    });
    tunnelUpgrade({ upstream, socket, head, explain: (error) => this.#explain(error), onText });
    upstream.end();
  }

  /**
   * The client's headers as the backend gets them.
   *
   * @param changes headers that differ from the client's; undefined takes one away.
   */
  headersFor(req: IncomingMessage, changes: http.OutgoingHttpHeaders = {}): http.OutgoingHttpHeaders {
    const headers = Object.entries({ ...requestHeaders(req, this.#target), ...this.#changes, ...changes });
    return Object.fromEntries(headers.filter(([, value]) => value !== undefined));
  }

  #request(req: IncomingMessage, changes: http.OutgoingHttpHeaders = {}): ClientRequest {
    const target = this.#target;
    const upstream = (target.protocol === 'https:' ? https : http).request({
      protocol: target.protocol,
      hostname: target.hostname.replace(/^\[|\]$/g, ''),
      port: target.port,
      method: req.method,
      path: target.pathname.replace(/\/$/, '') + originForm(req),
      headers: this.headersFor(req, changes),
      agent: this.#agent,
      lookup,
    });
    // A generation takes as long as it takes; only a dead connection ends it.
    upstream.setSocketKeepAlive(true, TCP_KEEP_ALIVE_MS);
    return upstream;
  }

  /** @param error undefined where the connection just ended. */
  #explain(error: unknown): string {
    const { title, hint } = this.#backend;
    const backend = `${title} at ${this.#target.origin}`;
    const got = error === undefined ? 'ECONNRESET' : (systemCodeOf(error) ?? messageOf(error));
    if (got === 'ECONNRESET' || got === 'EPIPE') {
      return `${backend} closed the connection before it had answered (${got}). ${hint}`;
    }
    if (got.startsWith('HPE_')) return `${backend} gave an answer that is not HTTP (${got}). ${hint}`;
    return `${backend} cannot be reached (${got}). ${hint}`;
  }
}
