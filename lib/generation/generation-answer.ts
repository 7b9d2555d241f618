import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Transform } from 'node:stream';
import { atMost } from '../at-most.js';
import type { AnswerCapture, Backend } from '../backends/backend.js';
import { messageOf } from '../errors.js';
import { createAnswerDecoder, isPlain } from '../http/answer-decoder.js';
import { ClientOutlet } from '../http/client-outlet.js';
import { EXPOSED_HEADERS } from '../http/cross-origin.js';
import { type AnswerHead, type AnswerListener, DetachedResponse } from '../http/detached-response.js';
import { EarlyHead, type EarlyHeadOptions } from '../http/early-head.js';
import type { ImageStore } from '../images/image-store.js';
import type { JobError } from '../job.js';
import type { RunningJob } from '../jobs/running-job.js';
import type { Logger } from '../logger.js';

/** The end of an answer waits so long for the job to be Completed, so that who has the answer finds the job complete. */
const HOLD_END_MS = 1_000;
/** What a backend calls a job is on record before the client hears of it; a stuck disk must not keep it from that. */
const HOLD_TICKET_MS = 2_000;
const MAX_HELD_BYTES = 1024 * 1024;
/** So much of an error's body is looked at. */
const MAX_ERROR_BYTES = 64 * 1024;

export interface GenerationAnswerOptions {
  readonly images: ImageStore;
  readonly logger: Logger;
  readonly spoolDirectory: string;
  readonly earlyHead: EarlyHeadOptions;
  /** The backend has only queued this job: it is to be followed to its end. */
  readonly follow: (job: RunningJob) => void;
}

/** The job that an answer belongs to, and what is done when the backend is through with it. */
export interface AnsweredJob {
  readonly job: RunningJob;
  readonly backend: Backend;
  readonly imagesUnwanted: boolean;
  /** Called once, when the backend has answered or nothing more is to be expected of it. */
  readonly backendIsFree: () => void;
}

/**
 * The answer to one generation request, from the handler's first byte to the job's end: its images go to the store,
 * its bytes to the client, and its outcome to the record.
 */
export class GenerationAnswer implements AnswerListener {
  readonly response: DetachedResponse;
  readonly earlyHead: EarlyHead;
  readonly #req: IncomingMessage;
  readonly #options: GenerationAnswerOptions;
  readonly #outlet: ClientOutlet;
  #answered: AnsweredJob | undefined;
  #capture: AnswerCapture | undefined;
  #decoder: Transform | undefined;
  #encodingUnknown: string | undefined;
  #errorBody: Buffer[] = [];
  #errorBytes = 0;
  #bytesExpected: number | undefined;
  #bytesReceived = 0;
  /** The last bytes of an answer of known length: the client would not wait for its end. Of a ticket, all of them. */
  readonly #held: Buffer[] = [];
  #heldBytes = 0;
  #timeout: NodeJS.Timeout | undefined;
  /** The answer has ended in one way or the other. */
  #over = false;

  constructor(req: IncomingMessage, res: ServerResponse, options: GenerationAnswerOptions) {
    this.#req = req;
    this.#options = options;
    this.response = new DetachedResponse(req, res, this);
    this.earlyHead = new EarlyHead(req, this.response, options.earlyHead);
    this.#outlet = new ClientOutlet(this.response, { directory: options.spoolDirectory });
    this.#outlet.onAccepting = () => this.#resumeWhenAccepting();
  }

  /** The job is on record: its id may be shown, and whatever comes belongs to it. */
  begin(answered: AnsweredJob): void {
    this.#answered = answered;
    this.response.takeOver();
    this.showId(answered.job.id);
    answered.job.onBrokenOff((error) => void this.#failBroken(error));
  }

  /** From now on the backend has so much time for the job. */
  limitTime(jobTimeoutMs: number): void {
    this.#timeout = setTimeout(() => this.#endLate(jobTimeoutMs), jobTimeoutMs).unref();
  }

  head(head: AnswerHead): void {
    if (this.#over) return;
    const { backend, job, imagesUnwanted, backendIsFree } = this.#job;
    job.answered();
    backendIsFree();
    this.earlyHead.stopGrace();
    const { response } = this;
    const encoding = headerText(head, 'content-encoding');
    this.#bytesExpected = lengthOf(headerText(head, 'content-length'));
    if (!isPlain(encoding)) this.#decode(encoding as string);
    if (isSuccess(head)) {
      this.#capture = backend.captureAnswer({
        images: this.#options.images,
        stem: `${job.createdAt.toISOString().slice(0, 10)}/${job.id}`,
        jobId: job.id,
        status: head.status,
        contentType: headerText(head, 'content-type'),
        imagesUnwanted,
        spoolDirectory: this.#options.spoolDirectory,
      });
      this.#capture.onAccepting = () => this.#resumeWhenAccepting();
    }
    if (response.early) return;
    // The A1111 extension may still be installed and say an id of its own.
    this.showId(job.id);
    if (this.#rewritesAnswer) {
      for (const name of ['content-length', 'content-encoding', 'etag']) response.removeHeader(name);
    }
  }

  data(chunk: Buffer): boolean {
    if (this.#over) return true;
    this.#bytesReceived += chunk.length;
    if (this.#decoder) {
      // What follows the end of the encoded answer means nothing.
      if (!this.#decoder.readableEnded) this.#decoder.write(chunk);
      if (!this.response.early) this.#toClient(chunk);
    } else {
      this.#plainData(chunk);
    }
    return this.#accepting;
  }

  end(): void {
    const missing = (this.#bytesExpected ?? 0) - this.#bytesReceived;
    if (missing > 0) {
      this.cut(new Error(`The backend ended its answer ${missing} bytes too early`));
    } else if (this.#decoder && !this.#decoder.readableEnded) {
      // 'end' follows when all is decoded, or 'error'.
      this.#decoder.once('end', () => void this.#endAnswer());
      this.#decoder.end();
    } else {
      void this.#endAnswer();
    }
  }

  cut(reason: Error): void {
    void this.#failBroken({ code: 'backend', message: messageOf(reason), ...statusOf(this.response.head) });
  }

  get #job(): AnsweredJob {
    if (!this.#answered) throw new Error('Expected the job to be on record before its answer');
    return this.#answered;
  }

  /** The early head has promised a body: neither an error nor an answer without one may follow it. */
  get #fitsEarlyHead(): boolean {
    const status = this.response.head?.status;
    const isReadable = this.#encodingUnknown === undefined;
    return this.#capture !== undefined && isReadable && status !== 204 && status !== 205;
  }

  /** The client gets another answer than the backend gave. */
  get #rewritesAnswer(): boolean {
    return this.#capture !== undefined && this.#encodingUnknown === undefined && this.#job.imagesUnwanted;
  }

  get #accepting(): boolean {
    return (this.#capture?.accepting ?? true) && this.#outlet.accepting && !this.#decoder?.writableNeedDrain;
  }

  #resumeWhenAccepting(): void {
    if (this.#accepting) this.response.resume();
  }

  /** Puts a job's id into the head, as long as that has not left. */
  showId(id: string): void {
    const { response } = this;
    response.setHeader('X-Job-ID', id);
    if (this.#req.headers.origin === undefined) return;
    const others = (response.getHeader('access-control-expose-headers') ?? '')
      .split(/\s*,\s*/)
      .filter((name) => name && !EXPOSED_HEADERS.toLowerCase().includes(name.toLowerCase()));
    response.setHeader('Access-Control-Expose-Headers', [EXPOSED_HEADERS, ...others].join(', '));
  }

  hideId(): void {
    this.response.removeHeader('X-Job-ID');
  }

  /** The answer comes encoded although it was asked for as it is. */
  #decode(encoding: string): void {
    const decoder = createAnswerDecoder(encoding);
    if (!decoder) {
      this.#encodingUnknown = encoding;
      return;
    }
    this.#decoder = decoder;
    decoder.on('data', (chunk: Buffer) => this.#plainData(chunk));
    decoder.on('drain', () => this.#resumeWhenAccepting());
    decoder.on('error', (error) => {
      this.cut(new Error(`The answer is not the ${encoding} that it says it is: ${error.message}`));
    });
  }

  /** Bytes of the answer as the backend meant them. */
  #plainData(chunk: Buffer): void {
    if (this.#capture) {
      if (this.#encodingUnknown === undefined) this.#capture.write(chunk);
    } else if (this.#errorBytes < MAX_ERROR_BYTES) {
      this.#errorBody.push(chunk);
      this.#errorBytes += chunk.length;
    }
    if (!this.#decoder || this.response.early) this.#toClient(chunk);
  }

  #toClient(chunk: Buffer): void {
    if (this.#rewritesAnswer) return;
    this.earlyHead.stop();
    // A failure whose head has not left keeps its body; after an early head the client gets nothing of it.
    if (this.response.early && !this.#fitsEarlyHead) return;
    const isLast = !this.response.early && this.#bytesReceived === this.#bytesExpected;
    const isTicket = this.#job.backend.answers === 'ticket' && this.#heldBytes < MAX_HELD_BYTES;
    if (isLast || isTicket) {
      this.#heldBytes += chunk.length;
      this.#held.push(chunk);
    } else {
      this.#release();
      this.#outlet.write(chunk);
    }
  }

  #release(): void {
    for (const chunk of this.#held.splice(0)) this.#outlet.write(chunk);
  }

  async #endAnswer(): Promise<void> {
    if (this.#over) return;
    this.#over = true;
    const settled = this.#capture
      ? this.#settleSuccess(this.#capture)
      : this.#job.job.fail(this.#backendError());
    await atMost(this.#job.backend.answers === 'ticket' ? HOLD_TICKET_MS : HOLD_END_MS, settled);
    this.#stopTimers();
    this.#decoder?.destroy();
    if (this.response.early && !this.#fitsEarlyHead) {
      this.response.abandon();
      return;
    }
    const instead = this.#rewritesAnswer && this.#capture?.clientAnswer();
    if (instead) this.#outlet.write(instead);
    this.#release();
    this.#outlet.end();
  }

  async #settleSuccess(capture: AnswerCapture): Promise<void> {
    const { job } = this.#job;
    const { problem, ticket, ...kept } = await capture.end();
    if (this.#encodingUnknown !== undefined) {
      const message = `The answer is encoded as "${this.#encodingUnknown}", which cannot be read here`;
      await job.fail({ code: 'not_stored', message }, kept);
    } else if (problem) {
      await job.fail(problem, kept);
    } else if (ticket) {
      await job.queued(ticket);
      this.#options.follow(job);
    } else {
      await job.complete(kept);
    }
  }

  #backendError(): JobError {
    const { backend } = this.#job;
    const status = this.response.head?.status ?? 0;
    const body = Buffer.concat(this.#errorBody).toString('utf8', 0, MAX_ERROR_BYTES);
    const advice = backend.advise(status, body);
    if (advice) this.#options.logger.warn(`${backend.title} answered ${status}. ${advice}`);
    const message = [backend.explainError(status, body), advice].filter(Boolean).join(' ');
    // What proxies answer when there is nobody to forward to.
    const code = status === 502 || status === 504 ? 'unreachable' : 'backend';
    return { code, message, status };
  }

  /** The answer will never be whole: what is whole of it is kept, and every client sees an error. */
  async #failBroken(error: JobError): Promise<void> {
    if (this.#over) return;
    this.#over = true;
    const { job, backendIsFree } = this.#job;
    backendIsFree();
    this.#stopTimers();
    const settle = async () => job.fail(error, await this.#capture?.breakOff());
    await atMost(HOLD_END_MS, settle());
    this.#decoder?.destroy();
    this.response.abandon();
  }

  #endLate(jobTimeoutMs: number): void {
    const seconds = Math.round(jobTimeoutMs / 1000);
    void this.#failBroken({
      code: 'timeout',
      message: `The job took longer than ${seconds} s (\`jobTimeout\`)`,
    });
  }

  #stopTimers(): void {
    this.earlyHead.stop();
    clearTimeout(this.#timeout);
  }
}

function isSuccess(head: AnswerHead): boolean {
  return head.status >= 200 && head.status <= 299;
}

function statusOf(head: AnswerHead | undefined): { status?: number } {
  return head ? { status: head.status } : {};
}

function headerText(head: AnswerHead, name: string): string | undefined {
  const value = head.headers[name];
  return typeof value === 'object' ? value.join(', ') : value?.toString();
}

function lengthOf(text: string | undefined): number | undefined {
  return text !== undefined && /^\d+$/.test(text) ? Number(text) : undefined;
}
