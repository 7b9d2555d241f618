import cluster from 'node:cluster';
import { fileURLToPath } from 'node:url';
import { systemCodeOf } from '../../lib/errors.js';
import { acquireFolderLock } from '../../lib/stores/folder-lock.js';

/*
 * Tries to lock every folder that it is sent, at once, and answers with what came of each: `locked` or an error's code.
 * With the argument `cluster` it is the primary of a cluster whose one worker does that.
 */
if (process.argv[2] === 'cluster') {
  cluster.setupPrimary({ exec: fileURLToPath(import.meta.url), args: [] });
  const worker = cluster.fork();
  worker.on('message', (message) => process.send?.(message));
  process.on('message', (message: string[]) => worker.send(message));
  process.on('disconnect', () => worker.process.kill('SIGKILL'));
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
