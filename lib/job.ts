/** A record's life: waiting for a slot, at the backend, and one of two ends. The names are the A1111 extension's. */
export const JOB_STATUSES = ['Pending', 'Processing', 'Completed', 'Failed'] as const;
export type JobStatus = (typeof JOB_STATUSES)[number];

export const BACKEND_NAMES = ['a1111', 'comfyui'] as const;
export type BackendName = (typeof BACKEND_NAMES)[number];

/**
 * Why a job is Failed.
 *
 * - `backend`: the backend answered with an error, or with something that is not a whole answer
 * - `unreachable`: no connection to the backend
 * - `interrupted`: the gateway ended while the job ran, or ComfyUI was restarted and does not know it any more
 * - `cancelled`: somebody stopped it
 * - `timeout`: it ran longer than `jobTimeout`
 * - `not_stored`: the pictures were made, but could not be kept (disk full, no rights)
 * - `empty`: a whole answer without a picture in it
 */
export type JobErrorCode =
  | 'backend'
  | 'unreachable'
  | 'interrupted'
  | 'cancelled'
  | 'timeout'
  | 'not_stored'
  | 'empty';

export interface JobError {
  readonly code: JobErrorCode;
  readonly message: string;
  /** The HTTP status of the answer, where there was one: 502 is also what the gateway says of a backend that it cannot reach. */
  readonly status?: number;
}

/** The small top-level fields of a generation request. An integer that JavaScript cannot hold is kept as its text. */
export type RequestFields = Readonly<Record<string, string | number | boolean>>;

/**
 * What is kept about one tracked generation request: one line of jobs.json. A job is never changed in place; a store
 * replaces it by a new object.
 */
export interface Job {
  /** 8 characters of A-Z, a-z, 0-9. */
  readonly id: string;
  /** `''` where the request has none. */
  readonly prompt: string;
  /** The caller's address as Express's `req.ip` has it. */
  readonly ip: string;
  /** Whole unix seconds at which the job was recorded. */
  readonly timestamp: number;
  readonly status: JobStatus;
  /**
   * The images in the answer's order, relative to the output folder and with forward slashes. A job that was carried
   * over from the A1111 extension has the paths that the extension wrote, mostly absolute ones.
   */
  readonly output_paths: readonly string[];
  readonly backend: BackendName;
  /** The request's path below the mount, without its query: `/sdapi/v1/txt2img`. */
  readonly path: string;
  /** Who made the job, where somebody had logged in. */
  readonly user?: string;
  readonly request?: RequestFields;
  /**
   * Unix seconds with three decimals: when the backend got the request. For a backend that queues by itself, when it
   * began with it, once that is known.
   */
  readonly started_at?: number;
  /** Unix seconds with three decimals. */
  readonly finished_at?: number;
  readonly error?: JobError;
  /** The file with the rest of the answer, relative to the output folder. */
  readonly sidecar?: string;
  /** The size of the job's files together, images and sidecar. */
  readonly bytes?: number;
  /** By this the same request of the same caller is told again: a hash. */
  readonly fingerprint?: string;
  /** A hash of the caller and its `Idempotency-Key`. */
  readonly idempotency?: string;
  /** A client has been handed the last byte of the answer, or a 202. */
  readonly delivered?: true;
  /** The client was answered with 202: the job runs without anybody waiting for its answer. */
  readonly accepted?: true;
  /** What passed through to the backend while the job ran; its images may be fewer, or unfinished. */
  readonly disturbed_by?: 'interrupt' | 'skip';
  /** The id of the failed job that this one is another try of. */
  readonly retry_of?: string;
  /** ComfyUI's own id of the job: what it answered to `POST /prompt`. */
  readonly prompt_id?: string;
  /** ComfyUI's answer to `POST /prompt`, byte for byte. */
  readonly ticket?: string;
  /** What ComfyUI calls each of `output_paths`, in their order. */
  readonly comfyui_files?: readonly ComfyUIFile[];
  /** Somebody has deleted the job from ComfyUI's history; the job itself, and its images, stay. */
  readonly history_deleted?: true;
}

/** By this `GET /view` finds a file of ComfyUI's. */
export interface ComfyUIFile {
  readonly filename: string;
  /** `''` for none. */
  readonly subfolder: string;
  /** `output` or `temp`. */
  readonly type: string;
}

/** How far a job has come at its backend. What the backend does not tell is absent. */
export interface JobProgress {
  /** From 0 to 1. */
  readonly progress: number;
  /** How many of the `steps` are done. */
  readonly step?: number;
  readonly steps?: number;
  /** Seconds until the end, as the backend reckons. */
  readonly eta_seconds?: number;
  /** What the backend says of it, for people. */
  readonly text?: string;
}

/** A change to a job; its id, and what was known when it was made, never change. */
export type JobChange = Partial<
  Pick<
    Job,
    | 'status'
    | 'output_paths'
    | 'started_at'
    | 'finished_at'
    | 'error'
    | 'sidecar'
    | 'bytes'
    | 'delivered'
    | 'disturbed_by'
    | 'prompt_id'
    | 'ticket'
    | 'comfyui_files'
    | 'history_deleted'
  >
>;

/** True once a job has ended, well or not. */
export function isFinished(job: Pick<Job, 'status'>): boolean {
  return job.status === 'Completed' || job.status === 'Failed';
}

/** Unix seconds with three decimals. */
export function unixSeconds(timeMs: number = Date.now()): number {
  return Math.round(timeMs) / 1000;
}
