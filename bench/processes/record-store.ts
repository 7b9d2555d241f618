import { open, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { type IntervalHistogram, monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { LowdbJobStore } from '../../lib/stores/lowdb-job-store.js';
import { idOf, makeRecord } from '../harness/kept-records.js';
import { serveParent } from '../harness/remote.js';
import { quantile } from '../harness/statistics.js';
import { ownUsage } from '../harness/usage.js';
import { sayReady } from './listen.js';

/* The record store by itself. Arguments: its folder; a name that no other process has. */
const [folder = '', name = ''] = process.argv.slice(2);
const began = performance.now();
const store = new LowdbJobStore({ folder });
await store.open();
const openMs = performance.now() - began;
let made = 0;

/** What a steady stream of changes looks like from inside. */
export interface SteadyResult {
  /** Milliseconds until a change was durable. */
  readonly ackP50Ms: number;
  readonly ackP99Ms: number;
  readonly loopDelayP99Ms: number;
  readonly loopDelayMaxMs: number;
  /** How many snapshots were written meanwhile. */
  readonly snapshots: number;
  readonly perSecond: number;
}

export interface JobsResult {
  readonly wallUsPerJob: number;
  readonly cpuUsPerJob: number;
}

serveParent({
  opened: () => ({ openMs, rssBytes: process.memoryUsage.rss() }),

  /** Records so many jobs from their beginning to their end, `atOnce` at a time, and removes them again. */
  async jobs({ count, atOnce }: { count: number; atOnce: number }): Promise<JobsResult> {
    const { cpuMs } = ownUsage();
    const start = performance.now();
    let left = count;
    await Promise.all(
      Array.from({ length: atOnce }, async () => {
        while (left > 0) {
          left -= 1;
          await oneJob();
        }
      }),
    );
    const wallMs = performance.now() - start;
    return {
      wallUsPerJob: (wallMs / count) * 1000,
      cpuUsPerJob: ((ownUsage().cpuMs - cpuMs) / count) * 1000,
    };
  },

  /** So many changes a second, whether or not those before are durable yet. */
  async steady({ perSecond, seconds, padding }: { perSecond: number; seconds: number; padding: number }) {
    const watch = watchSnapshots();
    const loop = monitorEventLoopDelay({ resolution: 1 });
    loop.enable();
    const timesMs: number[] = [];
    const changes: Promise<void>[] = [];
    const message = 'x'.repeat(padding);
    const start = performance.now();
    for (let sent = 0; sent < perSecond * seconds; ) {
      const due = Math.min(perSecond * seconds, ((performance.now() - start) / 1000) * perSecond);
      for (; sent < due; sent += 1) changes.push(change(sent, message, timesMs));
      await sleep(1);
    }
    await Promise.all(changes);
    const took = (performance.now() - start) / 1000;
    loop.disable();
    return {
      ackP50Ms: quantile(timesMs, 0.5),
      ackP99Ms: quantile(timesMs, 0.99),
      ...delays(loop),
      snapshots: await watch(),
      perSecond: timesMs.length / took,
    } satisfies SteadyResult;
  },

  /** An event loop with nothing to do but to append 600 bytes and sync them, again and again: the machine's own share. */
  async idle({ seconds }: { seconds: number }) {
    const loop = monitorEventLoopDelay({ resolution: 1 });
    const file = await open(join(folder, 'synced'), 'a');
    const timesMs: number[] = [];
    loop.enable();
    for (const start = performance.now(); performance.now() - start < seconds * 1000; await sleep(5)) {
      const sent = performance.now();
      await file.write(Buffer.alloc(600));
      await file.datasync();
      timesMs.push(performance.now() - sent);
    }
    loop.disable();
    await file.close();
    return { ...delays(loop), syncP99Ms: quantile(timesMs, 0.99) };
  },

  close: () => store.close(),
});

sayReady();

async function oneJob(): Promise<void> {
  made += 1;
  const now = Date.now() / 1000;
  const { status, started_at, finished_at, output_paths, sidecar, bytes, delivered, ...begun } = makeRecord(
    `${name}${made.toString(36).padStart(7, '0')}`,
    made,
    now,
  );
  const { id } = begun;
  if (!(await store.insert({ ...begun, status: 'Pending', output_paths: [] })))
    throw new Error(`${id} is taken`);
  await store.update(id, { status: 'Processing', started_at: now });
  const ended = await store.update(id, {
    ...{ status: 'Completed', output_paths, finished_at: now, bytes: bytes ?? 0 },
    ...(sidecar !== undefined && { sidecar }),
  });
  await store.update(id, { delivered: true });
  if (ended?.status !== 'Completed' || (await store.get(id))?.delivered !== true)
    throw new Error(`${id} is lost`);
  await store.remove(id);
}

/** Changes one of a thousand kept jobs, so that the snapshot does not grow. */
async function change(n: number, message: string, timesMs: number[]): Promise<void> {
  const sent = performance.now();
  const changed = await store.update(idOf(n % 1000), { error: { code: 'backend', message } });
  if (!changed) throw new Error(`Expected a job ${idOf(n % 1000)}`);
  timesMs.push(performance.now() - sent);
}

function delays(loop: IntervalHistogram) {
  const ms = (nanoseconds: number) => nanoseconds / 1e6;
  return { loopDelayP99Ms: ms(loop.percentile(99)), loopDelayMaxMs: ms(loop.max) };
}

/** Counts how often jobs.json is replaced; resolves to that when called. */
function watchSnapshots(): () => Promise<number> {
  const numbers = new Set<number>();
  const look = async () => {
    try {
      numbers.add((await stat(join(folder, 'jobs.json'))).ino);
    } catch {
      // For a moment it is only there as its backup.
    }
  };
  void look();
  const timer = setInterval(look, 200);
  return async () => {
    clearInterval(timer);
    await look();
    return numbers.size - 1;
  };
}
