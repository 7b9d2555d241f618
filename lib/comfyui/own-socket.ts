import { randomUUID } from 'node:crypto';
import type WebSocket from 'ws';
import { basicAuthorization } from '../http/backend-call.js';
import { lookup } from '../http/lookup.js';
import type { RunningJob } from '../jobs/running-job.js';

const HANDSHAKE_WITHIN_MS = 10_000;
const FIRST_RETRY_MS = 500;
const MAX_RETRY_MS = 15_000;
/** How often TCP looks whether a silent ComfyUI is still there. */
const TCP_KEEP_ALIVE_MS = 30_000;

export interface OwnSocketOptions {
  /** ComfyUI's address. May hold credentials, which are sent as HTTP Basic. */
  readonly url: URL;
  /** Gets the text messages. */
  readonly onText: (text: string) => void;
}

/**
 * A WebSocket of our own to ComfyUI, for prompts that came without a client id: how they get on is told to whoever
 * listens. It is open only while there are such prompts, and never under a client's id, which would take that client's
 * messages away. Nothing depends on it but the progress: where it fails it is just tried again.
 */
export class OwnSocket {
  readonly #options: OwnSocketOptions;
  readonly #jobs = new Set<RunningJob>();
  readonly #clientId = `job-tracker-${randomUUID()}`;
  #socket: WebSocket | undefined;
  #retry: NodeJS.Timeout | undefined;
  #retryMs = FIRST_RETRY_MS;
  /** The attempt that counts: an earlier one that is still under way comes to nothing. */
  #attempt = 0;

  constructor(options: OwnSocketOptions) {
    this.#options = options;
  }

  /** Listens until this job is over, if it is one that nobody else hears of. */
  serve(job: RunningJob): void {
    if (job.request.client_id !== undefined || job.ended) return;
    this.#jobs.add(job);
    if (this.#jobs.size === 1) void this.#open();
    void job.over.then(() => {
      this.#jobs.delete(job);
      if (this.#jobs.size === 0) this.#close();
    });
  }

  async #open(): Promise<void> {
    const { url, onText } = this.#options;
    this.#attempt += 1;
    const attempt = this.#attempt;
    // Few hosts ever need it: it is not to cost every one of them a part of its start.
    const { default: WebSocket } = await import('ws');
    if (attempt !== this.#attempt) return;
    const address = new URL(url);
    address.username = '';
    address.password = '';
    address.pathname = `${url.pathname.replace(/\/$/, '')}/ws`;
    address.search = `?clientId=${this.#clientId}`;
    const authorization = basicAuthorization(url);
    const socket = new WebSocket(address, {
      headers: authorization === null ? {} : { authorization },
      perMessageDeflate: false,
      handshakeTimeout: HANDSHAKE_WITHIN_MS,
      lookup,
    });
    this.#socket = socket;
    socket.on('upgrade', ({ socket: connection }) => {
      connection.setKeepAlive(true, TCP_KEEP_ALIVE_MS);
      // Only whoever waits for a job keeps the process up.
      connection.unref();
    });
    socket.on('message', (data, isBinary) => {
      // ComfyUI greets everybody: that is no proxy in front of it that only hangs up.
      this.#retryMs = FIRST_RETRY_MS;
      if (!isBinary) onText(String(data));
    });
    // 'close' follows.
    socket.on('error', () => {});
    socket.once('close', () => {
      if (this.#socket === socket) this.#openLater();
    });
  }

  #openLater(): void {
    this.#socket = undefined;
    this.#retry = setTimeout(() => void this.#open(), this.#retryMs).unref();
    this.#retryMs = Math.min(this.#retryMs * 2, MAX_RETRY_MS);
  }

  #close(): void {
    this.#attempt += 1;
    clearTimeout(this.#retry);
    this.#retryMs = FIRST_RETRY_MS;
    const socket = this.#socket;
    this.#socket = undefined;
    socket?.terminate();
  }
}
