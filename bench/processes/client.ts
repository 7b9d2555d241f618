import { createHash } from 'node:crypto';
import { Pool } from 'undici';
import { serveParent } from '../harness/remote.js';
import { quantile } from '../harness/statistics.js';
import { sayReady } from './listen.js';

/** A closed loop: so many connections, each with one request at a time, until all have been answered. */
export interface Load {
  /** Where to; without the path. */
  readonly url: string;
  readonly path: string;
  /** `POST` sends a generation request, each with another seed. */
  readonly method: 'GET' | 'POST';
  readonly connections: number;
  readonly requests: number;
  /** SHA-256 of every answer's body, in hexadecimal. That takes time: for rounds that do not count. */
  readonly hash?: string;
  /** Every answer must have so many bytes. */
  readonly sizeBytes?: number;
}

export interface LoadResult {
  readonly seconds: number;
  readonly bytes: number;
  /** Milliseconds until the last byte. */
  readonly p50Ms: number;
  readonly p99Ms: number;
}

let seed = 0;

serveParent({
  async run(load: Load): Promise<LoadResult> {
    const pool = new Pool(load.url, {
      connections: load.connections,
      pipelining: 1,
      headersTimeout: 0,
      bodyTimeout: 0,
    });
    const timesMs: number[] = [];
    let bytes = 0;
    let left = load.requests;
    const began = performance.now();
    await Promise.all(
      Array.from({ length: load.connections }, async () => {
        while (left > 0) {
          left -= 1;
          const sent = performance.now();
          const received = await ask(pool, load);
          bytes += received;
          timesMs.push(performance.now() - sent);
        }
      }),
    );
    const seconds = (performance.now() - began) / 1000;
    if (load.sizeBytes !== undefined && bytes !== load.sizeBytes * load.requests) {
      throw new Error(`Expected ${load.sizeBytes * load.requests} bytes together, got ${bytes}`);
    }
    await pool.close();
    return { seconds, bytes, p50Ms: quantile(timesMs, 0.5), p99Ms: quantile(timesMs, 0.99) };
  },
});

/** Resolves to the size of the answer's body. */
function ask(pool: Pool, { path, method, hash, sizeBytes }: Load): Promise<number> {
  seed += 1;
  const body = method === 'POST' ? JSON.stringify({ prompt: 'a quiet bay at dusk', steps: 20, seed }) : null;
  return new Promise((resolve, reject) => {
    let bytes = 0;
    const found = hash === undefined ? undefined : createHash('sha256');
    pool.dispatch(
      { path, method, body, headers: { 'content-type': 'application/json' } },
      {
        onConnect: () => {},
        onError: reject,
        onHeaders(status) {
          if (status !== 200) reject(new Error(`Expected ${path} to be answered with 200, got ${status}`));
          return true;
        },
        onData(chunk) {
          bytes += chunk.length;
          found?.update(chunk);
          return true;
        },
        onComplete() {
          const isWhole = sizeBytes === undefined || bytes === sizeBytes;
          if (!isWhole) reject(new Error(`Expected ${sizeBytes} bytes, got ${bytes}`));
          else if (found && found.digest('hex') !== hash)
            reject(new Error('The answer is not what was sent'));
          else resolve(bytes);
        },
      },
    );
  });
}

sayReady();
