import type { Job } from '../job.js';

/** What a job looks like from outside, but for its images. The sidecar's place is nobody's business. */
export type JobJson = Omit<Job, 'sidecar'> & { readonly image_urls: readonly string[]; readonly queue_position?: number };

/** @param mountPath the path below which the host mounted the tracker, `''` for the root. */
export function jobJson(job: Job, mountPath: string, queuePosition?: number): JobJson {
  const { sidecar: _, ...shown } = job;
  return {
    ...shown,
    image_urls: job.output_paths.map((_path, n) => `${jobUrl(job.id, mountPath)}/images/${n}`),
    ...(queuePosition !== undefined && { queue_position: queuePosition }),
  };
}

export function jobUrl(id: string, mountPath: string): string {
  return `${mountPath}/sdapi/v1/job/${id}`;
}
