import http, { type RequestListener } from 'node:http';
import { join } from 'node:path';
import express from 'express';
import { createProxyMiddleware } from 'http-proxy-middleware';
import { type JobTracker, jobTracker } from '../../lib/index.js';
import { naiveReader, naiveTracker } from './naive-tracker.js';

export interface Gateway {
  readonly handler: RequestListener;
  readonly tracker?: JobTracker;
}

export interface GatewayOptions {
  /** The backend's address. */
  readonly target: string;
  /** For jobs and images. */
  readonly dir: string;
  /** How long jobs are kept, where that is limited. */
  readonly retentionSeconds: number;
}

/** Ways to stand between a client and A1111. */
export const GATEWAY_KINDS = {
  /** What a gateway has today: http-proxy-middleware, and nothing is stored. */
  proxy({ target }: GatewayOptions): Gateway {
    const app = express();
    app.use(createProxyMiddleware({ target }));
    return { handler: app };
  },

  /** About as little as Node can do: no Express, nothing is stored. */
  pipe({ target }: GatewayOptions): Gateway {
    const handler: RequestListener = (req, res) => {
      const { method = 'GET', url = '/', headers } = req;
      const upstream = http.request(target + url, { method, headers, agent: false }, (answer) => {
        res.writeHead(answer.statusCode ?? 502, answer.rawHeaders);
        answer.pipe(res);
      });
      upstream.on('error', () => res.destroy());
      req.pipe(upstream);
    };
    return { handler };
  },

  /** Buffers the answer, parses it, and writes the images. */
  naive({ target, dir }: GatewayOptions): Gateway {
    const app = express();
    app.post('/sdapi/v1/txt2img', naiveTracker({ target, folder: join(dir, 'output') }));
    return { handler: app };
  },

  /** The tracker in front of http-proxy-middleware. */
  wrap({ target, dir }: GatewayOptions): Gateway {
    const app = express();
    const tracker = jobTracker({ dir, env: {} });
    app.use(tracker);
    app.use(createProxyMiddleware({ target }));
    return { handler: app, tracker };
  },

  /** The tracker, which forwards by itself. */
  forward({ target, dir }: GatewayOptions): Gateway {
    const app = express();
    const tracker = jobTracker({ dir, a1111: target, concurrency: Number.POSITIVE_INFINITY, env: {} });
    app.use(tracker);
    return { handler: app, tracker };
  },

  /** It forwards, and removes what is old every few seconds. */
  soak({ target, dir, retentionSeconds }: GatewayOptions): Gateway {
    const app = express();
    const retention = `${retentionSeconds}s` as const;
    const tracker = jobTracker({ dir, a1111: target, concurrency: 64, retention, purgeEvery: '5s', env: {} });
    app.use(tracker);
    return { handler: app, tracker };
  },

  /** A route that has nothing to do with generations. */
  plain(): Gateway {
    const app = express();
    app.get('/ping', answerPing);
    return { handler: app };
  },

  /** The same behind the tracker. */
  mounted({ dir }: GatewayOptions): Gateway {
    const app = express();
    const tracker = jobTracker({ dir, env: {} });
    app.use(tracker);
    app.get('/ping', answerPing);
    return { handler: app, tracker };
  },

  /** Reads images back as one does without thinking: `/job/<name>,<name>…`, and `/file/<name>` by Express itself. */
  reader({ dir }: GatewayOptions): Gateway {
    return { handler: naiveReader(join(dir, 'output')) };
  },
} satisfies Record<string, (options: GatewayOptions) => Gateway>;

export type GatewayKind = keyof typeof GATEWAY_KINDS;

function answerPing(_req: express.Request, res: express.Response): void {
  res.json({ ok: true });
}
