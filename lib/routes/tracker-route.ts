import type { Request, RequestHandler, Response } from 'express';
import { JobTrackerError, messageOf } from '../errors.js';
import { EXPOSED_HEADERS, isCrossOrigin } from '../http/cross-origin.js';
import type { Logger } from '../logger.js';

export interface TrackerRouteOptions {
  readonly logger: Logger;
  /** Why jobs cannot be kept now; undefined where they can. */
  readonly failure: () => string | undefined;
}

type TrackerRoute = (req: Request, res: Response) => Promise<void>;

/**
 * What all routes of the tracker have in common: 503 with the reason while nothing can be kept, 400 for parameters that
 * make no sense, 403 for a change from another site, and 500, logged, for the rest.
 */
export function trackerRoute({
  logger,
  failure,
}: TrackerRouteOptions): (route: TrackerRoute) => RequestHandler {
  return (route) => (req, res) => {
    const reason = failure();
    if (reason !== undefined) {
      res.status(503).json({ error: reason });
      return;
    }
    if (req.method !== 'GET' && req.method !== 'HEAD' && isForeignChange(req, res)) {
      res.status(403).json({ error: 'Expected a change to come from this site, got one from another site' });
      return;
    }
    if (req.headers.origin !== undefined) {
      res.append('Access-Control-Expose-Headers', EXPOSED_HEADERS);
    }
    res.setHeader('X-Content-Type-Options', 'nosniff');
    route(req, res).catch((error: unknown) => {
      if (res.headersSent) {
        logger.error(`${req.method} ${req.path} broke off: ${messageOf(error)}`);
        res.destroy();
      } else if (error instanceof JobTrackerError && error.code === 'INVALID_PARAMETER') {
        res.status(400).json({ error: error.message });
      } else {
        logger.error(`${req.method} ${req.path} failed`, error);
        res.status(500).json({ error: 'The job tracker could not do this; its log says why' });
      }
    });
  };
}

/**
 * A browser sends stored credentials by itself, so what a page of another site asks for is not its user's wish. What the
 * browser says in `Sec-Fetch-Site` counts first: a reverse proxy in front may have changed the `Host` that `Origin` is
 * else compared with.
 */
function isForeignChange(req: Request, res: Response): boolean {
  const { origin } = req.headers;
  // The host's own CORS rules let this very origin in.
  if (origin !== undefined && res.getHeader('access-control-allow-origin') === origin) return false;
  const site = req.headers['sec-fetch-site'];
  return site === undefined ? isCrossOrigin(req) : site !== 'same-origin' && site !== 'none';
}
