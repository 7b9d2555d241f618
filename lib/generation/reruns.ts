import { JobTrackerError, messageOf } from '../errors.js';
import type { GatewayBackends } from '../gateway-backends.js';
import { replayedRequest } from '../http/replayed-request.js';
import { isFinished, type Job } from '../job.js';
import type { Logger } from '../logger.js';
import type { JobStore } from '../stores/job-store.js';
import type { KeptRequests } from '../stores/kept-requests.js';
import type { RequestFile } from '../stores/request-file.js';
import { Generation, type GenerationOptions } from './generation.js';

export interface RerunsOptions {
  readonly store: JobStore;
  readonly requests: KeptRequests;
  readonly backends: Pick<GatewayBackends, 'matching' | 'forwards'>;
  readonly generation: GenerationOptions;
  /**
   * The `Authorization` that stands in for the login of a client, which is not kept; null where the backend's URL has
   * none, or nobody has judged that login: it may be a wrong one.
   */
  readonly authorization: string | null;
  readonly logger: Logger;
}

/** Runs kept requests again, by the way that every request goes, for nobody who waits at its end. */
export class Reruns {
  readonly #options: RerunsOptions;
  #resuming: Promise<void> = Promise.resolve();
  #isClosed = false;

  constructor(options: RerunsOptions) {
    this.#options = options;
  }

  /**
   * Sorts out what an earlier process has left, before anything runs: jobs that were accepted with 202 and have not
   * reached the backend are to be resumed. Requests that nobody can want any more are removed.
   */
  async open(): Promise<readonly Job[]> {
    const { store, requests } = this.#options;
    if (!this.#options.backends.forwards) {
      await requests.clear(new Set());
      return [];
    }
    const resumable: Job[] = [];
    for (const job of await store.unfinished()) {
      // One that its backend has, and queues by itself, waits there.
      if (job.status !== 'Pending' || !job.accepted || job.started_at !== undefined) continue;
      const file = await requests.open(job.id);
      if (file && this.#obstacle(file) === undefined) resumable.push(job);
      await file?.close();
    }
    const wanted = new Set(resumable.map(({ id }) => id));
    for await (const page of store.walk()) {
      // What runs now is about to be Failed.
      for (const { id, status } of page) if (status !== 'Completed') wanted.add(id);
    }
    await requests.clear(wanted);
    return resumable;
  }

  /** Runs accepted jobs that have not reached the backend; one that cannot be run is Failed. Never rejects. */
  resume(jobs: readonly Job[]): Promise<void> {
    this.#resuming = this.#resume(jobs);
    return this.#resuming;
  }

  /** No more jobs are resumed: the next process does that. Resolves once the one that was about to be is. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#resuming;
  }

  /**
   * Runs a failed job again, as a job of its own.
   *
   * @throws JobTrackerError `NOT_RETRYABLE` with the reason.
   */
  async retry(job: Job): Promise<Job> {
    const { store, requests } = this.#options;
    if (!isFinished(job) || job.status !== 'Failed') {
      throw notRetryable(`Expected a job that has failed, got one that is ${job.status}`);
    }
    if (!this.#options.backends.forwards) {
      throw notRetryable('The tracker does not forward by itself here: send the request again');
    }
    const file = await requests.open(job.id);
    if (!file) {
      throw notRetryable(
        'The request of this job was not kept: it broke off, or held a secret, or the gateway died',
      );
    }
    const obstacle = this.#obstacle(file);
    if (obstacle !== undefined) {
      await file.close();
      throw notRetryable(obstacle);
    }
    const again = await this.#run(file, { retryOf: job.id, user: job.user });
    const record = again === 'full' || !again ? undefined : await store.get(again.id);
    if (record) return record;
    throw notRetryable(
      again === 'full' ? 'As many jobs wait as may (`maxQueue`)' : 'The new job could not be recorded',
    );
  }

  async #resume(jobs: readonly Job[]): Promise<void> {
    const { recorder, logger } = this.#options.generation;
    for (const job of jobs) {
      if (this.#isClosed) return;
      try {
        if (await this.#resumeOne(job)) continue;
        throw new Error('its request cannot be read any more');
      } catch (error) {
        logger.error(`Job ${job.id} could not be run after the restart: ${messageOf(error)}`);
        const message = 'The gateway ended while this job was waiting, and could not run it after that';
        await (recorder.find(job.id) ?? recorder.resume(job)).fail({ code: 'interrupted', message });
      }
    }
  }

  /** Resolves to whether there is something to run. */
  async #resumeOne(job: Job): Promise<boolean> {
    const file = await this.#options.requests.open(job.id);
    return file !== undefined && (await this.#run(file, { resumed: job })) !== undefined;
  }

  #obstacle({ head }: RequestFile): string | undefined {
    if (head.needs_login && this.#options.authorization === null) {
      return 'The backend wants the login of whoever sent this request, which is not kept';
    }
    return undefined;
  }

  async #run(file: RequestFile, how: { resumed?: Job; retryOf?: string; user?: string | undefined }) {
    const { backends, generation, authorization, logger } = this.#options;
    const { head, bodyBytes } = file;
    const path = head.url.replace(/\?.*/s, '');
    const at = backends.matching(head.method, path);
    if (!at?.forwarder) {
      await file.close();
      throw notRetryable(`No backend generates at ${path}`);
    }
    const login = head.needs_login && authorization !== null ? { authorization } : {};
    const { req, res } = replayedRequest({
      head: { ...head, headers: { ...head.headers, ...login } },
      bodyBytes,
      body: closedAfter(file),
    });
    const { resumed, retryOf, user } = how;
    const run = new Generation(generation, {
      at,
      req,
      res,
      path,
      ip: head.ip,
      mountPath: '',
      user: Promise.resolve(user),
      callerOf: () => undefined,
      prefersAsync: false,
      ...(resumed && { resumed }),
      ...(retryOf !== undefined && { retryOf }),
    });
    const next = () => at.forwarder?.handle(req, res);
    let job: Awaited<ReturnType<typeof run.begin>>;
    try {
      job = await run.begin(() => {});
    } finally {
      // Nobody else would end it.
      if (!job) res.destroy();
    }
    if (job && job !== 'full') {
      run.handOn(next).catch((error: unknown) => {
        logger.error(`Job ${job.id} could not be run again`, error);
      });
    }
    return job;
  }
}

async function* closedAfter(file: RequestFile): AsyncGenerator<Buffer, void> {
  try {
    yield* file.chunks();
  } finally {
    await file.close();
  }
}

function notRetryable(message: string): JobTrackerError {
  return new JobTrackerError('NOT_RETRYABLE', message);
}
