/**
 * A gateway of its own in front of Automatic1111, set up by environment variables: `npm start`.
 *
 * | variable              | default                 |                                                                |
 * | --------------------- | ----------------------- | -------------------------------------------------------------- |
 * | `A1111_URL`           | `http://127.0.0.1:7860` | where Automatic1111 (or Forge, SD.Next) runs, with `--api`      |
 * | `HOST`, `PORT`        | `127.0.0.1`, `8080`     | where the gateway listens                                       |
 * | `TRACKER_DIR`         | `./job-tracker`         | holds jobs.json and the images                                  |
 * | `TRACKER_CONCURRENCY` | `1`                     | generations that the backend gets at a time                     |
 * | `TRACKER_TRUST_PROXY` | off                     | Express's `trust proxy`: `true`, a number of hops, or addresses |
 * | `TRACKER_HOSTS`       | none                    | further names under which browsers may call it, with commas     |
 * | `TRACKER_CORS`        | none                    | origins whose pages may call it, with commas; `*` for all       |
 * | `TRACKER_OPEN`        | off                     | `1`: listen beyond loopback although nobody has to log in       |
 */
import { createServer } from 'node:http';
import { pathToFileURL } from 'node:url';
import cors from 'cors';
import express from 'express';
// In a project of your own: from 'sd-job-tracker'
import { jobTracker } from '../lib/index.js';
import { hostGuard } from './standalone/host-guard.js';
import { readSettings } from './standalone/settings.js';

/** How long running generations may take to end once the gateway is asked to stop. */
const DRAIN_MS = 30_000;

export interface Standalone {
  /** Where it listens, `http://127.0.0.1:8080`. */
  readonly url: string;
  /** Stops accepting, lets what runs end within 30 s, and frees the folder. */
  stop(): Promise<void>;
}

/**
 * Starts the gateway; resolves once it listens.
 *
 * @throws an Error whose message says what to change, for people to read.
 */
export async function startStandalone(env: NodeJS.ProcessEnv): Promise<Standalone> {
  const settings = readSettings(env);
  const tracker = jobTracker({
    a1111: settings.a1111Url,
    ...(settings.dir !== undefined && { dir: settings.dir }),
    ...(settings.concurrency !== undefined && { concurrency: settings.concurrency }),
  });
  await tracker.ready;

  const app = express();
  app.disable('x-powered-by');
  app.set('trust proxy', settings.trustProxy);
  const guard = hostGuard([settings.host, ...settings.hosts]);
  app.use(guard.middleware);
  if (settings.corsOrigins) {
    app.use(
      cors({
        origin: settings.corsOrigins,
        exposedHeaders: ['X-Job-ID', 'Location', 'Link', 'Retry-After', 'X-Total-Count'],
        credentials: settings.corsOrigins !== '*',
      }),
    );
  }
  app.use(tracker);

  const server = createServer(app);
  server.on('upgrade', (req, socket, head) => {
    if (guard.admits(req)) tracker.upgrade(req, socket, head);
    else socket.end('HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\n');
  });
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(settings.port, settings.host, resolve);
    });
  } catch (error) {
    await tracker.close();
    throw new Error(explainListenError(error as NodeJS.ErrnoException, settings.host, settings.port));
  }
  const address = server.address();
  const port = typeof address === 'object' && address ? address.port : settings.port;
  return {
    url: `http://${settings.host.includes(':') ? `[${settings.host}]` : settings.host}:${port}`,
    async stop() {
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeIdleConnections();
      const late = setTimeout(() => server.closeAllConnections(), DRAIN_MS);
      await closed;
      clearTimeout(late);
      await Promise.race([tracker.close(), new Promise((resolve) => setTimeout(resolve, DRAIN_MS).unref())]);
    },
  };
}

function explainListenError(error: NodeJS.ErrnoException, host: string, port: number): string {
  if (error.code === 'EADDRINUSE') {
    return `Port ${port} on ${host} is taken: stop what listens there, or choose another with PORT=${port + 1}`;
  }
  if (error.code === 'EACCES')
    return `Port ${port} needs rights that this user does not have: choose one above 1023`;
  return `Cannot listen on ${host}:${port}: ${error.message}`;
}

/** Ends the process gracefully at SIGTERM and SIGINT; at once at the second one. */
export function stopOnSignals(stop: () => Promise<void>): void {
  let stopping = false;
  const onSignal = () => {
    if (stopping) process.exit(1);
    stopping = true;
    console.log('Stopping: running generations may end first. Once more to stop at once.');
    stop().then(
      () => process.exit(0),
      (error) => {
        console.error(error);
        process.exit(1);
      },
    );
  };
  process.on('SIGTERM', onSignal);
  process.on('SIGINT', onSignal);
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  try {
    const gateway = await startStandalone(process.env);
    console.log(
      `sd-job-tracker listens on ${gateway.url}, in front of ${readSettings(process.env).a1111Url}`,
    );
    stopOnSignals(() => gateway.stop());
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    process.exit(1);
  }
}
