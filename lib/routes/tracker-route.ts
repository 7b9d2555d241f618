import type { Request, RequestHandler, Response } from 'express';
import { type Identity, isRefusal, type Refusal } from '../auth/identity.js';
import { JobTrackerError, messageOf } from '../errors.js';
import { EXPOSED_HEADERS, isForeignChange } from '../http/cross-origin.js';
import { answerError } from '../http/error-answer.js';
import type { Logger } from '../logger.js';

export interface TrackerRouteOptions {
  readonly logger: Logger;
  /** Why jobs cannot be kept now; undefined where they can. */
  readonly failure: () => string | undefined;
  readonly identify: (req: Request) => Identity | Refusal | Promise<Identity | Refusal>;
}

/** Who may use a route: everybody who has logged in, or admins only. */
export type Access = 'user' | 'admin';

/** @param identity who asks; nobody only where nobody has to log in. */
type TrackerRoute = (req: Request, res: Response, identity: Identity) => Promise<void>;

export type MakeTrackerRoute = (access: Access, route: TrackerRoute) => RequestHandler;

/**
 * What all routes of the tracker have in common: 401 or 403 for who may not use it, 503 with the reason while nothing can
 * be kept, 403 for a change from another site, 400 for parameters that make no sense, and 500, logged, for the rest.
 */
export function trackerRoute({ logger, failure, identify }: TrackerRouteOptions): MakeTrackerRoute {
  return (access, route) => (req, res) => {
    const run = async () => {
      if (req.headers.origin !== undefined) {
        res.append('Access-Control-Expose-Headers', EXPOSED_HEADERS);
      }
      res.setHeader('X-Content-Type-Options', 'nosniff');
      const who = await identify(req);
      const refusal = isRefusal(who) ? who : refusalOf(who, access);
      if (refusal) {
        answerError(res, refusal.status, refusal.error, { 'Cache-Control': 'no-store', ...refusal.headers });
        return;
      }
      const reason = failure();
      if (reason !== undefined) {
        answerError(res, 503, reason);
        return;
      }
      if (isForeignChange(req, res)) {
        answerError(res, 403, 'Expected a change to come from this site, got one from another site');
        return;
      }
      await route(req, res, who as Identity);
    };
    run().catch((error: unknown) => {
      if (res.headersSent) {
        logger.error(`${req.method} ${req.path} broke off: ${messageOf(error)}`);
        res.destroy();
      } else if (error instanceof JobTrackerError && STATUS_OF[error.code] !== undefined) {
        answerError(res, STATUS_OF[error.code] as number, error.message);
      } else {
        logger.error(`${req.method} ${req.path} failed`, error);
        answerError(res, 500, 'The job tracker could not do this; its log says why');
      }
    });
  };
}

/** What an error is to the caller; any other is a fault of ours, or of the disk, that the log tells about. */
const STATUS_OF: Readonly<Partial<Record<string, number>>> = {
  INVALID_PARAMETER: 400,
  FIXED_BY_ENVIRONMENT: 409,
  NOT_CANCELLABLE: 409,
  NOT_RETRYABLE: 409,
  NOT_STORED: 503,
  CLOSED: 503,
};

function refusalOf({ name, isAdmin }: Identity, access: Access): Refusal | undefined {
  if (isAdmin || (access === 'user' && name !== undefined)) return undefined;
  const error =
    name === undefined
      ? 'Expected somebody who has logged in, got nobody'
      : `Expected an admin, got ${JSON.stringify(name)}`;
  return { status: 403, headers: {}, error };
}
