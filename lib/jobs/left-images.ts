import { extname } from 'node:path/posix';
import { messageOf } from '../errors.js';
import type { ImageStore } from '../images/image-store.js';
import { inParallel } from '../in-parallel.js';
import type { Job, JobChange } from '../job.js';
import type { Logger } from '../logger.js';

const AT_ONCE = 16;

export type LeftFiles = Pick<JobChange, 'output_paths' | 'sidecar' | 'bytes'>;

/**
 * The files of jobs that an earlier process left running, by the jobs' ids. They are whole, or they would not have their
 * names; but no record has them yet. Never rejects: what cannot be found stays where it is, which is said.
 */
export async function leftImages(
  images: ImageStore,
  jobs: readonly Pick<Job, 'id' | 'timestamp'>[],
  logger: Logger,
): Promise<ReadonlyMap<string, LeftFiles>> {
  const left = new Map<string, LeftFiles>();
  try {
    const paths = await pathsByJob(images, jobs);
    await inParallel([...paths], AT_ONCE, async ([id, own]) => {
      left.set(id, await filesOf(images, own));
    });
  } catch (error) {
    logger.warn(`Images of jobs that were interrupted may lie about without a job: ${messageOf(error)}`);
  }
  return left;
}

/** Below which paths a job's files are kept: `-0.png` and so on for its images, `.json` for the sidecar. */
export function imageStem({ id, timestamp }: Pick<Job, 'id' | 'timestamp'>): string {
  return `${new Date(timestamp * 1000).toISOString().slice(0, 10)}/${id}`;
}

async function pathsByJob(
  images: ImageStore,
  jobs: readonly Pick<Job, 'id' | 'timestamp'>[],
): Promise<Map<string, string[]>> {
  const byJob = new Map<string, string[]>();
  const ids = new Map(jobs.map((job) => [imageStem(job), job.id]));
  const folders = new Set([...ids.keys()].map((stem) => stem.slice(0, stem.indexOf('/'))));
  for (const folder of folders) {
    for (const path of (await images.list?.(folder)) ?? []) {
      const id = ids.get(/^(.*?)(-\d+)?\.[^./]+$/.exec(path)?.[1] ?? '');
      if (id !== undefined) byJob.set(id, [...(byJob.get(id) ?? []), path]);
    }
  }
  return byJob;
}

async function filesOf(images: ImageStore, paths: readonly string[]): Promise<LeftFiles> {
  const sidecar = paths.find((path) => !isImage(path));
  const output_paths = paths.filter(isImage).sort((a, b) => numberIn(a) - numberIn(b));
  let bytes = 0;
  for (const path of paths) {
    const file = await images.read(path);
    bytes += file?.sizeBytes ?? 0;
    await file?.close();
  }
  return { output_paths, bytes, ...(sidecar !== undefined && { sidecar }) };
}

function isImage(path: string): boolean {
  return extname(path) !== '.json';
}

function numberIn(path: string): number {
  return Number(/-(\d+)\.[^./]+$/.exec(path)?.[1]);
}
