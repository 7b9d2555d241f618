import { createHash } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { atMost } from '../at-most.js';
import type { Backend, RequestFacts } from '../backends/backend.js';
import { messageOf } from '../errors.js';
import type { GatewayBackend } from '../gateway-backends.js';
import type { EarlyHeadOptions } from '../http/early-head.js';
import { answerError } from '../http/error-answer.js';
import { saysAll } from '../http/parsed-body.js';
import { RequestBody } from '../http/request-body.js';
import { shareShape } from '../http/shared-shape.js';
import type { ImageStore } from '../images/image-store.js';
import type { Job } from '../job.js';
import {
  type Claim,
  type Deliveries,
  type Delivery,
  identifyRequest,
  type RequestIdentity,
} from '../jobs/deliveries.js';
import { jobJson, jobUrl } from '../jobs/job-json.js';
import type { QueueTicket, Reservation } from '../jobs/job-queue.js';
import type { JobRecorder } from '../jobs/job-recorder.js';
import type { RunningJob } from '../jobs/running-job.js';
import { memberEdits } from '../json/member-edits.js';
import { editedText, type TextEdit } from '../json/text-edits.js';
import { TopLevelMembers } from '../json/top-level-members.js';
import type { Logger } from '../logger.js';
import type { JobStore } from '../stores/job-store.js';
import type { KeptRequests } from '../stores/kept-requests.js';
import { giveEarlierAnswer } from './earlier-answer.js';
import { giveEarlierTicket } from './earlier-ticket.js';
import { GenerationAnswer } from './generation-answer.js';
import { answerQueueFull } from './queue-full.js';
import { RequestKeeping } from './request-keeping.js';

/** Whoever was answered with 202 may ask for the job after so many seconds. */
const ASK_AGAIN_SECONDS = 5;
/** What follows from a job that has ended keeps the gateway from ending so long. */
const HAND_OVER_WITHIN_MS = 2_000;
const SETTLE_WITHIN_MS = 10_000;

export interface GenerationOptions {
  readonly recorder: JobRecorder;
  readonly store: JobStore;
  readonly images: ImageStore;
  /** Absent where every request is a job of its own. */
  readonly deliveries: Deliveries | undefined;
  readonly requests: KeptRequests;
  readonly logger: Logger;
  /** The folder for request bodies that are kept or too large for memory. */
  readonly requestFolder: string;
  /** The folder for answers that wait for their client. */
  readonly spoolFolder: string;
  readonly earlyHead: EarlyHeadOptions;
  readonly jobTimeoutMs: number;
  /** Resolves to whether jobs can be recorded now. Never rejects. */
  readonly canRecord: () => Promise<boolean>;
  /** A backend has only queued this job: it is to be followed to its end. */
  readonly follow: (job: RunningJob) => void;
  /** A job's client has left before it had its whole answer. */
  readonly onClientLost: (job: RunningJob) => void;
}

/** A request on which a parser of the host's may have left a body. */
type GenerationRequest = IncomingMessage & { body?: unknown };

/** Where a generation request comes from. */
export interface GenerationOrigin {
  readonly at: GatewayBackend;
  readonly req: GenerationRequest;
  readonly res: ServerResponse;
  /** Below the mount, without the query. */
  readonly path: string;
  /** The caller's address; `''` where it is not known. */
  readonly ip: string;
  /** The path below which the host mounted the tracker, `''` for the root. */
  readonly mountPath: string;
  /** Who makes the request, where that is known. Never rejects. */
  readonly user: Promise<string | undefined>;
  /** What tells the caller from any other; undefined where nothing does. */
  readonly callerOf: (user: string | undefined) => string | undefined;
  /** The client would rather not wait for the answer (RFC 7240, `respond-async`). */
  readonly prefersAsync: boolean;
  /** A job that is on record and has not reached the backend yet. */
  readonly resumed?: Job;
  /** The failed job that this is another try of. */
  readonly retryOf?: string;
}

interface BegunJob {
  readonly job: RunningJob;
  readonly ticket: QueueTicket;
  readonly facts: RequestFacts;
  /** Nobody waits for its answer: its client was answered with 202. */
  readonly isAccepted: boolean;
}

/** One generation request, from its first byte to the moment when it is handed on. */
export class Generation {
  readonly #options: GenerationOptions;
  readonly #origin: GenerationOrigin;
  readonly #members: TopLevelMembers;
  readonly #isReadable: boolean;
  readonly #body: RequestBody;
  readonly #bodyHash = createHash('sha256');
  readonly #answer: GenerationAnswer;
  readonly #keeping: RequestKeeping;
  #begun: BegunJob | undefined;
  /** Resolves when the client has been handed the last byte, or has left before. */
  #handedOver: Promise<void> = Promise.resolve();

  /** Both sides are taken hold of at once: what happens to them while we wait must not be missed. */
  constructor(options: GenerationOptions, origin: GenerationOrigin) {
    const { req, res } = origin;
    shareShape(req);
    shareShape(res);
    this.#options = options;
    this.#origin = origin;
    this.#members = new TopLevelMembers({ maxValueBytes: this.#backend.maxMemberBytes });
    this.#isReadable = req.headers['content-encoding'] === undefined || req.readableEnded;
    this.#body = new RequestBody(req, {
      directory: options.requestFolder,
      onChunk: (chunk) => {
        this.#bodyHash.update(chunk);
        if (this.#isReadable) this.#members.write(chunk);
      },
      keep: this.#forwards,
    });
    // A request that the host forwards could not be run again anyway.
    const requests = this.#forwards ? options.requests : undefined;
    this.#keeping = new RequestKeeping(
      { ...options, requests },
      { req, body: this.#body, path: origin.path, ip: origin.ip },
    );
    this.#answer = new GenerationAnswer(req, res, {
      images: options.images,
      logger: options.logger,
      spoolDirectory: options.spoolFolder,
      // A ticket comes at once, and would be spoilt by a head that promises JSON of any status.
      earlyHead: this.#queuesItself ? { ...options.earlyHead, headAfterMs: false } : options.earlyHead,
      follow: options.follow,
    });
    res.once('close', () => {
      // Of a job that failed, the request is still to be kept.
      if (!this.#begun) void this.#body.discard();
    });
  }

  /**
   * Takes the request in and records its job. Resolves to the job; to `full` where the queue is, and the client has been
   * told; to undefined where there is no job, and `next` has been called if somebody is to answer.
   */
  async begin(next: () => void): Promise<RunningJob | 'full' | undefined> {
    const { recorder } = this.#options;
    const { queue } = this.#origin.at;
    const { response } = this.#answer;
    const { resumed } = this.#origin;
    if (!(await this.#body.received)) {
      // No whole request, no job: nothing has reached the backend, and nothing will.
      response.abandon();
      return undefined;
    }
    if (response.answered) return undefined;
    this.#members.end();
    const facts = this.#backend.readRequest(this.#members);
    this.#keeping.isAllowed = this.#isBodyWhole && this.#members.whole && !facts.hasSecrets;
    if (resumed) {
      await this.#keeping.goOnFromDisk(resumed.id);
      const job = recorder.resume(resumed);
      return this.#enter({ job, ticket: queue.enter(job.id), facts, isAccepted: true });
    }
    const user = await this.#origin.user;
    const canRecord = await this.#options.canRecord();
    const identity = canRecord ? this.#identify(user) : undefined;
    if (identity && (await this.#giveEarlierAnswer(identity, facts))) return undefined;
    const place = canRecord ? queue.reserve() : undefined;
    const begun = place && (await this.#record(place, facts, user, identity));
    if (begun) return this.#enter(begun);
    if (identity) this.#options.deliveries?.giveUp(identity);
    if (canRecord && !place) {
      // Its body has been taken in, so that the client is there to hear it.
      this.#answerWithoutJob(() => answerQueueFull(this.#origin.req, this.#origin.res, queue));
      return 'full';
    }
    place?.giveUp();
    if (response.lost) {
      response.abandon();
    } else if (!response.answered) {
      response.release();
      this.#body.release();
      next();
    }
    return undefined;
  }

  /** Waits for the job's turn and hands the request on. */
  async handOn(next: () => void): Promise<void> {
    if (!this.#begun) return;
    const { job, ticket } = this.#begun;
    const { response, earlyHead } = this.#answer;
    if (ticket.waiting || this.#options.earlyHead.headAfterMs === 0) earlyHead.sendNow();
    await ticket.granted;
    if (job.ended) return;
    const mode = { jobId: job.id, forwards: this.#forwards };
    const started = this.#queuesItself
      ? job.handOver()
      : job.start(this.#backend.taskOf(this.#members, mode));
    await this.#keeping.beforeHandOn(job.id, started);
    if (job.ended) return;
    this.#answer.limitTime(this.#options.jobTimeoutMs);
    this.#change(this.#backend.changesTo(this.#members, mode));
    response.askForPlainAnswer();
    earlyHead.startGrace(this.#body);
    next();
  }

  get #backend(): Backend {
    return this.#origin.at.backend;
  }

  /** The backend answers with a ticket, and works on the job later. */
  get #queuesItself(): boolean {
    return this.#backend.answers === 'ticket';
  }

  /** The handler behind is the tracker's own forwarder. */
  get #forwards(): boolean {
    return this.#origin.at.forwarder !== undefined;
  }

  /** Records the job. Undefined where that cannot be done, or there is nobody any more to do it for. */
  async #record(
    place: Reservation,
    facts: RequestFacts,
    user: string | undefined,
    identity: RequestIdentity | undefined,
  ): Promise<BegunJob | undefined> {
    const { recorder, deliveries } = this.#options;
    const { response } = this.#answer;
    const { ip, path, retryOf } = this.#origin;
    // Whoever asks for another try is not kept waiting either.
    const isAsync = retryOf !== undefined || this.#takes202;
    const job = await recorder.begin({
      prompt: facts.prompt,
      ip,
      backend: this.#backend.name,
      path,
      ...(user !== undefined && { user }),
      ...(Object.keys(facts.fields).length > 0 && { request: facts.fields }),
      ...identity,
      ...(isAsync && { accepted: true }),
      ...(retryOf !== undefined && { retry_of: retryOf }),
    });
    if (!job) return undefined;
    if (response.answered) {
      const message = 'The request was answered in front of the tracker before the backend got it';
      await job.fail({ code: 'cancelled', message });
      return undefined;
    }
    const delivery = identity && deliveries?.begin({ id: job.id, ...identity });
    const isSafe = isAsync && (await this.#keeping.keepForRestart(job.id));
    const isAccepted = retryOf !== undefined || (isSafe && (await this.#accept(job.id)));
    // A client that waits hears of the gateway's end.
    job.isResumable = this.#keeping.isKept && isAccepted;
    if (isAccepted) delivery?.done();
    else this.#watchDelivery(delivery);
    return { job, ticket: place.enter(job.id), facts, isAccepted };
  }

  #enter(begun: BegunJob): RunningJob {
    const { job, ticket, facts } = begun;
    this.#begun = begun;
    this.#answer.begin({
      job,
      backend: this.#backend,
      imagesUnwanted: facts.imagesUnwanted,
      backendIsFree: () => ticket.leave(),
    });
    if (!begun.isAccepted) this.#answer.response.onLost(() => this.#onClientLost(job));
    job.afterwards(
      async () => {
        await atMost(SETTLE_WITHIN_MS, this.#keeping.settle(job));
        await atMost(HAND_OVER_WITHIN_MS, this.#handedOver);
      },
      () => this.#body.discard(),
    );
    void job.over.then(() => this.#options.deliveries?.over(job.id, job.failed));
    return job;
  }

  #onClientLost(job: RunningJob): void {
    if (this.#options.deliveries?.isAbandoned(job.id) ?? true) this.#options.onClientLost(job);
  }

  /** The client would rather not wait, and can read what we answer by ourselves. */
  get #takes202(): boolean {
    return this.#origin.prefersAsync && this.#answer.earlyHead.isReadable;
  }

  /** Answers with 202. False where the client will have to wait after all. */
  async #accept(jobId: string): Promise<boolean> {
    try {
      const record = await this.#options.store.get(jobId);
      return record !== undefined && this.#dismiss(record);
    } catch (error) {
      this.#options.logger.warn(`The client of job ${jobId} has to wait: ${messageOf(error)}`);
      return false;
    }
  }

  /** Tells a client that does not want to wait where its job will be found. */
  #dismiss(job: Job): boolean {
    const { mountPath } = this.#origin;
    this.#answer.showId(job.id);
    const headers = {
      'Content-Type': 'application/json; charset=utf-8',
      'Cache-Control': 'no-store',
      Location: jobUrl(job.id, mountPath),
      'Retry-After': String(ASK_AGAIN_SECONDS),
      'Preference-Applied': 'respond-async',
    };
    const state = { queuePosition: this.#origin.at.queue.positionOf(job.id) };
    const body = Buffer.from(JSON.stringify(jobJson(job, mountPath, state)));
    return this.#answer.response.dismiss(202, headers, body);
  }

  #answerWithoutJob(answer: () => void): void {
    const { response } = this.#answer;
    if (response.lost) {
      response.abandon();
    } else if (!response.answered) {
      response.release();
      answer();
    }
  }

  /** What tells this request again; undefined where it must not be led to an earlier job. */
  #identify(user: string | undefined): RequestIdentity | undefined {
    const { req } = this.#origin;
    if (!this.#options.deliveries || !this.#isBodyWhole || !this.#answer.earlyHead.isReadable)
      return undefined;
    const caller = this.#origin.callerOf(user);
    if (caller === undefined) return undefined;
    const key = req.headers['idempotency-key'];
    return identifyRequest({
      caller,
      method: req.method ?? '',
      url: this.#origin.mountPath + req.url,
      bodyHash: this.#bodyHash.digest('base64'),
      key: typeof key === 'string' && key !== '' ? key : undefined,
    });
  }

  /** Resolves to true where the request has been answered without a job of its own. */
  async #giveEarlierAnswer(identity: RequestIdentity, facts: RequestFacts): Promise<boolean> {
    const { deliveries } = this.#options;
    if (!deliveries) return false;
    for (;;) {
      const claim = await deliveries.claim(identity);
      if (claim === undefined) return false;
      if (claim === 'mismatch') {
        const error = 'Expected the request that this Idempotency-Key came with before, got another one';
        this.#answerWithoutJob(() => answerError(this.#origin.res, 422, error));
        return true;
      }
      if (await this.#give(claim, deliveries, facts)) return true;
      this.#answer.hideId();
    }
  }

  /** Resolves to false where this job has no answer after all. */
  async #give(claim: Claim, deliveries: Deliveries, { imagesUnwanted }: RequestFacts): Promise<boolean> {
    const { job, delivery } = claim;
    const { recorder } = this.#options;
    const { response, earlyHead } = this.#answer;
    // Nobody has promised yet that a job which only waits is run after a restart.
    const isSafe = job.status !== 'Pending' || job.accepted === true;
    if (this.#takes202 && isSafe && this.#dismiss(job)) {
      delivery.done();
      response.abandon();
      return true;
    }
    this.#watchDelivery(delivery);
    response.onLost(() => {
      const running = recorder.find(job.id);
      if (running) this.#onClientLost(running);
    });
    this.#answer.showId(job.id);
    const backend = this.#backend;
    if (this.#queuesItself) {
      return await giveEarlierTicket({ job, delivery, response, recorder, store: this.#options.store });
    }
    const giving = giveEarlierAnswer({
      ...this.#options,
      claim,
      deliveries,
      response,
      earlyHead,
      backend,
      imagesUnwanted,
    });
    const handedOver = giving.then((isGiven) => (isGiven ? this.#handedOver : undefined));
    recorder.hold(deliveries.ended(job.id).then(() => atMost(HAND_OVER_WITHIN_MS, handedOver)));
    return await giving;
  }

  /** A parser of the host's may have left only a part of the body on the request. */
  get #isBodyWhole(): boolean {
    return !this.#body.parsed || saysAll(this.#origin.req);
  }

  /** The last byte has been handed over, or the client has left before. */
  #watchDelivery(delivery: Delivery | undefined): void {
    if (!delivery) return;
    const { response } = this.#answer;
    const { req, res } = this.#origin;
    const { socket } = req;
    this.#handedOver = new Promise((resolve) => {
      const settle = (isWhole: boolean) => {
        if (isWhole) delivery.done();
        else delivery.lost();
        resolve();
      };
      response.onLost(() => settle(false));
      res.once('finish', () => {
        const isOurs = response.finished && !response.lost && !socket.destroyed;
        // Of a write that failed, the response hears before its socket does.
        process.nextTick(() => settle(isOurs && socket.errored === null));
      });
    });
  }

  /** Makes the changes in whichever form the handler behind will read the body. */
  #change(changes: Readonly<Record<string, string | boolean>>): void {
    const { req } = this.#origin;
    const edits = memberEdits(this.#members, changes);
    if (this.#body.parsed) req.body = changedBody(req.body, edits, changes);
    this.#body.handOn(edits, (error) => this.#answer.cut(error));
  }
}

/** What express.json(), express.raw() or express.text() of the host made of a body, with the changes in it. */
function changedBody(
  body: unknown,
  edits: readonly TextEdit[],
  changes: Readonly<Record<string, string | boolean>>,
): unknown {
  if (Buffer.isBuffer(body)) return editedText(body, edits);
  if (typeof body === 'string') return editedText(Buffer.from(body), edits).toString();
  return typeof body === 'object' && body !== null ? Object.assign(body, changes) : body;
}
