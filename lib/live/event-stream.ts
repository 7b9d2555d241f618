import type { ServerResponse } from 'node:http';
import { type Identity, mayTouch } from '../auth/identity.js';
import type { Job, JobProgress } from '../job.js';
import { type JobState, jobJson } from '../jobs/job-json.js';
import { eventFrame, HEARTBEAT_FRAME } from './event-frame.js';

/** So much may wait for a client that reads slowly. */
const MAX_BACKLOG_BYTES = 256 * 1024;
/** From so much on, what the next message makes good again is left out. */
const BUSY_BYTES = 64 * 1024;
/** A client that has not caught up by then is taken for gone. */
const CATCH_UP_WITHIN_MS = 60_000;
/** After so long a client has to come again, because its login may have ended. It goes on where it was. */
const LASTS_MS = 30 * 60_000;
/** A client takes the rest of a stream that has ended within this time, or never. */
const LEAVES_WITHIN_MS = 5_000;

/** A response in which a middleware in front, such as compression, may hold bytes back. */
type FlushableResponse = ServerResponse & { flush?: () => void };

/** Who looks, and at what. */
export interface Viewer {
  readonly identity: Identity;
  /** The path below which the host mounted the tracker, `''` for the root. */
  readonly mountPath: string;
  /** The one job that is looked at; absent: all that may be seen. */
  readonly jobId?: string | undefined;
}

export interface EventStreamOptions {
  readonly viewer: Viewer;
  /** The resume id of the present. */
  readonly resumeId: () => string;
  readonly onClosed: () => void;
}

/** One client's stream of events. What a slow client has not taken is bounded; what it missed, it is told to load anew. */
export class EventStream {
  readonly viewer: Viewer;
  readonly #res: FlushableResponse;
  readonly #resumeId: () => string;
  /** The last positions in the queue that this client was told, by job. */
  readonly #positions = new Map<string, number>();
  #lasts: NodeJS.Timeout;
  /** Runs while the client is too far behind to be told anything. */
  #behind: NodeJS.Timeout | undefined;
  #hasToldStatus = false;

  /** Sends the head and the first frame. */
  constructor(res: ServerResponse, firstFrame: string, { viewer, resumeId, onClosed }: EventStreamOptions) {
    this.#res = res;
    this.viewer = viewer;
    this.#resumeId = resumeId;
    this.#lasts = setTimeout(() => this.end(), LASTS_MS).unref();
    res.once('close', () => {
      clearTimeout(this.#lasts);
      clearTimeout(this.#behind);
      onClosed();
    });
    this.#write(firstFrame);
  }

  /** True once the client knows how its job stands. */
  get hasToldStatus(): boolean {
    return this.#hasToldStatus;
  }

  sees(job: Job): boolean {
    const { identity, jobId } = this.viewer;
    return (jobId === undefined || jobId === job.id) && mayTouch(identity, job);
  }

  /** True where the client has not been told of this position, and could take it now. */
  lacksPosition(id: string, position: number): boolean {
    return this.#positions.get(id) !== position && !this.#isBusy;
  }

  tellStatus(job: Job, state: JobState, id: string): void {
    const { queuePosition } = state;
    if (queuePosition === undefined) this.#positions.delete(job.id);
    else this.#positions.set(job.id, queuePosition);
    this.#hasToldStatus = true;
    this.#tell(eventFrame('status', jobJson(job, this.viewer.mountPath, state), id));
  }

  tellRemoved(job: Job, id: string): void {
    this.#positions.delete(job.id);
    this.#tell(eventFrame('removed', { id: job.id }, id));
  }

  tellProgress(job: Job, progress: JobProgress): void {
    if (!this.#isBusy) this.#write(eventFrame('progress', { id: job.id, ...progress }));
  }

  /** The client is to load everything anew. */
  reset(): void {
    this.#write(eventFrame('reset', {}, this.#resumeId()));
  }

  beat(): void {
    if (!this.#isBusy) this.#write(HEARTBEAT_FRAME);
  }

  end(): void {
    if (this.#res.writableEnded || this.#res.destroyed) return;
    this.#res.end();
    // Who does not take the rest must not hold up the end of the gateway.
    clearTimeout(this.#lasts);
    this.#lasts = setTimeout(() => this.#res.destroy(), LEAVES_WITHIN_MS).unref();
  }

  get #isBusy(): boolean {
    return this.#behind !== undefined || this.#res.writableLength > BUSY_BYTES;
  }

  #tell(frame: string): void {
    if (this.#behind) return;
    const backlogBytes = this.#res.writableLength;
    // A single event that is larger than that is still better than none.
    if (backlogBytes === 0 || backlogBytes + Buffer.byteLength(frame) <= MAX_BACKLOG_BYTES)
      this.#write(frame);
    else this.#fallBehind();
  }

  #fallBehind(): void {
    this.#behind = setTimeout(() => this.#res.destroy(), CATCH_UP_WITHIN_MS).unref();
    this.#res.once('drain', () => {
      clearTimeout(this.#behind);
      this.#behind = undefined;
      this.#positions.clear();
      // Of one job, the next connection begins with how it stands.
      if (this.viewer.jobId !== undefined) this.end();
      else this.reset();
    });
  }

  #write(frame: string): void {
    if (this.#res.writableEnded || this.#res.destroyed) return;
    this.#res.write(frame);
    this.#res.flush?.();
  }
}
