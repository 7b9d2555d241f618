import express, { type Request, type Response, type Router } from 'express';
import { type PageFile, PageFiles } from './page-files.js';
import { type TrackerRouteOptions, trackerRoute } from './tracker-route.js';

/**
 * Nothing from elsewhere, nothing inline, no frame around it. Trusted Types on top: there is no way from a text to markup,
 * so that a prompt stays a text also where somebody makes a mistake.
 */
const CONTENT_SECURITY_POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self'",
  "media-src 'self'",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
  "trusted-types 'none'",
].join('; ');

const HTML = 'index.html';

/**
 * The Job Tracker page, `GET /job-tracker`, and its files beside it. All that it needs is named relative to it, so that it
 * works below any mount path, and behind a proxy that takes a part of the path away.
 *
 * It is also served while nothing can be kept: it says why.
 */
export function pageRoutes(options: Omit<TrackerRouteOptions, 'failure'>): Router {
  const route = trackerRoute({ ...options, failure: () => undefined });
  const files = new PageFiles();
  const router = express.Router();

  router.get(
    '/job-tracker',
    route('user', async (req, res) => {
      if (req.path.endsWith('/')) {
        // What is relative would be looked for one folder too deep.
        const query = req.originalUrl.indexOf('?');
        res.setHeader('Location', `../job-tracker${query < 0 ? '' : req.originalUrl.slice(query)}`);
        res.status(308).end();
        return;
      }
      res.setHeader('Content-Security-Policy', CONTENT_SECURITY_POLICY);
      res.setHeader('Cross-Origin-Opener-Policy', 'same-origin');
      res.setHeader('X-Frame-Options', 'DENY');
      const html = await files.get(HTML);
      if (!html) throw new Error(`Expected the page's ${HTML} in the package, got none`);
      sendFile(req, res, html);
    }),
  );

  const sendPart = route('user', async (req, res) => {
    sendFile(req, res, (await files.get(String(req.params.file))) as PageFile);
  });
  router.get('/job-tracker/:file', (req, res, next) => {
    const name = String(req.params.file);
    if (name === HTML) {
      next();
      return;
    }
    files.get(name).then((file) => (file ? sendPart(req, res, next) : next()), next);
  });

  return router;
}

/** Asked for anew each time, which costs a line while nothing has changed: an update of the package shows at once. */
function sendFile(req: Request, res: Response, { type, etag, content }: PageFile): void {
  res.setHeader('Cache-Control', 'private, no-cache');
  res.setHeader('ETag', etag);
  res.setHeader('Cross-Origin-Resource-Policy', 'same-origin');
  res.setHeader('Referrer-Policy', 'same-origin');
  if (req.fresh) {
    res.status(304).end();
    return;
  }
  res.setHeader('Content-Type', type);
  res.setHeader('Content-Length', content.length);
  if (req.method === 'HEAD') res.end();
  else res.end(content);
}
