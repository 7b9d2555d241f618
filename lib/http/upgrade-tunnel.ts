import type { ClientRequest, IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { refuseUpgrade } from './error-answer.js';
import { headerPairs, responseHeaders } from './forward-headers.js';
import { onBrokenAnswer } from './pass-on-answer.js';
import { resetSocket } from './reset-socket.js';
import { WebSocketTexts } from './websocket-texts.js';

/** No message that says how a job gets on is nearly as long. */
const MAX_TEXT_BYTES = 1024 * 1024;

export interface UpgradeTunnelOptions {
  /** The same request to the backend, not ended yet. */
  readonly upstream: ClientRequest;
  /** The client's connection. */
  readonly socket: Duplex;
  /** What the client has sent after its request. */
  readonly head: Buffer;
  /** Says for people why there is no answer. */
  readonly explain: (error: unknown) => string;
  /**
   * Gets the text messages that pass from the backend to the client, up to 1 MB each. It reads along and has no hand in
   * the stream, so there must be no extension that changes messages. What it throws ends the reading.
   */
  readonly onText?: ((text: string) => void) | undefined;
}

/**
 * Connects a client that asks for an upgrade with the backend: both ends to each other where the backend agrees, else
 * the client gets the refusal; 502 where there is no answer.
 */
export function tunnelUpgrade({ upstream, socket, head, explain, onText }: UpgradeTunnelOptions): void {
  let answered = false;
  let failure: unknown;
  // 'close' follows.
  socket.on('error', () => {});
  socket.once('close', () => upstream.destroy());
  upstream.once('upgrade', (answer, backendSocket, backendHead) => {
    answered = true;
    backendSocket.on('error', () => {});
    socket.write(headText(answer, headerPairs(answer.rawHeaders)), 'latin1');
    if (backendHead.length > 0) socket.write(backendHead);
    if (head.length > 0) backendSocket.write(head);
    join(backendSocket, socket);
    join(socket, backendSocket);
    if (onText) readAlong(backendSocket, backendHead, onText);
  });
  upstream.once('response', (answer) => {
    answered = true;
    socket.write(headText(answer, [...responseHeaders(answer), ['Connection', 'close']]), 'latin1');
    answer.pipe(socket);
    onBrokenAnswer(upstream, answer, () => resetSocket(socket as Socket));
  });
  upstream.on('error', (error) => {
    failure ??= error;
  });
  upstream.once('close', () => {
    if (answered || socket.destroyed) return;
    refuseUpgrade(socket, 502, explain(failure));
  });
}

/** What comes from one end goes to the other, and so does its end, after what came before. */
function join(from: Duplex, to: Duplex): void {
  from.pipe(to);
  from.once('close', () => {
    if (from.readableEnded) (to as Socket).destroySoon();
    else to.destroy();
  });
}

/** A stream that its pipe has paused is paused for everybody: the client still sets the pace. */
function readAlong(from: Duplex, head: Buffer, onText: (text: string) => void): void {
  const texts = new WebSocketTexts({ maxTextBytes: MAX_TEXT_BYTES, onText });
  const read = (chunk: Buffer) => {
    try {
      texts.write(chunk);
      if (!texts.isOver) return;
    } catch {
      // The reading is over; the client's stream is not to notice.
    }
    from.off('data', read);
  };
  from.on('data', read);
  read(head);
}

function headText(answer: IncomingMessage, headers: Iterable<readonly [string, string]>): string {
  const lines = [`HTTP/1.1 ${answer.statusCode} ${answer.statusMessage}`];
  for (const [name, value] of headers) lines.push(`${name}: ${value}`);
  return `${lines.join('\r\n')}\r\n\r\n`;
}
