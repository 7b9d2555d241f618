import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';

/** A request as the demo got it, its body whole. */
export interface DemoRequest {
  readonly method: string;
  /** Path and query. */
  readonly url: string;
  readonly headers: IncomingHttpHeaders;
  /** Names and values by turns, as they came. */
  readonly rawHeaders: readonly string[];
  readonly body: Buffer;
  /** The port that the client had: the same for requests over one connection. */
  readonly remotePort: number | undefined;
}

/**
 * The request with its body; undefined where the client left before the end of it. Of a body of more than `maxBytes`
 * no more is kept than the piece that went over; the rest is read and dropped, so that the client can hear of it.
 */
export async function readRequest(
  req: IncomingMessage,
  maxBytes = Number.POSITIVE_INFINITY,
): Promise<DemoRequest | undefined> {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  const isWhole = await new Promise<boolean>((resolve) => {
    req.on('data', (chunk: Buffer) => {
      if (sizeBytes > maxBytes) return;
      chunks.push(chunk);
      sizeBytes += chunk.length;
      if (sizeBytes > maxBytes) resolve(true);
    });
    req.once('end', () => resolve(true));
    // a client that breaks off is no error of the server
    req.once('error', () => resolve(false));
    req.once('close', () => resolve(false));
  });
  return isWhole ? describeRequest(req, Buffer.concat(chunks)) : undefined;
}

export function describeRequest(req: IncomingMessage, body: Buffer = Buffer.alloc(0)): DemoRequest {
  const { method = 'GET', url = '/', headers, rawHeaders } = req;
  return { method, url, headers, rawHeaders, body, remotePort: req.socket.remotePort };
}
