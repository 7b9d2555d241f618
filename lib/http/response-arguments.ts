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

/** What `setHeader` takes, and judges. */
type HeaderValue = number | string | readonly string[];

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

/**
 * The headers given to `writeHead`: an object, a flat list `[name, value, name, value]`, or a list of pairs. In a list a
 * name may occur more than once.
 */
export function headerPairs(headers: unknown): [string, HeaderValue][] {
  if (!headers || typeof headers !== 'object') return [];
  if (!Array.isArray(headers)) return Object.entries(headers);
  const merged = new Map<string, [string, HeaderValue]>();
  for (const [name, value] of Array.isArray(headers[0]) ? headers : pairsOf(headers)) {
    const key = String(name).toLowerCase();
    const earlier = merged.get(key);
    merged.set(key, earlier ? [earlier[0], [earlier[1], value].flat().map(String)] : [name, value]);
  }
  return [...merged.values()];
}

function pairsOf(flat: readonly unknown[]): unknown[][] {
  return flat.flatMap((name, i) => (i % 2 === 0 ? [[name, flat[i + 1]]] : []));
}
