import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import express, { type Express } from 'express';
import {
  type Job,
  type JobTracker,
  type JobTrackerOptions,
  jobTracker,
  type Logger,
} from '../../lib/index.js';

export interface Gateway {
  readonly url: string;
  readonly port: number;
  readonly tracker: JobTracker;
  readonly server: Server;
  /** What the tracker has said, a line each. */
  readonly log: string[];
  /** Resolves with the next job that ends, or with this one. */
  ended(id?: string): Promise<Job>;
  close(): Promise<void>;
}

export interface GatewayOptions extends JobTrackerOptions {
  /** Mounted in front of the tracker. */
  readonly front?: ((app: Express) => void) | undefined;
  /** Mounted behind it. */
  readonly behind?: ((app: Express) => void) | undefined;
  /** The tracker's mount path, `/` by default. */
  readonly mount?: string;
}

export function collectingLogger(log: string[]): Logger {
  const line = (...parts: unknown[]) => void log.push(parts.map(String).join(' '));
  return { info: line, warn: line, error: line };
}

/** An Express app with the tracker in it, on a free port. */
export async function startGateway({
  front,
  behind,
  mount = '/',
  ...options
}: GatewayOptions): Promise<Gateway> {
  const log: string[] = [];
  const tracker = jobTracker({ logger: collectingLogger(log), ...options });
  const app = express();
  front?.(app);
  app.use(mount, tracker);
  behind?.(app);
  await tracker.ready;
  const server = createServer(app);
  server.on('upgrade', (req, socket, head) => tracker.upgrade(req, socket, head));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    port,
    tracker,
    server,
    log,
    async ended(id) {
      for (;;) {
        const known = id === undefined ? undefined : await tracker.jobs.get(id);
        if (known?.finished_at !== undefined) return known;
        const job = await new Promise<Job>((resolve) => {
          tracker.events.once('completed', resolve);
          tracker.events.once('failed', resolve);
        });
        if (id === undefined || job.id === id) return job;
      }
    },
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      await tracker.close();
    },
  };
}
