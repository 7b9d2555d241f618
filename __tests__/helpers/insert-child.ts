import { LowdbJobStore } from '../../lib/stores/lowdb-job-store.js';
import { makeJob } from './job-records.js';

/** Inserts jobs without end, a few at a time, and prints the id of each as soon as it is acknowledged. */
const [folder = '', first = '0'] = process.argv.slice(2);
const store = new LowdbJobStore({ folder });
await store.open();
let next = Number(first);

async function insertForEver(): Promise<never> {
  for (;;) {
    const job = makeJob(next++);
    await store.insert(job);
    await store.update(job.id, { status: 'Processing' });
    process.stdout.write(`${job.id}\n`);
  }
}

await Promise.all([insertForEver(), insertForEver(), insertForEver()]);
