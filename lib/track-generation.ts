import { join } from 'node:path';
import type { Request, RequestHandler, Response } from 'express';
import type { Backend } from './backends/backend.js';
import { GenerationAnswer } from './generation-answer.js';
import type { EarlyHeadOptions } from './http/early-head.js';
import { RequestBody } from './http/request-body.js';
import type { ImageStore } from './images/image-store.js';
import type { JobQueue } from './job-queue.js';
import type { JobRecorder } from './job-recorder.js';
import { memberEdits } from './json/member-edits.js';
import { editedText, type TextEdit } from './json/text-edits.js';
import { TopLevelMembers } from './json/top-level-members.js';
import type { Logger } from './logger.js';

/** Below the tracker's folder: request bodies that are too large for memory, and answers that wait for their client. */
export const REQUEST_FOLDER = 'requests';
export const SPOOL_FOLDER = 'spool';

export interface TrackGenerationOptions {
  readonly backends: readonly Backend[];
  readonly recorder: JobRecorder;
  readonly queue: JobQueue;
  readonly images: ImageStore;
  readonly logger: Logger;
  /** The tracker's folder. */
  readonly dir: string;
  readonly earlyHead: EarlyHeadOptions;
  readonly jobTimeoutMs: number;
  /** True where the handler behind is the tracker's own forwarder. */
  readonly forwards: boolean;
  /** False where generations pass untracked because somebody has switched the tracking off. */
  readonly isOn: () => boolean;
  /** Resolves to whether jobs can be recorded now. Never rejects. */
  readonly canRecord: () => Promise<boolean>;
  /** Who makes a request, where that is known. Never rejects. */
  readonly userOf: (req: Request) => Promise<string | undefined>;
}

/**
 * The middleware in front of whatever forwards: it recognises a generation request, takes its body in, records the job,
 * waits for a slot, and hands the request on with its response detached. Every other request passes untouched.
 */
export function trackGeneration(options: TrackGenerationOptions): RequestHandler {
  return (req, res, next) => {
    const backend = options.backends.find((candidate) => candidate.matches(req.method, req.path));
    // Of a client that left, or was answered, while somebody in front was busy there is nothing left to track.
    if (!backend || !options.isOn() || req.socket.destroyed || res.headersSent) {
      next();
      return;
    }
    new Generation(options, backend, req, res).run(next).catch((error: unknown) => {
      options.logger.error('A generation request could not be tracked', error);
      next(error);
    });
  };
}

class Generation {
  readonly #options: TrackGenerationOptions;
  readonly #backend: Backend;
  readonly #req: Request;
  readonly #members = new TopLevelMembers();
  readonly #body: RequestBody;
  readonly #answer: GenerationAnswer;
  readonly #user: Promise<string | undefined>;

  /** Both sides are taken hold of at once: what happens to them while we wait must not be missed. */
  constructor(options: TrackGenerationOptions, backend: Backend, req: Request, res: Response) {
    this.#options = options;
    this.#backend = backend;
    this.#req = req;
    const readable = req.headers['content-encoding'] === undefined || req.readableEnded;
    this.#body = new RequestBody(req, {
      directory: join(options.dir, REQUEST_FOLDER),
      onChunk: (chunk) => readable && this.#members.write(chunk),
    });
    this.#answer = new GenerationAnswer(req, res, {
      images: options.images,
      logger: options.logger,
      spoolDirectory: join(options.dir, SPOOL_FOLDER),
      earlyHead: options.earlyHead,
    });
    res.once('close', () => void this.#body.discard());
    this.#user = options.userOf(req);
  }

  async run(next: () => void): Promise<void> {
    const { recorder, queue, jobTimeoutMs, forwards } = this.#options;
    const { response, earlyHead } = this.#answer;
    if (!(await this.#body.received)) {
      // No whole request, no job: nothing has reached the backend, and nothing will.
      response.abandon();
      return;
    }
    if (response.answered) return;
    this.#members.end();
    const facts = this.#backend.readRequest(this.#members);
    const user = await this.#user;
    const job = (await this.#options.canRecord())
      ? await recorder.begin({
          prompt: facts.prompt,
          ip: this.#req.ip ?? '',
          backend: this.#backend.name,
          path: this.#req.path,
          ...(user !== undefined && { user }),
          ...(Object.keys(facts.fields).length > 0 && { request: facts.fields }),
        })
      : undefined;
    if (response.answered) {
      const message = 'The request was answered in front of the tracker before the backend got it';
      await job?.fail({ code: 'cancelled', message });
      return;
    }
    if (!job) {
      if (response.lost) {
        response.abandon();
        return;
      }
      response.release();
      this.#body.release();
      next();
      return;
    }
    const ticket = queue.enter(job.id);
    this.#answer.begin({
      job,
      backend: this.#backend,
      imagesUnwanted: facts.imagesUnwanted,
      backendIsFree: () => ticket.leave(),
    });
    if (ticket.waiting || this.#options.earlyHead.headAfterMs === 0) earlyHead.sendNow();
    await ticket.granted;
    if (job.ended) return;
    job.start();
    this.#answer.limitTime(jobTimeoutMs);
    this.#change(this.#backend.changesTo(this.#members, { jobId: job.id, forwards }));
    response.askForPlainAnswer();
    earlyHead.startGrace(this.#body);
    next();
  }

  /** Makes the changes in whichever form the handler behind will read the body. */
  #change(changes: Readonly<Record<string, string | boolean>>): void {
    const edits = memberEdits(this.#members, changes);
    if (this.#body.parsed) this.#req.body = changedBody(this.#req.body, edits, changes);
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
