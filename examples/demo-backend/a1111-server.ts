import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { type DemoRequest, describeRequest, readRequest } from '../demo-shared/demo-request.js';
import { listen } from '../demo-shared/listen.js';
import { checkBasicAuth } from './basic-auth-check.js';
import { type DemoGeneration, DemoState } from './demo-state.js';
import { echoUpgrades } from './echo-upgrades.js';
import { GenerationEndpoint } from './generation-endpoint.js';
import { errorReply, jsonReply, type Reply, sendReply } from './reply.js';
import { parseRequest } from './request-json.js';
import { apiRoutes, pageRoutes, type Route } from './routes.js';
import { SamplingState } from './sampling-state.js';
import { TaskList } from './task-list.js';

export interface DemoA1111Options {
  /** How long a generation takes, in milliseconds. Default: 4000. */
  readonly generationMs?: number;
  /** As A1111's `--api`: without it, everything below `/sdapi` is 404. Default: true. */
  readonly api?: boolean;
  /** As A1111's `--api-auth`: `user:pass,user2:pass2` for everything below `/sdapi`. Default: none. */
  readonly apiAuth?: string;
  /** Compress answers of 1000 bytes and more for clients that accept it, as A1111 does. Default: true. */
  readonly gzip?: boolean;
  /** How many requests and generations `state` keeps. Default: 1000. */
  readonly historySize?: number;
}

export interface DemoA1111 {
  readonly server: Server;
  readonly state: DemoState;
  /**
   * Listens, by default on a free port of 127.0.0.1. Resolves to the address as `http://127.0.0.1:7860`; rejects
   * with the system's error.
   */
  listen(port?: number, host?: string): Promise<string>;
  /** Ends everything at once: connections, generations, waiting ones too. May be called twice. */
  close(): Promise<void>;
}

/** A demo Automatic1111 1.10, with `--api`, that draws landscapes and needs no graphics card. */
export function createDemoA1111(options: DemoA1111Options = {}): DemoA1111 {
  const { generationMs = 4000, api = true, apiAuth, gzip = true, historySize = 1000 } = options;
  const state = new DemoState(historySize);
  const sampling = new SamplingState();
  const tasks = new TaskList();
  const endpoint = new GenerationEndpoint({ state, sampling, tasks, generationMs });
  const parts = { sampling, tasks, endpoint };
  const protectedRoutes = api ? apiRoutes(parts) : [];
  const routes = [...protectedRoutes, ...pageRoutes(parts)];

  async function answer(request: DemoRequest): Promise<[Reply, DemoGeneration | undefined]> {
    state.addRequest(request);
    const route = findRoute(routes, request);
    if (!('handle' in route)) return [route, undefined];
    const generation = route.generates ? state.addGeneration(request) : undefined;
    try {
      const json = route.takesBody ? parseRequest(request) : undefined;
      const isProtected = apiAuth !== undefined && protectedRoutes.includes(route);
      if (isProtected) checkBasicAuth(request.headers.authorization, apiAuth);
      return [await route.handle({ request, json, generation }), generation];
    } catch (error) {
      return [errorReply(error), generation];
    }
  }

  async function serve(req: IncomingMessage, res: ServerResponse): Promise<void> {
    const startedMs = api ? performance.now() : undefined;
    const request = await readRequest(req);
    if (!request) return;
    const [reply, generation] = await answer(request);
    if (generation) {
      generation.status = reply.status;
      generation.answer = reply.body;
    }
    const wasDelivered = await sendReply(req, res, reply, { allowsGzip: gzip, startedMs });
    if (generation) {
      generation.wasDelivered = wasDelivered;
      state.emit('answered', generation);
    }
  }

  const serving = new Set<Promise<void>>();
  const server = createServer((req, res) => {
    const served = serve(req, res).catch((error: unknown) => {
      console.error('The demo backend could not answer:', error);
      res.destroy();
    });
    serving.add(served);
    void served.then(() => serving.delete(served));
  });
  server.requestTimeout = 0; // a large body may take its time
  server.keepAliveTimeout = 30_000;
  const sockets = echoUpgrades(server, '/queue/join', (req) => state.addRequest(describeRequest(req)));

  return {
    server,
    state,
    listen: (port = 0, host = '127.0.0.1') => listen(server, port, host),
    async close() {
      sampling.close();
      sockets.close();
      const closed = new Promise<void>((resolve) => {
        // the error says that it was not listening, which is what is wanted
        server.close(() => resolve());
      });
      server.closeAllConnections();
      await closed;
      await Promise.all(serving);
    },
  };
}

/** Starlette reads a path decoded. */
function decoded(path: string): string {
  try {
    return decodeURIComponent(path);
  } catch {
    return path;
  }
}

/** The route of a request, or the answer of Starlette's router where there is none. */
function findRoute(routes: readonly Route[], { method, url, headers }: DemoRequest): Route | Reply {
  const path = decoded(url.split('?', 1)[0] as string);
  const samePath = routes.filter((route) => route.path === path);
  const route = samePath.find(({ methods }) => methods.includes(method));
  if (route) return route;
  const [first] = samePath;
  if (first) {
    const reply = jsonReply({ detail: 'Method Not Allowed' }, 405);
    return { ...reply, headers: { ...reply.headers, allow: first.methods.join(', ') } };
  }
  const bare = path.replace(/\/+$/, '');
  if (bare !== path && routes.some((known) => known.path === bare)) {
    const location = `http://${headers.host ?? ''}${bare}${url.slice(path.length)}`;
    return { status: 307, headers: { location }, body: Buffer.alloc(0) };
  }
  return jsonReply({ detail: 'Not Found' }, 404);
}
