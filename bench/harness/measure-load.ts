import type { Load, LoadResult } from '../processes/client.js';
import type { Usage } from './usage.js';
import type { Worker } from './workshop.js';

export interface MeasuredLoad extends LoadResult {
  /** What the gateway took of the processor meanwhile. */
  readonly cpuMs: number;
  /** The most memory that the gateway ever had. */
  readonly peakBytes: number;
}

/** Lets the client load the gateway, which tells afterwards what that cost it. */
export async function measureLoad(client: Worker, gateway: Worker, load: Load): Promise<MeasuredLoad> {
  const before = await gateway.ask<Usage>('usage');
  const result = await client.ask<LoadResult>('run', load);
  const after = await gateway.ask<Usage>('usage');
  return { ...result, cpuMs: after.cpuMs - before.cpuMs, peakBytes: after.peakBytes };
}
