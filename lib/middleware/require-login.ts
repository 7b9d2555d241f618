import type { Request, RequestHandler } from 'express';
import { type Identity, isRefusal, type Refusal } from '../auth/identity.js';
import { isForeignChange, isPreflight, isSimpleRequest } from '../http/cross-origin.js';
import { answerError } from '../http/error-answer.js';

export interface RequireLoginOptions {
  readonly identify: (req: Request) => Identity | Refusal | Promise<Identity | Refusal>;
  /** The requests that need a login. */
  readonly covers: (req: Request) => boolean;
  /** The login is the tracker's own: whoever answers behind it shall not see it. */
  readonly withdrawsLogin: boolean;
}

/** The middleware in front of what is passed on: only those who have logged in come through. */
export function requireLogin({ identify, covers, withdrawsLogin }: RequireLoginOptions): RequestHandler {
  return (req, res, next) => {
    // A browser asks by a preflight without credentials; its answer says nothing of anybody's.
    if (!covers(req) || isPreflight(req)) {
      next();
      return;
    }
    const decide = async () => {
      const who = await identify(req);
      if (isRefusal(who)) {
        answerError(res, who.status, who.error, { 'Cache-Control': 'no-store', ...who.headers });
      } else if (isSimpleRequest(req) && isForeignChange(req, res)) {
        // The browser has sent the login by itself. What it asks for in advance is for those who answer that to judge.
        answerError(res, 403, 'Expected a change to come from this site, got one from another site');
      } else {
        if (withdrawsLogin) withdrawLogin(req);
        next();
      }
    };
    decide().catch(next);
  };
}

function withdrawLogin(req: Request): void {
  delete req.headers.authorization;
  for (let at = req.rawHeaders.length - 2; at >= 0; at -= 2) {
    if (req.rawHeaders[at]?.toLowerCase() === 'authorization') req.rawHeaders.splice(at, 2);
  }
}
