import type { PythonValue } from '../demo-shared/python-json.js';

/** An answer that is not a success; thrown by whoever finds out. */
export class ApiError extends Error {
  override readonly name = 'ApiError';
  readonly status: number;
  readonly body: PythonValue;

  constructor(status: number, body: PythonValue, message: string) {
    super(message);
    this.status = status;
    this.body = body;
  }
}

export interface ValidationProblem {
  readonly loc: readonly PythonValue[];
  readonly msg: string;
  readonly type: string;
  readonly ctx?: PythonValue;
}

/** What FastAPI answers to a body that is not as declared: 422, in the words of pydantic 1. */
export function validationError(problems: readonly ValidationProblem[]): ApiError {
  const detail = problems.map((problem) => ({ ...problem }) as PythonValue);
  return new ApiError(422, { detail }, problems.map(({ msg }) => msg).join('; '));
}

/** A1111's shape of an error that its API found by itself. */
export function httpException(status: number, detail: string): ApiError {
  return new ApiError(status, { error: 'HTTPException', detail, body: '', errors: '' }, detail);
}

/** A1111's shape of any other Python exception: 500. */
export function pythonException(error: string, message: string): ApiError {
  return new ApiError(500, { error, detail: '', body: '', errors: message }, message);
}
