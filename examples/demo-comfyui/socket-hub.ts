import { randomUUID } from 'node:crypto';
import type { IncomingMessage, Server } from 'node:http';
import type { Duplex } from 'node:stream';
import { type RawData, type WebSocket, WebSocketServer } from 'ws';
import { describeRequest } from '../demo-shared/demo-request.js';
import { dumpSpaced, type PythonValue } from '../demo-shared/python-json.js';
import type { DemoComfyUIState } from './demo-state.js';
import { isForeign } from './origin-guard.js';

interface Session {
  readonly socket: WebSocket;
  takesMetadata: boolean;
}

export interface Greeting {
  readonly remaining: number;
  /** The node at work for this client, for one that comes back. */
  readonly node: string | undefined;
}

/** The WebSockets at `/ws`: one for each session id, the newest. */
export class SocketHub {
  readonly #server = new WebSocketServer({ noServer: true });
  readonly #sessions = new Map<string, Session>();
  readonly #features: PythonValue;
  readonly #state: DemoComfyUIState;

  constructor(state: DemoComfyUIState, features: PythonValue) {
    this.#state = state;
    this.#features = features;
  }

  /** @param greet what a new socket is told, by its session id. */
  attach(server: Server, greet: (sid: string) => Greeting): void {
    server.on('upgrade', (req: IncomingMessage, socket: Duplex, head: Buffer) => {
      this.#state.addRequest(describeRequest(req));
      // a client that breaks off is no error of the server
      socket.on('error', () => socket.destroy());
      const url = new URL(req.url ?? '/', 'http://demo');
      if (isForeign(req.headers)) refuse(socket, '403 Forbidden');
      else if (!/^(\/api)?\/ws$/.test(url.pathname)) refuse(socket, '404 Not Found');
      else {
        const sid = url.searchParams.get('clientId') || randomUUID().replaceAll('-', '');
        this.#server.handleUpgrade(req, socket, head, (webSocket) => this.#open(sid, webSocket, greet));
      }
    });
  }

  /** To one session, which may be gone; to all where `sid` is undefined. */
  send(type: string, data: PythonValue, sid?: string): void {
    const text = dumpSpaced({ type, data });
    for (const { socket } of this.#receivers(sid)) socket.send(text);
  }

  /** @param choose the bytes for a socket, by whether it takes previews with metadata. */
  sendBinary(choose: (takesMetadata: boolean) => Buffer, sid?: string): void {
    for (const { socket, takesMetadata } of this.#receivers(sid)) socket.send(choose(takesMetadata));
  }

  sendStatus(remaining: number): void {
    this.send('status', statusData(remaining));
  }

  hasReceivers(sid?: string): boolean {
    return this.#receivers(sid).length > 0;
  }

  /** Breaks all connections off. */
  terminateAll(): void {
    this.#sessions.clear();
    for (const socket of this.#server.clients) socket.terminate();
  }

  #open(sid: string, socket: WebSocket, greet: (sid: string) => Greeting): void {
    const session: Session = { socket, takesMetadata: false };
    this.#sessions.set(sid, session);
    socket.on('error', () => socket.terminate());
    socket.on('message', (data) => this.#receive(sid, session, data));
    socket.on('close', () => {
      if (this.#sessions.get(sid) === session) this.#sessions.delete(sid);
      this.#state.emit('disconnected', sid);
    });
    const { remaining, node } = greet(sid);
    this.send('status', { ...statusData(remaining), sid }, sid);
    if (node !== undefined) this.send('executing', { node }, sid);
    this.#state.emit('connected', sid);
  }

  /** Clients tell what they can; everything else is not for the server. */
  #receive(sid: string, session: Session, data: RawData): void {
    let message: { type?: unknown; data?: { supports_preview_metadata?: unknown } } | null;
    try {
      message = JSON.parse(String(data));
    } catch {
      return; // ComfyUI ignores what is no JSON too
    }
    if (message?.type !== 'feature_flags') return;
    session.takesMetadata = message.data?.supports_preview_metadata === true;
    this.send('feature_flags', this.#features, sid);
  }

  #receivers(sid: string | undefined): Session[] {
    if (sid === undefined) return [...this.#sessions.values()];
    const session = this.#sessions.get(sid);
    return session ? [session] : [];
  }
}

function statusData(remaining: number): { readonly status: PythonValue } {
  return { status: { exec_info: { queue_remaining: BigInt(remaining) } } };
}

function refuse(socket: Duplex, status: string): void {
  socket.end(`HTTP/1.1 ${status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n`, () => socket.destroy());
}
