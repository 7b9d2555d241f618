import type { ImageStore } from '../images/image-store.js';
import type { Job, JobProgress } from '../job.js';
import type { JobEvents } from '../jobs/job-events.js';
import type { JobRecorder } from '../jobs/job-recorder.js';
import type { RunningJob } from '../jobs/running-job.js';
import type { Logger } from '../logger.js';
import type { JobStore } from '../stores/job-store.js';
import { ComfyUIFollower } from './follower.js';
import { createKeptHistory, type KeptHistory } from './kept-history.js';
import { ComfyUIMessages } from './messages.js';
import { OwnSocket } from './own-socket.js';

export interface PromptsOptions {
  /** ComfyUI's address. */
  readonly url: URL;
  readonly store: JobStore;
  readonly images: ImageStore;
  readonly events: JobEvents;
  readonly recorder: JobRecorder;
  readonly jobTimeoutMs: number;
  readonly logger: Logger;
  /** Called when the places of jobs in ComfyUI's queue have changed. */
  readonly onMoved: () => void;
  readonly onProgress: (jobId: string, progress: JobProgress) => void;
}

/** The prompts that ComfyUI has, and what is kept of those that it had. */
export interface Prompts {
  readonly follower: ComfyUIFollower;
  readonly kept: KeptHistory;
  /** Takes a text message that ComfyUI has sent to one of its clients. Never throws. */
  receive(text: string): void;
  /** ComfyUI has queued this job: it is followed to its end. */
  follow(job: RunningJob): void;
  /** Those of the jobs that an earlier process has left unfinished which can be followed on. */
  followable(unfinished: readonly Job[]): Job[];
}

export function createPrompts(options: PromptsOptions): Prompts {
  const { url, onProgress } = options;
  const receive = (text: string) => messages.receive(text);
  const ownSocket = new OwnSocket({ url, onText: receive });
  const follower = new ComfyUIFollower({
    ...options,
    isOthers: ({ id }) => kept.index.isOthers(id),
    onFollowed: (job) => ownSocket.serve(job),
  });
  const messages = new ComfyUIMessages({ follower, onProgress });
  const kept = createKeptHistory({ ...options, follower });
  return {
    follower,
    kept,
    receive,
    follow(job) {
      kept.index.follow(job.id, job.taskId);
      follower.follow(job);
    },
    followable: (unfinished) =>
      unfinished.filter(({ backend, prompt_id }) => backend === 'comfyui' && prompt_id !== undefined),
  };
}
