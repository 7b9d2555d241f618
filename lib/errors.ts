/** The codes of the errors that this library throws or rejects with. */
export type JobTrackerErrorCode =
  /** An option is unknown or its value makes no sense. Thrown by `jobTracker()`. */
  | 'INVALID_OPTION'
  /** A parameter of one of the tracker's own routes makes no sense. Answered with 400. */
  | 'INVALID_PARAMETER'
  /** A setting cannot be changed, because a `TRACKER_*` variable has decided it. Answered with 409. */
  | 'FIXED_BY_ENVIRONMENT'
  /** The folder cannot be created, read or written. */
  | 'FOLDER_UNUSABLE'
  /** Another process has the folder. */
  | 'FOLDER_LOCKED'
  /** A record, an image or a setting could not be made durable. */
  | 'NOT_STORED'
  /** Whether a login is right cannot be told now. Answered with 503. */
  | 'LOGIN_UNCHECKED'
  /** A job has ended, or is not surely the one that an interrupt of its backend would hit. Answered with 409. */
  | 'NOT_CANCELLABLE'
  /** A job cannot be run again; the message says why. */
  | 'NOT_RETRYABLE'
  /** A backend gave no answer, or none that helps, to a question of the tracker's own. */
  | 'BACKEND_UNANSWERED'
  /** The tracker has been closed. */
  | 'CLOSED';

/** Every error that this library makes; what it stems from is in `cause`. */
export class JobTrackerError extends Error {
  override readonly name = 'JobTrackerError';
  readonly code: JobTrackerErrorCode;

  constructor(code: JobTrackerErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.code = code;
  }
}

/** The message of anything that was thrown. */
export function messageOf(error: unknown): string {
  // Not `instanceof Error`: an error may come from another realm (a vm context, a worker).
  const message = (error as { message?: unknown } | null | undefined)?.message;
  return typeof message === 'string' ? message : String(error);
}

/** The code of a Node.js system error (`ENOENT`, `ECONNREFUSED` ...), or undefined. */
export function systemCodeOf(error: unknown): string | undefined {
  const code = (error as NodeJS.ErrnoException | null | undefined)?.code;
  return typeof code === 'string' ? code : undefined;
}
