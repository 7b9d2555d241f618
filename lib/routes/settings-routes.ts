import express, { type Response, type Router } from 'express';
import type { Retention } from '../retention/retention.js';
import type { Settings } from '../settings.js';
import { withJsonBody } from './json-body.js';
import { parsePurgeOptions } from './purge-options.js';
import { type TrackerRouteOptions, trackerRoute } from './tracker-route.js';

export interface SettingsRoutesOptions extends TrackerRouteOptions {
  readonly settings: Pick<Settings, 'describe' | 'change'>;
  readonly retention: Pick<Retention, 'purge'>;
}

/** The routes under which settings are seen and changed, and old jobs removed at once. */
export function settingsRoutes(options: SettingsRoutesOptions): Router {
  const { settings, retention } = options;
  const route = trackerRoute(options);
  const router = express.Router();

  router.get(
    '/job-tracker/settings',
    route('user', async (_req, res) => sendJson(res, settings.describe())),
  );

  router.patch(
    '/job-tracker/settings',
    route(
      'admin',
      withJsonBody(async (body, _req, res) => {
        await settings.change(body);
        sendJson(res, settings.describe());
      }),
    ),
  );

  router.post(
    '/job-tracker/purge',
    route(
      'admin',
      withJsonBody(async (body, _req, res) => {
        sendJson(res, await retention.purge(parsePurgeOptions(body)));
      }),
    ),
  );

  return router;
}

function sendJson(res: Response, body: unknown): void {
  res.setHeader('Cache-Control', 'no-store');
  res.json(body);
}
