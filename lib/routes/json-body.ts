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
    if (req.readableEnded) {
      const body = bodyLeftByHost(req);
      if (body === UNREADABLE)
        answerError(res, 400, 'Expected a JSON object, got a body that something has read and not left');
      else await behave(body, req, res);
      return;
    }
    const failure = await new Promise<BodyError | undefined>((resolve) => {
      parse(req, res, (error?: unknown) => resolve(error as BodyError | undefined));
    });
    if (failure === undefined) await behave(req.body, req, res);
    else answerFailure(res, failure);
  };
}

const UNREADABLE = Symbol('unreadable');

/** What a parser of the host's has made of the body; a logger that has only read it must not make it an empty one. */
function bodyLeftByHost({ body, headers }: Request): unknown {
  const { 'content-length': length = '0', 'transfer-encoding': encoding } = headers;
  const wasEmpty = length === '0' && encoding === undefined;
  if (body === undefined) return wasEmpty ? undefined : UNREADABLE;
  if (!Buffer.isBuffer(body) && typeof body !== 'string') return body;
  try {
    return body.length === 0 ? undefined : JSON.parse(body.toString());
  } catch {
    return UNREADABLE;
  }
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
