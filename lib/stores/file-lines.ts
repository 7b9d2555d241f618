import { createReadStream } from 'node:fs';

const NEWLINE = 0x0a;

export interface LineListener {
  /**
   * One line, without its newline; `terminated` is false for a last one that has none. The bytes are the listener's only
   * until it returns. Returning false ends the reading.
   */
  onLine(line: Buffer, terminated: boolean): boolean;
  /** Every byte of the file in order, newlines as well, before the lines in it. */
  onBytes?(bytes: Buffer): void;
}

/** Reads a file line by line, in little memory. Rejects with the system's error. */
export async function readLines(path: string, listener: LineListener, endBytes?: number): Promise<void> {
  if (endBytes === 0) return;
  const stream = createReadStream(path, {
    highWaterMark: 256 * 1024,
    ...(endBytes === undefined ? {} : { end: endBytes - 1 }),
  });
  // A line that spans chunks is collected and joined once: joining at each chunk is quadratic for a very long one.
  let parts: Buffer[] = [];
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    listener.onBytes?.(chunk);
    let start = 0;
    for (let end = chunk.indexOf(NEWLINE); end !== -1; end = chunk.indexOf(NEWLINE, start)) {
      const piece = chunk.subarray(start, end);
      const line = parts.length === 0 ? piece : Buffer.concat([...parts, piece]);
      parts = [];
      start = end + 1;
      if (!listener.onLine(line, true)) return;
    }
    if (start < chunk.length) parts.push(chunk.subarray(start));
  }
  if (parts.length > 0) listener.onLine(Buffer.concat(parts), false);
}
