import type { Backend } from '../backends/backend.js';
import type { Job } from '../job.js';
import type { JobEvents } from '../jobs/job-events.js';
import type { JobState } from '../jobs/job-json.js';
import type { JobRecorder } from '../jobs/job-recorder.js';
import type { Jobs } from '../jobs/jobs.js';
import type { WaitingPlace } from '../jobs/waiting-jobs.js';
import type { Logger } from '../logger.js';
import { LiveEvents } from './live-events.js';
import { ProgressBoard } from './progress-board.js';
import { ProgressPoll } from './progress-poll.js';

export interface LiveOptions {
  readonly events: JobEvents;
  readonly queue: WaitingPlace;
  readonly jobs: Pick<Jobs, 'get'>;
  readonly recorder: Pick<JobRecorder, 'processing'>;
  /** Their address where that is known. */
  readonly backends: readonly {
    readonly backend: Pick<Backend, 'name' | 'progress'>;
    readonly url: URL | undefined;
  }[];
  readonly logger: Logger;
}

/** What is known of jobs beside their records, while it is so, and who is told of it. */
export interface Live {
  readonly streams: LiveEvents;
  /** Where a backend that tells of its progress by itself puts it. */
  readonly progress: ProgressBoard;
  stateOf(id: string): JobState;
  /** Ends all streams, and asks no backend any more. May be called twice. */
  close(): void;
}

export function createLive({ events, queue, jobs, recorder, backends, logger }: LiveOptions): Live {
  const progress = new ProgressBoard({ events, logger });
  const stateOf = (id: string) => ({
    queuePosition: queue.positionOf(id),
    progress: progress.of(id)?.progress,
  });
  const streams = new LiveEvents({ events, queue, jobs, stateOf, logger });
  const polls = new Map<Job['backend'], ProgressPoll>();
  for (const { backend, url } of backends) {
    if (!url || !backend.progress) continue;
    const polled = { name: backend.name, url, source: backend.progress };
    polls.set(backend.name, new ProgressPoll({ backend: polled, recorder, board: progress }));
  }
  events.on('status', (job) => {
    if (job.status === 'Processing') polls.get(job.backend)?.wake();
  });
  return {
    streams,
    progress,
    stateOf,
    close() {
      streams.close();
      for (const poll of polls.values()) poll.close();
    },
  };
}
