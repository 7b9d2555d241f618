import type { DemoRequest } from '../demo-shared/demo-request.js';
import { noSuchFile, type Reply, textReply } from './reply.js';

export interface Call {
  readonly request: DemoRequest;
  readonly query: URLSearchParams;
  /** What stands in the path for its `{name}`, decoded; empty where the route has none. */
  readonly name: string;
}

export type Handler = (call: Call) => Reply | Promise<Reply>;

export interface Route {
  readonly method: 'GET' | 'POST' | 'PATCH';
  /** With at most one `{name}`, which stands for one segment. */
  readonly path: string;
  readonly handle: Handler;
}

export function get(path: string, handle: Handler): Route {
  return { method: 'GET', path, handle };
}

export function post(path: string, handle: Handler): Route {
  return { method: 'POST', path, handle };
}

/** The same routes below `/api`. */
export function belowApi(routes: readonly Route[]): Route[] {
  return routes.map((route) => ({ ...route, path: `/api${route.path}` }));
}

/** Answers a request as aiohttp's router does, where a folder of static files stands behind all routes. */
export async function dispatch(routes: readonly Route[], request: DemoRequest): Promise<Reply> {
  const [path = '/', query = ''] = splitUrl(request.url);
  const method = request.method === 'HEAD' ? 'GET' : request.method;
  const found = routes.flatMap((route) => {
    const name = matchPath(route.path, path);
    return name === undefined ? [] : [{ route, name }];
  });
  const match = found.find(({ route }) => route.method === method);
  if (match) return match.route.handle({ request, query: new URLSearchParams(query), name: match.name });
  if (method === 'GET') return noSuchFile();
  const allowed = new Set(['GET', 'HEAD', ...found.map(({ route }) => route.method)]);
  return textReply('405: Method Not Allowed', 405, { allow: [...allowed].sort().join(',') });
}

/** What stands for the pattern's `{name}`, or an empty string where it has none; undefined where the path differs. */
function matchPath(pattern: string, path: string): string | undefined {
  const [before = '', after] = pattern.split(/\{\w+\}/);
  if (after === undefined) return path === pattern ? '' : undefined;
  if (!path.startsWith(before) || !path.endsWith(after)) return undefined;
  const name = path.slice(before.length, path.length - after.length);
  return name === '' || name.includes('/') ? undefined : decode(name);
}

function splitUrl(url: string): string[] {
  const at = url.indexOf('?');
  return at < 0 ? [url] : [url.slice(0, at), url.slice(at + 1)];
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
