import type { Job } from '../job.js';

/** What of a job is shown beside its images: the extension's members first, in its order, then ours. */
const SHOWN = [
  'id',
  'prompt',
  'ip',
  'timestamp',
  'status',
  'output_paths',
  'backend',
  'path',
  'user',
  'request',
  'started_at',
  'finished_at',
  'error',
  'disturbed_by',
  'retry_of',
  'prompt_id',
  'bytes',
] as const satisfies readonly (keyof Job)[];

/** What a job looks like from outside, but for its images. */
export type JobJson = Pick<Job, (typeof SHOWN)[number]> & {
  readonly image_urls: readonly string[];
  /** 1 for the next to be let in. */
  readonly queue_position?: number;
  /** From 0 to 1, while the job is Processing and somebody has looked. */
  readonly progress?: number;
};

/** What is known of a job beside its record. */
export interface JobState {
  readonly queuePosition?: number | undefined;
  readonly progress?: number | undefined;
}

/**
 * A record may hold more than is anybody's business, and in a jobs.json that somebody has edited, anything: only what is
 * known goes out.
 *
 * @param mountPath the path below which the host mounted the tracker, `''` for the root.
 */
export function jobJson(job: Job, mountPath: string, { queuePosition, progress }: JobState = {}): JobJson {
  const shown = Object.fromEntries(
    SHOWN.filter((name) => job[name] !== undefined).map((name) => [name, job[name]]),
  );
  return {
    ...(shown as Pick<Job, (typeof SHOWN)[number]>),
    image_urls: job.output_paths.map((_path, n) => `${jobUrl(job.id, mountPath)}/images/${n}`),
    ...(queuePosition !== undefined && { queue_position: queuePosition }),
    ...(progress !== undefined && job.status === 'Processing' && { progress }),
  };
}

export function jobUrl(id: string, mountPath: string): string {
  return `${mountPath}/sdapi/v1/job/${id}`;
}
