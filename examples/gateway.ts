/**
 * A gateway as many have one, with its own logging, limits and proxy: one line makes it keep every picture.
 *
 *     A1111_URL=http://127.0.0.1:7860 npx tsx examples/gateway.ts
 */
import express from 'express';
import { createProxyMiddleware } from 'http-proxy-middleware';
// In a project of your own: from 'sd-job-tracker'
import { jobTracker } from '../lib/index.js';

const target = process.env.A1111_URL ?? 'http://127.0.0.1:7860';
const port = Number(process.env.PORT ?? 8080);

const app = express();

app.use((req, _res, next) => {
  console.log(req.method, req.url);
  next();
});

// The line: in front of what forwards. Mount cors, helmet and sessions before it, body parsers behind it.
const tracker = jobTracker();
app.use(tracker);

// Not with `ws: true`: it would pass WebSockets on by itself, whatever the tracker says of them.
const proxy = createProxyMiddleware({ target });
app.use(proxy);

const server = app.listen(port, '127.0.0.1', () => {
  console.log(`The gateway listens on http://127.0.0.1:${port}, in front of ${target}`);
});
server.on('upgrade', (req, socket, head) => {
  if (tracker.upgrade(req, socket, head)) proxy.upgrade(req, socket as import('node:net').Socket, head);
});
