import cluster from 'node:cluster';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { systemCodeOf } from '../../lib/errors.js';
import { acquireFolderLock } from '../../lib/stores/folder-lock.js';

/*
 * Tries to lock every folder that it is sent, at once, and answers with what came of each: `locked` or an error's code.
 * With the argument `cluster` it is the primary of a cluster of two workers that both do that, one after the other.
 */
if (process.argv[2] === 'cluster') {
  cluster.setupPrimary({ exec: fileURLToPath(import.meta.url), args: [] });
  const workers = [cluster.fork(), cluster.fork()];
  await Promise.all(workers.map((worker) => once(worker, 'message')));
  process.on('message', async (folders: string[]) => {
    const outcomes: string[] = [];
    for (const worker of workers) {
      const answer = once(worker, 'message');
      worker.send(folders);
      outcomes.push(...((await answer)[0] as string[]));
    }
    process.send?.(outcomes);
  });
  process.send?.('ready');
} else {
  process.on('message', async (folders: string[]) => {
    const outcomes = folders.map(async (folder) => {
      try {
        await acquireFolderLock(folder);
        return 'locked';
      } catch (error) {
        return systemCodeOf(error) ?? String(error);
      }
    });
    process.send?.(await Promise.all(outcomes));
  });
  process.send?.('ready');
}
