import http from 'node:http';
import { pipeline, Readable } from 'node:stream';
import express, { type Express, type RequestHandler } from 'express';
import expressHttpProxy from 'express-http-proxy';
import httpProxy from 'http-proxy';
import { createProxyMiddleware, fixRequestBody } from 'http-proxy-middleware';

/** Something that people put behind the tracker to forward. */
export interface HandlerCase {
  readonly name: string;
  /** The handler parses the answer and writes it anew: the same JSON, other bytes. */
  readonly rewrites?: boolean;
  /** What the host mounts in front of the tracker. */
  readonly front?: (app: Express) => void;
  readonly behind: (app: Express, target: string) => void;
}

const forwardedHeaders = (req: express.Request) => {
  const { host: _, connection: __, ...headers } = req.headers;
  return headers as Record<string, string>;
};

const pipeHandler =
  (target: string): RequestHandler =>
  (req, res, next) => {
    const upstream = http.request(target + req.url, {
      method: req.method,
      headers: forwardedHeaders(req),
      agent: false,
    });
    upstream.once('response', (answer) => {
      res.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(res);
    });
    upstream.once('error', next);
    req.pipe(upstream);
  };

export const handlerCases: readonly HandlerCase[] = [
  {
    name: 'http-proxy-middleware',
    behind: (app, target) => app.use(createProxyMiddleware({ target })),
  },
  {
    name: 'http-proxy-middleware with express.json() in front and fixRequestBody',
    front: (app) => app.use(express.json()),
    behind: (app, target) => app.use(createProxyMiddleware({ target, on: { proxyReq: fixRequestBody } })),
  },
  {
    name: 'express-http-proxy',
    behind: (app, target) => app.use(expressHttpProxy(target, { limit: '50mb' })),
  },
  {
    name: 'http-proxy',
    behind: (app, target) => {
      const proxy = httpProxy.createProxyServer({ target });
      app.use((req, res, next) => proxy.web(req, res, {}, next));
    },
  },
  {
    name: 'fetch and res.json, with express.json() behind the tracker',
    rewrites: true,
    behind: (app, target) => {
      app.use(express.json());
      app.use(async (req, res) => {
        const answer = await fetch(target + req.url, {
          method: req.method,
          ...(req.method === 'POST' && {
            headers: { 'Content-Type': 'application/json' },
            body: JSON.stringify(req.body),
          }),
        });
        res.status(answer.status).json(await answer.json());
      });
    },
  },
  {
    name: 'fetch with the request as its body, and a pipeline from its stream',
    behind: (app, target) => {
      app.use(async (req, res) => {
        const { 'content-length': _, 'transfer-encoding': __, ...headers } = forwardedHeaders(req);
        const answer = await fetch(target + req.url, {
          method: req.method,
          headers,
          ...(req.method === 'POST' && { body: Readable.toWeb(req) as ReadableStream, duplex: 'half' }),
        } as RequestInit);
        res.status(answer.status);
        res.type(answer.headers.get('content-type') ?? 'application/octet-stream');
        if (answer.body) pipeline(Readable.fromWeb(answer.body as never), res, () => {});
        else res.end();
      });
    },
  },
  {
    name: 'http.request and pipe',
    behind: (app, target) => app.use(pipeHandler(target)),
  },
];
