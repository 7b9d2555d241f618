import type { ServerResponse } from 'node:http';
import { messageOf } from '../errors.js';
import { isFinished, type Job } from '../job.js';
import type { JobEventMap, JobEvents } from '../jobs/job-events.js';
import type { JobState } from '../jobs/job-json.js';
import type { Jobs } from '../jobs/jobs.js';
import type { WaitingPlace } from '../jobs/waiting-jobs.js';
import type { Logger } from '../logger.js';
import { RETRY_FRAME } from './event-frame.js';
import { EventStream, type Viewer } from './event-stream.js';
import { QueuePositions } from './queue-positions.js';
import { type Change, RecentChanges } from './recent-changes.js';

const HEARTBEAT_MS = 15_000;
const MAX_STREAMS = 500;
const MAX_STREAMS_PER_CALLER = 32;
/** Ends the id of a job's last event: who comes again with that knows how the job ended. */
const END_MARK = '-end';

const HEADERS = {
  'Content-Type': 'text/event-stream',
  'Cache-Control': 'no-store, no-transform',
  'X-Accel-Buffering': 'no',
};

export interface LiveEventsOptions {
  readonly events: JobEvents;
  readonly queue: Pick<WaitingPlace, 'positions'>;
  readonly jobs: Pick<Jobs, 'get'>;
  readonly stateOf: (id: string) => JobState;
  readonly logger: Logger;
}

/** A client that asks for a stream. */
export interface Caller extends Viewer {
  /** What its streams are counted by: its user, or else its address. */
  readonly name: string;
  /** The `Last-Event-ID` with which it comes again. */
  readonly lastEventId: string | undefined;
}

/** Why there is no stream for a client, as an answer. */
export interface NoStream {
  readonly status: 429 | 503;
  readonly error: string;
  readonly retryAfterSeconds: number;
}

/** Tells clients what happens to jobs, as it happens, by server-sent events. */
export class LiveEvents {
  readonly #options: LiveEventsOptions;
  readonly #changes = new RecentChanges();
  readonly #streams = new Set<EventStream>();
  readonly #countOf = new Map<string, number>();
  readonly #positions: QueuePositions;
  readonly #onChange = (job: Job) => this.#changed('status', job);
  readonly #onRemoved = (job: Job) => this.#changed('removed', job);
  readonly #onProgress = (...[job, progress]: JobEventMap['progress']) => {
    for (const stream of this.#streams) if (stream.sees(job)) stream.tellProgress(job, progress);
  };
  #heartbeat: NodeJS.Timeout | undefined;
  #isClosed = false;

  constructor(options: LiveEventsOptions) {
    this.#options = options;
    const { events, queue, jobs, logger } = options;
    this.#positions = new QueuePositions({
      queue,
      jobs,
      streams: this.#streams,
      tell: (stream, job) => this.#tellStatus(stream, job, this.#changes.resumeId()),
      onError: (error) => logger.warn(`Positions in the queue could not be told: ${messageOf(error)}`),
    });
    events.on('created', this.#onChange);
    events.on('status', this.#onChange);
    events.on('removed', this.#onRemoved);
  }

  /** Opens a stream as the answer to a request, whose client may leave at any time. Undefined: it is open. */
  open(res: ServerResponse, caller: Caller): NoStream | undefined {
    const refusal = this.#refusalOf(caller.name);
    if (refusal) return refusal;
    res.writeHead(200, HEADERS);
    if (res.req.method === 'HEAD' || res.destroyed) {
      res.end();
      return undefined;
    }
    if (caller.jobId === undefined) this.#followAll(this.#begin(res, caller), caller);
    else this.#followOne(this.#begin(res, caller), caller.jobId);
    return undefined;
  }

  /** True for a client that comes again to the stream of a job although it has been told of the job's end. */
  knowsEnd(job: Job, lastEventId: string | undefined): boolean {
    return isFinished(job) && lastEventId?.endsWith(END_MARK) === true;
  }

  /** Positions in the queue may have changed. */
  queueMoved(): void {
    this.#positions.moved();
  }

  /** Ends all streams, and opens none any more. May be called twice. */
  close(): void {
    this.#isClosed = true;
    const { events } = this.#options;
    events.off('created', this.#onChange);
    events.off('status', this.#onChange);
    events.off('removed', this.#onRemoved);
    for (const stream of this.#streams) stream.end();
  }

  #refusalOf(name: string): NoStream | undefined {
    if (this.#isClosed) {
      return { status: 503, error: 'The gateway is being stopped', retryAfterSeconds: 5 };
    }
    if (this.#streams.size >= MAX_STREAMS) {
      const error = `Expected at most ${MAX_STREAMS} streams of events, all of them are taken`;
      return { status: 503, error, retryAfterSeconds: 10 };
    }
    if ((this.#countOf.get(name) ?? 0) >= MAX_STREAMS_PER_CALLER) {
      const error = `Expected at most ${MAX_STREAMS_PER_CALLER} streams of events at once from one caller`;
      return { status: 429, error, retryAfterSeconds: 10 };
    }
    return undefined;
  }

  #begin(res: ServerResponse, caller: Caller): EventStream {
    // Who reconnects keeps the id it has until the events that it missed have brought it newer ones.
    const isNew = caller.jobId === undefined && caller.lastEventId === undefined;
    const idLine = isNew ? `id: ${this.#changes.resumeId()}\n` : '';
    const stream = new EventStream(res, `${RETRY_FRAME}${idLine}\n`, {
      viewer: caller,
      resumeId: () => this.#changes.resumeId(),
      onClosed: () => this.#closed(stream, caller.name),
    });
    this.#streams.add(stream);
    this.#countOf.set(caller.name, (this.#countOf.get(caller.name) ?? 0) + 1);
    if (this.#streams.size === 1) {
      this.#options.events.on('progress', this.#onProgress);
      this.#heartbeat = setInterval(() => {
        for (const one of this.#streams) one.beat();
      }, HEARTBEAT_MS).unref();
    }
    return stream;
  }

  #followAll(stream: EventStream, { lastEventId }: Caller): void {
    if (lastEventId === undefined) return;
    const missed = this.#changes.since(lastEventId);
    if (!missed) stream.reset();
    for (const change of missed ?? []) if (stream.sees(change.job)) this.#tell(stream, change);
    this.#positions.moved();
  }

  #followOne(stream: EventStream, jobId: string): void {
    const tell = (job: Job | undefined) => {
      // What has happened since it was looked at is newer.
      if (stream.hasToldStatus) return;
      if (job) this.#tellStatus(stream, job, this.#changes.resumeId());
      else stream.end();
    };
    this.#options.jobs.get(jobId).then(tell, (error: unknown) => {
      this.#options.logger.warn(`The events of job ${jobId} cannot be told: ${messageOf(error)}`);
      stream.end();
    });
  }

  #changed(kind: Change['kind'], job: Job): void {
    const change = this.#changes.add(kind, job);
    for (const stream of this.#streams) if (stream.sees(job)) this.#tell(stream, change);
  }

  #tell(stream: EventStream, { kind, job, number }: Change): void {
    const id = this.#changes.resumeId(number);
    if (kind === 'status') {
      this.#tellStatus(stream, job, id);
    } else {
      stream.tellRemoved(job, id);
      if (stream.viewer.jobId !== undefined) stream.end();
    }
  }

  #tellStatus(stream: EventStream, job: Job, id: string): void {
    const isLast = stream.viewer.jobId !== undefined && isFinished(job);
    stream.tellStatus(job, this.#options.stateOf(job.id), isLast ? id + END_MARK : id);
    if (isLast) stream.end();
  }

  #closed(stream: EventStream, name: string): void {
    if (!this.#streams.delete(stream)) return;
    const count = (this.#countOf.get(name) ?? 1) - 1;
    if (count > 0) this.#countOf.set(name, count);
    else this.#countOf.delete(name);
    if (this.#streams.size > 0) return;
    this.#options.events.off('progress', this.#onProgress);
    clearInterval(this.#heartbeat);
    this.#positions.stop();
  }
}
