import type { IncomingMessage } from 'node:http';
import { atMost } from '../at-most.js';
import { messageOf } from '../errors.js';
import type { RequestBody } from '../http/request-body.js';
import type { RunningJob } from '../jobs/running-job.js';
import type { Logger } from '../logger.js';
import type { JobStore } from '../stores/job-store.js';
import type { KeptRequests } from '../stores/kept-requests.js';
import type { RequestFile } from '../stores/request-file.js';
import type { RequestHead } from '../stores/request-head.js';

/** A disk that is stuck keeps a generation waiting so long, and no longer. */
const KEEP_WITHIN_MS = 2_000;
/** Of a request's headers these are kept: what the backend may need to read the body, and nothing that is secret. */
const KEPT_HEADERS = ['accept', 'accept-language', 'content-encoding', 'content-type', 'user-agent'];

export interface RequestKeepingOptions {
  /** Absent where a request could not be run again anyway: the host forwards. */
  readonly requests: KeptRequests | undefined;
  readonly store: JobStore;
  readonly logger: Logger;
}

export interface KeepableRequest {
  readonly req: IncomingMessage;
  readonly body: RequestBody;
  /** Below the mount, without the query. */
  readonly path: string;
  /** The caller's address; `''` where it is not known. */
  readonly ip: string;
}

/** One generation request on the disk: so that its job can be run after a restart, or once more when it has failed. */
export class RequestKeeping {
  readonly #options: RequestKeepingOptions;
  readonly #request: KeepableRequest;
  #isKept = false;
  /** There may be a file of this request. */
  #mayBeOnDisk = false;
  /** The kept request, once it must not be found any more. */
  #file: RequestFile | undefined;
  /**
   * Whether the request may get to the disk: a secret in a body must not, and a body that cannot be read may hold one.
   */
  isAllowed = false;

  constructor(options: RequestKeepingOptions, request: KeepableRequest) {
    this.#options = options;
    this.#request = request;
  }

  /** True once the request is durable, so that the next process would run its job if that has not begun. */
  get isKept(): boolean {
    return this.#isKept;
  }

  /**
   * Makes the request durable, before it is handed on. Resolves to false where that should be done and could not be, or
   * not in time. Never rejects.
   */
  async keepForRestart(jobId: string): Promise<boolean> {
    const { requests, logger } = this.#options;
    if (!requests || !this.isAllowed) return true;
    this.#mayBeOnDisk = true;
    try {
      await this.#request.body.moveTo(async (chunks) => {
        await requests.keep(jobId, this.#head(), chunks);
        return () => this.#chunks(jobId);
      }, AbortSignal.timeout(KEEP_WITHIN_MS));
      this.#isKept = true;
      return true;
    } catch (error) {
      logger.warn(`Job ${jobId} could not be run after a restart: ${messageOf(error)}`);
      // What is kept too late must not be run.
      requests.remove(jobId).catch((reason: unknown) => logger.warn(messageOf(reason)));
      return false;
    }
  }

  /** The request is one that was kept: it is read from there, and not held in memory until its turn comes. */
  async goOnFromDisk(jobId: string): Promise<void> {
    this.#mayBeOnDisk = true;
    await this.#request.body.moveTo(async () => () => this.#chunks(jobId));
    this.#isKept = true;
  }

  /**
   * A job that would be run after a restart must not have been run before: that it has begun has to be on record first.
   * Where it cannot be, or not in time, at least the kept request goes. Never rejects.
   *
   * @param started resolves to whether it is on record.
   */
  async beforeHandOn(jobId: string, started: Promise<boolean>): Promise<void> {
    const { requests, logger } = this.#options;
    if (!this.#isKept || !requests) return;
    let isOnRecord = false;
    const recording = started.then((done) => {
      isOnRecord = done;
    });
    await atMost(KEEP_WITHIN_MS, recording);
    if (isOnRecord) return;
    const remove = async () => {
      this.#file = await requests.open(jobId);
      await requests.remove(jobId);
    };
    const removing = remove().catch((error: unknown) => {
      logger.warn(`Job ${jobId} may be run twice if the gateway dies: ${messageOf(error)}`);
    });
    await atMost(KEEP_WITHIN_MS, removing);
  }

  /**
   * The job has ended: the request of one that failed stays, so that it can be run again; that of any other goes. Lets go
   * of the body. Never rejects.
   */
  async settle(job: RunningJob): Promise<void> {
    const { requests, store, logger } = this.#options;
    const { body } = this.#request;
    try {
      if (!job.failed) {
        if (this.#mayBeOnDisk) await requests?.remove(job.id);
        return;
      }
      // There is none of a body that is read from the disk.
      const copy = this.isAllowed ? body.keptCopy() : undefined;
      if (!requests || !copy) return;
      // Nobody has been promised that it is there.
      await requests.keep(job.id, this.#head(), copy, 'loosely');
      // The job may have been removed meanwhile.
      if (!(await store.get(job.id))) await requests.remove(job.id);
    } catch (error) {
      logger.warn(messageOf(error));
    } finally {
      await Promise.allSettled([this.#file?.close(), body.discard()]);
    }
  }

  async *#chunks(jobId: string): AsyncGenerator<Buffer, void> {
    const file = this.#file ?? (await this.#options.requests?.open(jobId));
    if (!file) throw new Error('The kept request cannot be read');
    try {
      yield* file.chunks();
    } finally {
      await file.close();
    }
  }

  #head(): RequestHead {
    const { req, body, path, ip } = this.#request;
    const headers: Record<string, string> = {};
    for (const name of KEPT_HEADERS) {
      const value = req.headers[name];
      // A parser of the host's has undone the encoding.
      const isUndone = name === 'content-encoding' && body.parsed;
      if (typeof value === 'string' && !isUndone) headers[name] = value;
    }
    // One that is the gateway's own has been taken away by now.
    const needsLogin = Boolean(req.headers.authorization);
    return {
      method: req.method ?? 'POST',
      url: req.url ?? path,
      headers,
      ip,
      ...(needsLogin && { needs_login: true }),
    };
  }
}
