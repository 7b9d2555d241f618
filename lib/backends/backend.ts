import type { ImageStore } from '../images/image-store.js';
import type { KeptAnswer } from '../images/kept-answer.js';
import type { BackendName, JobError, JobProgress, RequestFields } from '../job.js';
import type { TopLevelMembers } from '../json/top-level-members.js';

/** What a generation request says of itself. */
export interface RequestFacts {
  /** `''` where there is none. */
  readonly prompt: string;
  readonly fields: RequestFields;
  /** The client wants no images in its answer. */
  readonly imagesUnwanted: boolean;
  /** The body holds somebody's password, or what is like one. */
  readonly hasSecrets: boolean;
}

export interface CaptureOptions {
  readonly images: ImageStore;
  /** What the names of the job's files begin with: `2026-11-22/Ab12Cd34`. */
  readonly stem: string;
  readonly jobId: string;
  /** The answer's status, 2xx. */
  readonly status: number;
  readonly contentType: string | undefined;
  /** For requests whose client wants no images: the answer is held, and given without them at the end. */
  readonly imagesUnwanted: boolean;
  /** The folder for what does not fit into memory. */
  readonly spoolDirectory: string;
}

/** What was kept of a whole answer. */
export interface CapturedAnswer {
  /** The whole images, in the answer's order, under their final names. */
  readonly output_paths: readonly string[];
  readonly sidecar?: string;
  /** The size of these files together; absent where there is none. */
  readonly bytes?: number;
  /** Why the job is not Completed, where it is not. */
  readonly problem?: JobError;
  /** The backend has only queued the job, and this is what it says of it. Nothing has been kept yet then. */
  readonly ticket?: Ticket;
}

/** What a backend answers that queues a job instead of waiting for it. */
export interface Ticket {
  /** What the backend calls the job. */
  readonly promptId: string;
  /** The answer as it came. */
  readonly text: string;
}

/** Takes the images out of a 2xx answer as it passes. */
export interface AnswerCapture {
  /** Takes the next bytes. Never throws. */
  write(chunk: Buffer): void;
  /** False while the disk lags behind. */
  readonly accepting: boolean;
  /** Called when `accepting` turns true again. */
  onAccepting: () => void;
  /** The answer is over, whole as far as HTTP can tell. Never rejects. */
  end(): Promise<CapturedAnswer>;
  /** What the client gets, after `end` was called, in place of what passed. Only where images are unwanted. */
  clientAnswer(): Buffer | undefined;
  /** The answer broke off. What is whole is kept. Never rejects. */
  breakOff(): Promise<CapturedAnswer>;
}

/** A kept answer as a client gets it. */
export interface AnswerAgain {
  /** Undefined where that is known only once it has been read. */
  readonly sizeBytes: number | undefined;
  chunks(): AsyncIterable<Buffer>;
}

/** What a backend says of one of its tasks. */
export type TaskState = 'running' | 'queued' | 'finished' | 'unknown';

/** The calls of our own with which one task is looked at and stopped. All reject with `BACKEND_UNANSWERED`. */
export interface BackendTasks {
  look(url: URL, taskId: string): Promise<TaskState>;
  /**
   * Stops the task that runs. Rejects with `NOT_CANCELLABLE` where the backend refuses.
   */
  interrupt(url: URL, taskId: string): Promise<void>;
  /** True where an interrupt hits whatever runs when it arrives, and leaves no sign with the job that it has hit. */
  readonly interruptsAnything: boolean;
  /** Takes a task out of the backend's own queue. Absent where nothing can be taken out of that. */
  drop?(url: URL, taskId: string): Promise<void>;
}

/**
 * The calls of our own with which a backend is asked how far it is. Both reject with `BACKEND_UNANSWERED`, or with the
 * signal's reason.
 */
export interface ProgressSource {
  /** Undefined where the backend does not know the task, or is not at it. */
  ofTask(url: URL, taskId: string, signal: AbortSignal): Promise<JobProgress | undefined>;
  /** Whoever it is for. Undefined where nothing runs. */
  ofWhateverRuns(url: URL, signal: AbortSignal): Promise<JobProgress | undefined>;
}

/** All that one kind of backend has of its own. */
export interface Backend {
  readonly name: BackendName;
  /** Its name for people. */
  readonly title: string;
  /** What to check when it cannot be reached. */
  readonly hint: string;
  /**
   * `result`: the answer to a generation request comes when the job is done. `ticket`: it comes at once, and the job has to
   * be followed to its end.
   */
  readonly answers: 'result' | 'ticket';
  /** So much of one top-level member of a request is looked at, in bytes. */
  readonly maxMemberBytes: number;
  /** What GET answers at once, without a login, whatever the backend is doing. */
  readonly pingPath: string;
  /** What GET answers with 401 to a wrong login, where the backend has logins of its own, and at once with 2xx to a right one. */
  readonly loginPath: string;
  /**
   * True for a generation request, however its path is written: what goes on behind may read it less strictly than we
   * do. `path` is the one below the mount, without the query.
   */
  matches(method: string | undefined, path: string): boolean;
  /** True for what is meant for this backend where another one gets all the rest. `path` as above. */
  owns(path: string): boolean;
  /** What a request does to whatever the backend is running, where it ends that early. `path` as above. */
  disturbance(method: string | undefined, path: string): 'interrupt' | 'skip' | undefined;
  readRequest(members: TopLevelMembers): RequestFacts;
  /**
   * The top-level members that have to be different in the request that the backend gets.
   *
   * @param options.forwards true where the tracker itself forwards; a host's handler gets as little changed as possible.
   */
  changesTo(
    members: TopLevelMembers,
    options: { jobId: string; forwards: boolean },
  ): Readonly<Record<string, string | boolean>>;
  /** What the backend will call the task of a request with these changes; undefined where that cannot be told. */
  taskOf(members: TopLevelMembers, options: { jobId: string; forwards: boolean }): string | undefined;
  readonly tasks: BackendTasks;
  /** Absent where the backend tells of its progress by itself. */
  readonly progress?: ProgressSource;
  captureAnswer(options: CaptureOptions): AnswerCapture;
  /** What a client gets that asks for a kept answer once more: the same bytes as the first one. */
  answerAgain(kept: KeptAnswer, options: { imagesUnwanted: boolean }): Promise<AnswerAgain>;
  /** What an error answer says, in one line. */
  explainError(status: number, body: string): string;
  /** What the owner should do about an error answer, where that is plain. */
  advise(status: number, body: string): string | undefined;
}
