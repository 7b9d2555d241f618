import type { Request, RequestHandler } from 'express';
import type { GatewayBackends } from '../gateway-backends.js';
import { Generation, type GenerationOptions } from '../generation/generation.js';
import { readPreferences } from '../http/preferences.js';
import { callerOf } from './caller.js';

export interface TrackGenerationOptions extends GenerationOptions {
  readonly backends: Pick<GatewayBackends, 'matching'>;
  /** False where generations pass untracked because somebody has switched the tracking off. */
  readonly isOn: () => boolean;
  /** Who makes a request, where that is known. Never rejects. */
  readonly userOf: (req: Request) => Promise<string | undefined>;
}

/** Requests that have a job: what is mounted behind, be it the same tracker once more, does not give them another one. */
const tracked = new WeakSet<Request>();

/**
 * The middleware in front of whatever forwards: it recognises a generation request, takes its body in, records the job,
 * waits for a slot, and hands the request on with its response detached. Every other request passes untouched.
 */
export function trackGeneration(options: TrackGenerationOptions): RequestHandler {
  return (req, res, next) => {
    const at = options.backends.matching(req.method, req.path);
    // Of a client that left, or was answered, while somebody in front was busy there is nothing left to track.
    if (!at || tracked.has(req) || !options.isOn() || req.socket.destroyed || res.headersSent) {
      next();
      return;
    }
    const generation = new Generation(options, {
      at,
      req,
      res,
      path: req.path,
      ip: req.ip ?? '',
      mountPath: req.baseUrl,
      user: options.userOf(req),
      callerOf: (user) => callerOf(req, user),
      prefersAsync: readPreferences(req.headers.prefer).has('respond-async'),
    });
    const run = async () => {
      const job = await generation.begin(next);
      if (job) tracked.add(req);
      await generation.handOn(next);
    };
    run().catch((error: unknown) => {
      options.logger.error('A generation request could not be tracked', error);
      next(error);
    });
  };
}
