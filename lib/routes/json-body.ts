import express, { type Request, type Response } from 'express';
import { answerError } from '../http/error-answer.js';

const MAX_BODY_KB = 16;
/** Longer texts are cut where they are shown. */
const MAX_SHOWN = 100;

/** Of any type: `curl -d` says that it sends a form. */
const parse = express.json({ limit: MAX_BODY_KB * 1024, type: () => true, strict: false });

/**
 * A route that gets the request's body, read as JSON, or as a parser of the host has left it; undefined or `{}` where
 * there is none. Answers 413 to one that is too large, and 400 to what is no JSON.
 */
export function withJsonBody(behave: (body: unknown, req: Request, res: Response) => Promise<void>) {
  return async (req: Request, res: Response): Promise<void> => {
    const failure = await new Promise<BodyError | undefined>((resolve) => {
      if (req.readableEnded) resolve(undefined);
      else parse(req, res, (error?: unknown) => resolve(error as BodyError | undefined));
    });
    if (failure === undefined) await behave(req.body, req, res);
    else answerFailure(res, failure);
  };
}

interface BodyError extends Error {
  readonly status?: number;
  /** The text, where it is no JSON. */
  readonly body?: string;
}

function answerFailure(res: Response, error: BodyError): void {
  const { status = 500, body, message } = error;
  if (status === 413) {
    answerError(res, status, `Expected a body of at most ${MAX_BODY_KB} KB, got a larger one`);
  } else if (status < 500) {
    const got = body === undefined ? `one that cannot be read (${message})` : JSON.stringify(cut(body));
    answerError(res, status, `Expected a JSON object, got ${got}`);
  } else {
    throw error;
  }
}

function cut(text: string): string {
  return text.length <= MAX_SHOWN ? text : `${text.slice(0, MAX_SHOWN)}…`;
}
