import express, { type Request, type Response, type Router } from 'express';
import type { Health } from '../health.js';
import type { Logger } from '../logger.js';

export interface HealthRoutesOptions {
  readonly health: Pick<Health, 'look'>;
  /** Whether whoever asks may see details: `answered` where the request has been refused already. */
  readonly isKnown: (req: Request, res: Response) => Promise<'yes' | 'no' | 'answered'>;
  readonly logger: Logger;
}

/**
 * `GET /job-tracker/health`, for machines that look after the gateway: 200 where all is well, else 503. Those who are not
 * known get no more than `{"ok": …}`. It answers whatever state the tracker is in.
 */
export function healthRoutes({ health, isKnown, logger }: HealthRoutesOptions): Router {
  const router = express.Router();
  router.get('/job-tracker/health', (req, res) => {
    res.setHeader('Cache-Control', 'no-store');
    res.setHeader('X-Content-Type-Options', 'nosniff');
    const answer = async () => {
      const known = await isKnown(req, res);
      if (known === 'answered') return;
      const report = await health.look();
      res.status(report.ok ? 200 : 503).json(known === 'yes' ? report : { ok: report.ok });
    };
    answer().catch((error: unknown) => {
      logger.error('The state of the gateway could not be told', error);
      if (!res.headersSent) res.status(503).json({ ok: false });
    });
  });
  return router;
}
