import { type ParsedRequest, parsedBody } from './parsed-body.js';

/**
 * The body of a request in memory, whether or not the host has parsed it. Undefined where it is larger than `maxBytes`: the
 * rest of it is read and thrown away. Rejects where it breaks off, or its bytes cannot be had any more.
 */
export async function wholeBody(req: ParsedRequest, maxBytes: number): Promise<Buffer | undefined> {
  const parsed = parsedBody(req);
  if (parsed instanceof Error) throw parsed;
  if (parsed) return parsed.bytes;
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  for await (const chunk of req as AsyncIterable<Buffer>) {
    sizeBytes += chunk.length;
    if (sizeBytes <= maxBytes) chunks.push(chunk);
    else chunks.length = 0;
  }
  return sizeBytes <= maxBytes ? Buffer.concat(chunks) : undefined;
}
