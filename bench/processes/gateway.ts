import { setTimeout as sleep } from 'node:timers/promises';
import type { JobStatus } from '../../lib/index.js';
import { serveParent } from '../harness/remote.js';
import { ownUsage } from '../harness/usage.js';
import { GATEWAY_KINDS, type GatewayKind } from './gateway-kinds.js';
import { listen } from './listen.js';

/*
 * A process with one gateway in it, so that what it uses up is the gateway's own. Arguments: its kind, the backend's
 * address, a folder; for how many seconds jobs are kept.
 */
const [kind = '', target = '', dir = '', seconds = '0'] = process.argv.slice(2);
const { handler, tracker } = GATEWAY_KINDS[kind as GatewayKind]({
  target,
  dir,
  retentionSeconds: Number(seconds),
});
await tracker?.ready;

serveParent({
  usage: () => ownUsage(),

  /** How many jobs there are with a status, once all have ended: an answer waits for that one second at most. */
  async count(status: JobStatus) {
    while ((await unfinished()) > 0) await sleep(20);
    return (await tracker?.jobs.list({ status, limit: 1 }))?.total ?? 0;
  },

  async kept() {
    return (await tracker?.jobs.list({ limit: 1 }))?.total ?? 0;
  },

  /** The ids of the newest jobs. */
  async ids(limit: number) {
    return (await tracker?.jobs.list({ limit }))?.jobs.map(({ id }) => id) ?? [];
  },

  /** Removes every job, with its images. */
  async forget() {
    for (;;) {
      const jobs = (await tracker?.jobs.list({ limit: 1000 }))?.jobs ?? [];
      if (jobs.length === 0) return;
      await Promise.all(jobs.map(({ id }) => tracker?.jobs.remove(id)));
    }
  },
});
async function unfinished(): Promise<number> {
  const pages = await Promise.all(
    (['Pending', 'Processing'] as const).map((status) => tracker?.jobs.list({ status, limit: 1 })),
  );
  return pages.reduce((sum, page) => sum + (page?.total ?? 0), 0);
}

for (const end of ['disconnect', 'SIGTERM']) process.once(end, () => process.exit());

await listen(handler);
