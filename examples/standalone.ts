/**
 * A gateway of its own in front of Automatic1111, ComfyUI or both, set up by environment variables: `npm start`.
 *
 * | variable              | default                 |                                                                |
 * | --------------------- | ----------------------- | -------------------------------------------------------------- |
 * | `A1111_URL`           | `http://127.0.0.1:7860` | where Automatic1111 (or Forge, SD.Next) runs, with `--api`      |
 * | `COMFYUI_URL`         | none                    | where ComfyUI runs; alone, there is no Automatic1111            |
 * | `HOST`, `PORT`        | `127.0.0.1`, `8080`     | where the gateway listens; port 0 for any that is free          |
 * | `TRACKER_DIR`         | `./job-tracker`         | holds jobs.json and the images                                  |
 * | `TRACKER_AUTH`        | none                    | who may come in: `name:password,name2:password2`, or `backend`  |
 * | `TRACKER_ADMINS`      | the one, if it is one   | who sees everyone's jobs, changes settings and purges           |
 * | `TRACKER_ENABLED`     | `true`                  | whether generations are tracked                                 |
 * | `TRACKER_RETENTION`   | `0`, for ever           | for how many days jobs are kept                                 |
 * | `TRACKER_CONCURRENCY` | `1`                     | generations that Automatic1111 gets at a time                   |
 * | `TRACKER_TRUST_PROXY` | off                     | Express's `trust proxy`: `true`, a number of hops, or addresses |
 * | `TRACKER_HOSTS`       | none                    | further names under which browsers may call it, with commas     |
 * | `TRACKER_CORS`        | none                    | origins whose pages may call it, with commas; `*` for all       |
 * | `TRACKER_OPEN`        | off                     | `1`: listen beyond loopback although nobody has to log in       |
 */
import { realpathSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { pathToFileURL } from 'node:url';
import cors from 'cors';
import express, { type Express } from 'express';
// In a project of your own: from 'sd-job-tracker'
import { type JobTracker, jobTracker, type Logger } from '../lib/index.js';
import { drainable } from './standalone/drain.js';
import { type HostGuard, hostGuard } from './standalone/host-guard.js';
import { readSettings, type Settings } from './standalone/settings.js';

/** How long running generations may take to end once the gateway is asked to stop. */
const DRAIN_MS = 30_000;
/** After that, all that is left is to write down how they ended; a disk that does not let us is not waited for. */
const CLOSE_MS = 10_000;

export interface StandaloneOptions {
  /** Default: 30 s. */
  readonly drainMs?: number;
}

export interface Standalone {
  /** Where it listens, `http://127.0.0.1:8080`. */
  readonly url: string;
  /** The backends' addresses, without passwords: `http://127.0.0.1:7860`, with ` and ` between two. */
  readonly backendUrl: string;
  /**
   * Stops accepting, lets what runs end within 30 s, breaks off the rest, and frees the folder. Rejects where records could
   * not be made durable. May be called twice.
   */
  stop(): Promise<void>;
}

/**
 * Starts the gateway; resolves once it listens.
 *
 * @throws an Error whose message says what to change, for people to read.
 */
export async function startStandalone(
  env: NodeJS.ProcessEnv,
  { drainMs = DRAIN_MS }: StandaloneOptions = {},
): Promise<Standalone> {
  const settings = readSettings(env);
  const tracker = await openTracker(settings, env);
  // Who has to log in cannot be lured by a page: a browser keeps its logins by the name that it was given.
  const refusal = settings.hasLogin
    ? () => undefined
    : hostGuard([settings.host, ...settings.hosts], settings.corsOrigins);
  const server = createServer(createApp(settings, refusal, tracker));
  server.on('upgrade', (req, socket, head) => {
    const error = refusal(req);
    if (error === undefined) {
      tracker.upgrade(req, socket, head);
      return;
    }
    socket.on('error', () => socket.destroy());
    const body = JSON.stringify({ error });
    const lines = ['HTTP/1.1 403 Forbidden', 'Content-Type: application/json', 'Connection: close'];
    socket.end(`${lines.join('\r\n')}\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`);
  });
  const drain = drainable(server);
  try {
    await listen(server, settings);
  } catch (error) {
    await tracker.close();
    throw new Error(explainListenError(error as NodeJS.ErrnoException, settings));
  }
  const stop = async () => {
    const began = performance.now();
    const drained = drain.begin();
    await within(drainMs, drained);
    // Generations whose clients have left may still run; others are broken off with their records in order.
    const leftMs = Math.max(1, Math.round(began + drainMs - performance.now()));
    const closing = tracker.close({ within: `${leftMs}ms` });
    try {
      if (!(await within(leftMs + CLOSE_MS, closing)))
        throw new Error(
          `Jobs could not be ended within ${CLOSE_MS / 1000} s: their records may be incomplete`,
        );
    } finally {
      drain.breakOff();
      await drained;
    }
  };
  let stopping: Promise<void> | undefined;
  return {
    url: urlOf(server, settings),
    backendUrl: [settings.a1111Url, settings.comfyuiUrl]
      .flatMap((one) => (one ? addressOf(one) : []))
      .join(' and '),
    stop() {
      stopping ??= stop();
      return stopping;
    },
  };
}

/** Resolves to whether the promise has resolved within this time. */
async function within(timeMs: number, promise: Promise<void>): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<boolean>((resolve) => {
    timer = setTimeout(resolve, timeMs, false);
  });
  try {
    return await Promise.race([promise.then(() => true), late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Rejects where the folder cannot be had: a gateway that keeps nothing is of no use. */
async function openTracker(settings: Settings, env: NodeJS.ProcessEnv): Promise<JobTracker> {
  const { a1111Url, comfyuiUrl, dir } = settings;
  const heldBack: string[] = [];
  let isOpen = false;
  const say = (how: 'warn' | 'error', parts: unknown[]) => console[how]('[sd-job-tracker]', ...parts);
  const logger: Logger = {
    info: () => {},
    warn: (...parts) => say('warn', parts),
    // Why it does not open is told once, by whoever catches that.
    error: (...parts) => (isOpen ? say('error', parts) : heldBack.push(parts.join(' '))),
  };
  const tracker = jobTracker({
    logger,
    env,
    ...(a1111Url && { a1111: a1111Url }),
    ...(comfyuiUrl && { comfyui: comfyuiUrl }),
    ...(dir !== undefined && { dir }),
  });
  try {
    await tracker.ready;
  } catch (error) {
    await tracker.close();
    throw error;
  } finally {
    isOpen = true;
  }
  for (const line of heldBack) logger.error(line);
  return tracker;
}

function createApp(settings: Settings, refusal: HostGuard, tracker: JobTracker): Express {
  const app = express();
  app.disable('x-powered-by');
  app.set('trust proxy', settings.trustProxy);
  app.use((req, res, next) => {
    const error = refusal(req);
    if (error === undefined) next();
    else res.status(403).json({ error });
  });
  if (settings.corsOrigins) {
    app.use(cors({ origin: settings.corsOrigins, credentials: settings.corsOrigins !== '*' }));
  }
  app.use(tracker);
  return app;
}

function listen(server: Server, { host, port }: Settings): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, () => {
      server.off('error', reject);
      resolve();
    });
  });
}

function addressOf({ origin, pathname }: URL): string {
  return origin + pathname.replace(/\/$/, '');
}

function urlOf(server: Server, { host }: Settings): string {
  const { port } = server.address() as { port: number };
  return `http://${host.includes(':') ? `[${host}]` : host}:${port}`;
}

function explainListenError({ code, message }: NodeJS.ErrnoException, { host, port }: Settings): string {
  if (code === 'EADDRINUSE') {
    return `Port ${port} on ${host} is taken: stop what listens there, or choose another with PORT=${port + 1}`;
  }
  if (code === 'EACCES')
    return `Port ${port} needs rights that this user does not have: choose one above 1023`;
  if (code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND') {
    return `Expected HOST to be an address of this machine, got "${host}" (${code})`;
  }
  return `Cannot listen on ${host}:${port}: ${message}`;
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

const program = process.argv[1];
if (program !== undefined && pathToFileURL(realpathSync(program)).href === import.meta.url) {
  try {
    const { url, backendUrl, stop } = await startStandalone(process.env);
    stopOnSignals(stop);
    console.log(`sd-job-tracker listens on ${url}, in front of ${backendUrl}`);
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    process.exit(1);
  }
}
