import { once } from 'node:events';
import { readdirSync, readlinkSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import express from 'express';
import { createProxyMiddleware } from 'http-proxy-middleware';
import { jobTracker } from '../../lib/index.js';
import { pendingTimeouts } from './pending-timeouts.js';

/** What a process holds. */
export interface Holdings {
  /** Open files and sockets, by what they are. */
  readonly descriptors: Readonly<Record<string, number>>;
  /** What keeps the process alive. */
  readonly resources: readonly string[];
  /** Timers that are neither over nor cleared. */
  readonly timeouts: number;
  readonly heapBytes: number;
  readonly bufferBytes: number;
}

/*
 * A gateway that tells its parent what it holds, and ends when it is told to: by letting go of everything, and not by
 * process.exit. Arguments: the mode, `forward` or `wrap`; the backend's address; the tracker's folder.
 */
const [mode = '', target = '', dir = ''] = process.argv.slice(2);
const timeouts = pendingTimeouts();
const app = express();
app.set('trust proxy', true);
const tracker = jobTracker({ dir, concurrency: 64, ...(mode === 'forward' && { a1111: target }) });
app.use(tracker);
if (mode === 'wrap') app.use(createProxyMiddleware({ target }));
await tracker.ready;
const server = createServer(app);
server.listen(0, '127.0.0.1');
await once(server, 'listening');
const { port } = server.address() as AddressInfo;
process.stdout.write(`listens on http://127.0.0.1:${port},\n`);

process.on('message', async (wish: 'measure' | 'close') => {
  if (wish === 'measure') {
    process.send?.(holdings());
    return;
  }
  await Promise.all([new Promise((resolve) => server.close(resolve)), tracker.close()]);
  process.disconnect();
});

function holdings(): Holdings {
  // What the first run lets go of may hold what the second one finds.
  for (let turn = 0; turn < 3; turn += 1) globalThis.gc?.();
  const descriptors: Record<string, number> = {};
  for (const descriptor of readdirSync('/proc/self/fd')) {
    const kind = kindOf(descriptor);
    if (kind !== undefined) descriptors[kind] = (descriptors[kind] ?? 0) + 1;
  }
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return {
    descriptors,
    resources: process.getActiveResourcesInfo().sort(),
    timeouts: timeouts.count,
    heapBytes: heapUsed,
    bufferBytes: arrayBuffers,
  };
}

function kindOf(descriptor: string): string | undefined {
  try {
    return readlinkSync(`/proc/self/fd/${descriptor}`).replace(/:\[\d+\]$/, '');
  } catch {
    // It was the list's own.
    return undefined;
  }
}
