import { join } from 'node:path';
import type { Job } from '../../lib/job.js';
import { writeSnapshot } from '../../lib/stores/snapshot-writer.js';

export interface KeptRecords {
  readonly folder: string;
  readonly count: number;
  /** Unix seconds at which the job number `n`, from 0, ended. */
  readonly finishedAt: (n: number) => number;
}

/** Writes a jobs.json as a gateway leaves it behind, with so many jobs. */
export async function writeRecords({ folder, count, finishedAt }: KeptRecords): Promise<void> {
  const jobs = Array.from({ length: count }, (_, n) => makeRecord(idOf(n), n, finishedAt(n)));
  await writeSnapshot(join(folder, 'jobs.json'), jobs);
}

/** The id of the job number `n`. */
export function idOf(n: number): string {
  return `Kept${n.toString(36).padStart(4, '0')}`;
}

/** A record of the usual size, about 600 bytes. */
export function makeRecord(id: string, n: number, finishedAt: number): Job {
  return {
    id,
    prompt: `a quiet bay at dusk, fishing boats, long exposure, film grain, number ${n}`.padEnd(
      160,
      ' of many',
    ),
    ip: `10.0.${n % 7}.${n % 251}`,
    timestamp: Math.floor(finishedAt) - 5,
    status: n % 50 === 0 ? 'Failed' : 'Completed',
    output_paths: [`2026-11-22/${id}-0.png`],
    backend: n % 4 === 0 ? 'comfyui' : 'a1111',
    path: '/sdapi/v1/txt2img',
    request: {
      steps: 20,
      cfg_scale: 7.5,
      width: 1024,
      height: 1024,
      seed: n,
      sampler_name: 'DPM++ 2M Karras',
    },
    started_at: finishedAt - 4.5,
    finished_at: finishedAt,
    sidecar: `2026-11-22/${id}.json`,
    bytes: 1_048_576,
    fingerprint: 'l8uVUVSCNLOyHI7zEBXn5CjYqQjPMv4z0uXgVvJ0c1M',
    delivered: true,
  };
}
