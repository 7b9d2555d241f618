/** What `write` and `end` take besides the chunk. */
export type WriteCallback = (error?: Error | null) => void;
export type WriteArguments = [
  chunk?: unknown,
  encoding?: BufferEncoding | WriteCallback,
  callback?: WriteCallback,
];

/** The arguments of `ServerResponse.write` and `end`, in whichever of their forms they came. */
export function splitWriteArguments(args: WriteArguments): {
  readonly chunk: unknown;
  readonly encoding: BufferEncoding | undefined;
  readonly callback: WriteCallback | undefined;
} {
  const callback = args.find((arg): arg is WriteCallback => typeof arg === 'function');
  const [chunk, encoding] = args.filter((arg) => typeof arg !== 'function') as [unknown?, BufferEncoding?];
  return { chunk, encoding, callback };
}

/** True for a status whose answer may have a body (RFC 9110, section 6.4.1). */
export function hasBody(status: number): boolean {
  return status >= 200 && status !== 204 && status !== 304;
}

/** The bytes of a chunk; undefined for what is none. */
export function toBytes(chunk: unknown, encoding: BufferEncoding | undefined): Buffer | undefined {
  if (Buffer.isBuffer(chunk)) return chunk;
  if (typeof chunk === 'string') return Buffer.from(chunk, encoding ?? 'utf8');
  if (chunk instanceof Uint8Array) return Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
  return undefined;
}

/** The headers given to `writeHead`: an object, a flat list `[name, value, name, value]`, or a list of pairs. */
export function headerPairs(headers: unknown): [string, string | string[]][] {
  if (Array.isArray(headers)) {
    if (Array.isArray(headers[0])) return headers as [string, string][];
    const merged = new Map<string, [string, string[]]>();
    for (let i = 0; i + 1 < headers.length; i += 2) {
      const name = String(headers[i]);
      const entry = merged.get(name.toLowerCase()) ?? [name, []];
      entry[1].push(String(headers[i + 1]));
      merged.set(name.toLowerCase(), entry);
    }
    return [...merged.values()].map(([name, values]) => [
      name,
      values.length === 1 ? (values[0] as string) : values,
    ]);
  }
  return headers && typeof headers === 'object' ? (Object.entries(headers) as [string, string][]) : [];
}
