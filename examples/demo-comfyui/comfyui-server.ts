import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type DemoRequest, readRequest } from '../demo-shared/demo-request.js';
import { listen } from '../demo-shared/listen.js';
import { ComfyFiles } from './comfy-files.js';
import { ComfyProcess } from './comfy-process.js';
import { DemoComfyUIState } from './demo-state.js';
import { features } from './info-routes.js';
import { isForeign } from './origin-guard.js';
import type { PreviewRule } from './prompt-events.js';
import type { PromptIdRule } from './prompt-route.js';
import type { InterruptRule } from './queue-routes.js';
import { emptyReply, type Reply, sendReply, serverError, tooLarge } from './reply.js';
import { UnexpectedInput } from './request-json.js';
import { dispatch } from './router.js';
import { allRoutes } from './routes.js';
import { SocketHub } from './socket-hub.js';

export interface DemoComfyUIOptions {
  /** How long a sampler takes, in milliseconds. Default: 4000. */
  readonly generationMs?: number;
  /**
   * Where the folders `output`, `input` and `temp` are. What is in the first two outlasts the demo. Default: a new
   * folder among the system's temporary files, which `close` removes.
   */
  readonly dir?: string;
  /** What becomes of a client's `prompt_id`. Default: `uuid`, as in the newest ComfyUI. */
  readonly promptIdRule?: PromptIdRule;
  /** Default: `by-id`, as in the newest ComfyUI. */
  readonly interruptRule?: InterruptRule;
  /** Send `X-Content-Type-Options: nosniff` with files, as the newest ComfyUI does. Default: false. */
  readonly nosniff?: boolean;
  /** A longer body is answered with 413. Default: 104857600, which is 100 MiB. */
  readonly maxBodyBytes?: number;
  /** How many prompts the history keeps; one more in fact, as in ComfyUI. Default: 10000. */
  readonly maxHistory?: number;
  /** Previews while it samples: as each socket asks for them, always with metadata, or none. Default: `as-asked`. */
  readonly previews?: PreviewRule;
  /** How many requests and executions `state` keeps. Default: 1000. */
  readonly historySize?: number;
}

export interface DemoComfyUI {
  readonly server: Server;
  readonly state: DemoComfyUIState;
  /** Where the folders `output`, `input` and `temp` are. */
  readonly dir: string;
  /**
   * Listens, by default on a free port of 127.0.0.1. Resolves to the address as `http://127.0.0.1:8188`; rejects with
   * the system's error.
   */
  listen(port?: number, host?: string): Promise<string>;
  /**
   * As if ComfyUI were killed and started again on the same port: all connections break, the queue, the history and
   * temporary files are lost. Whoever connects afterwards finds the new one.
   */
  restart(): void;
  /** Ends everything at once. May be called twice. */
  close(): Promise<void>;
}

/** A demo ComfyUI that draws landscapes and needs no graphics card. */
export function createDemoComfyUI(options: DemoComfyUIOptions = {}): DemoComfyUI {
  const { generationMs = 4000, promptIdRule = 'uuid', interruptRule = 'by-id', nosniff = false } = options;
  const { maxBodyBytes = 104_857_600, maxHistory = 10_000, previews = 'as-asked' } = options;
  const state = new DemoComfyUIState(options.historySize ?? 1000);
  const dir = options.dir ?? mkdtempSync(join(tmpdir(), 'demo-comfyui-'));
  const files = new ComfyFiles(dir);
  const hub = new SocketHub(state, features(maxBodyBytes));
  const working = new Set<Promise<void>>();
  let process = startProcess();
  const routes = allRoutes({
    current: () => process,
    files,
    state,
    promptIdRule,
    interruptRule,
    nosniff,
    maxBodyBytes,
  });

  function startProcess(): ComfyProcess {
    const started = new ComfyProcess({ files, hub, state, generationMs, maxHistory, previews, die: restart });
    const work = started
      .work()
      .catch((error: unknown) => console.error('The worker of the demo failed:', error))
      .then(() => void working.delete(work));
    working.add(work);
    return started;
  }

  function restart(): void {
    process.end();
    server.closeAllConnections();
    hub.terminateAll();
    files.clearTemp();
    process = startProcess();
  }

  async function answer(request: DemoRequest): Promise<Reply> {
    if (isForeign(request.headers)) return emptyReply(403);
    if (request.body.length > maxBodyBytes) return tooLarge(maxBodyBytes, request.body.length);
    try {
      return await dispatch(routes, request);
    } catch (error) {
      if (!(error instanceof UnexpectedInput)) console.error('The demo ComfyUI failed:', error);
      return serverError();
    }
  }

  async function serve(req: IncomingMessage, res: ServerResponse): Promise<void> {
    const request = await readRequest(req, maxBodyBytes);
    if (!request) return;
    state.addRequest(request);
    sendReply(res, await answer(request));
  }

  const server = createServer((req, res) => {
    serve(req, res).catch((error: unknown) => {
      console.error('The demo ComfyUI could not answer:', error);
      res.destroy();
    });
  });
  server.requestTimeout = 0; // a large body may take its time
  server.keepAliveTimeout = 30_000;
  hub.attach(server, (sid) => ({ remaining: process.queue.remaining, node: process.nodeOf(sid) }));

  return {
    server,
    state,
    dir: files.dir,
    listen: (port = 0, host = '127.0.0.1') => listen(server, port, host),
    restart,
    async close() {
      process.end();
      const closed = new Promise<void>((resolve) => {
        // the error says that it was not listening, which is what is wanted
        server.close(() => resolve());
      });
      server.closeAllConnections();
      hub.terminateAll();
      await closed;
      await Promise.all(working);
      if (options.dir === undefined) rmSync(dir, { recursive: true, force: true });
    },
  };
}
