import type { Request, RequestHandler, Response } from 'express';
import { type Identity, isRefusal, type Refusal } from '../auth/identity.js';
import { askAs } from '../comfyui/ask-comfyui.js';
import { viewedFile } from '../comfyui/file-name.js';
import type { HistoryChanges } from '../comfyui/history-change.js';
import { historyRoute } from '../comfyui/history-paths.js';
import {
  type AskComfyUI,
  type HistoryAnswer,
  type MergedHistory,
  PROXY_FAILURES,
} from '../comfyui/merged-history.js';
import { isRefusedByOrigin } from '../comfyui/origin-guard.js';
import type { ViewedFiles } from '../comfyui/viewed-files.js';
import { JobTrackerError, messageOf } from '../errors.js';
import { answerError } from '../http/error-answer.js';
import type { Forwarder } from '../http/forward.js';
import { sendAnswer } from '../http/pass-on-answer.js';
import { wholeBody } from '../http/whole-body.js';
import type { Logger } from '../logger.js';
import { sendKeptFile } from './send-kept-file.js';

/** ComfyUI's own limit. */
const MAX_BODY_BYTES = 100 * 1024 * 1024;

export interface ComfyUIRoutesOptions {
  readonly url: URL;
  /** What to call ComfyUI in messages, and what to check when it cannot be reached. */
  readonly backend: { readonly title: string; readonly hint: string };
  readonly forwarder: Forwarder;
  readonly history: Pick<MergedHistory, 'entry' | 'list'>;
  readonly changes: Pick<HistoryChanges, 'apply'>;
  readonly files: ViewedFiles;
  readonly logger: Logger;
  readonly identify: (req: Request) => Promise<Identity | Refusal>;
  /** Resolves to whether it is known what is kept. Where it is not, everything passes untouched. Never rejects. */
  readonly canAnswer: () => Promise<boolean>;
}

type Step = (req: Request, res: Response, who: Identity, next: () => void) => Promise<void> | void;

/**
 * The middleware for `/history`, `/history/{prompt_id}` and `/view`: ComfyUI answers, and what it has forgotten comes from the
 * store. It is told by the path, in whichever way that is written, because whose entries and files are shown depends on it.
 */
export function comfyuiRoutes(options: ComfyUIRoutesOptions): RequestHandler {
  const { identify, canAnswer, logger } = options;
  return (req, res, next) => {
    const step = stepFor(req, options);
    if (!step) {
      next();
      return;
    }
    const run = async () => {
      if (!(await canAnswer())) {
        next();
        return;
      }
      const who = await identify(req);
      if (isRefusal(who))
        answerError(res, who.status, who.error, { 'Cache-Control': 'no-store', ...who.headers });
      else await step(req, res, who, next);
    };
    run().catch((error: unknown) => answerFailure(error, req, res, logger, options.backend));
  };
}

function stepFor(req: Request, options: ComfyUIRoutesOptions): Step | undefined {
  const route = historyRoute(req.method, req.path);
  switch (route?.kind) {
    case 'history':
      return req.method === 'POST' ? changeHistory(options) : showHistory(options);
    case 'entry':
      return showEntry(options, route.promptId);
    case 'view':
      return viewFile(options);
    case 'odd':
      // Whose it is that would be shown cannot be told.
      return (_req, res, who, next) => (who.isAdmin ? next() : sendEmpty(res, 404));
    case undefined:
      return undefined;
  }
}

function showHistory(options: ComfyUIRoutesOptions): Step {
  return async (req, res, who) => {
    send(req, res, await options.history.list(asking(req, res, options), queryOf(req), who));
  };
}

function showEntry(options: ComfyUIRoutesOptions, promptId: string): Step {
  return async (req, res, who) => {
    send(req, res, await options.history.entry(asking(req, res, options), promptId, who));
  };
}

function changeHistory(options: ComfyUIRoutesOptions): Step {
  return async (req, res, who) => {
    const body = await wholeBody(req, MAX_BODY_BYTES);
    if (body === undefined) {
      answerError(res, 413, `Expected a body of at most ${MAX_BODY_BYTES} bytes, got a larger one`);
      return;
    }
    // What ComfyUI then does is to be done here, too, whether or not the client waits for it: there is no signal.
    const answer = await options.changes.apply(body, who, (sent) =>
      askAs(req, options, {
        method: 'POST',
        body: sent,
        ...(sent !== body && { headers: { 'content-type': 'application/json' } }),
      }),
    );
    sendAnswer(res, answer);
  };
}

function viewFile({ forwarder, files, logger, backend }: ComfyUIRoutesOptions): Step {
  return async (req, res, who, next) => {
    const file = viewedFile(queryOf(req));
    const found = file ? files.find(file, who) : 'unknown';
    if (!file || found === 'unknown') {
      next();
      return;
    }
    if (found === 'foreign') {
      sendEmpty(res, 404);
      return;
    }
    const sendKept = async (status: number, error: string | undefined) => {
      if (status !== 404 && isRefusedByOrigin(req)) {
        sendEmpty(res, 403);
        return;
      }
      const kept = await files.open(found);
      try {
        if (kept) await sendKeptFile(req, res, kept.file, { ...kept, filename: file.filename });
        else if (error !== undefined) answerError(res, status, error);
        else sendEmpty(res, status);
      } finally {
        await kept?.file.close();
      }
    };
    forwarder.handle(req, res, (status, error) => {
      if (status !== 404 && !PROXY_FAILURES.includes(status)) return false;
      if (!res.destroyed) {
        sendKept(status, error).catch((failure: unknown) =>
          answerFailure(failure, req, res, logger, backend),
        );
      }
      return true;
    });
  };
}

function asking(req: Request, res: Response, options: ComfyUIRoutesOptions): AskComfyUI {
  const loss = new AbortController();
  res.once('close', () => loss.abort());
  return (query) => askAs(req, { ...options, signal: loss.signal }, { method: 'GET', query });
}

function send(req: Request, res: Response, { head, body }: HistoryAnswer): void {
  if (head) {
    sendAnswer(res, head, body);
  } else if (isRefusedByOrigin(req)) {
    sendEmpty(res, 403);
  } else if (!res.headersSent && !res.destroyed) {
    res.writeHead(200, { 'Content-Type': 'application/json; charset=utf-8', 'Content-Length': body.length });
    res.end(body);
  }
}

/** As ComfyUI answers where it has nothing to say. */
function sendEmpty(res: Response, status: number): void {
  if (res.headersSent || res.destroyed) return;
  res.writeHead(status, { 'Content-Length': 0 });
  res.end();
}

/** Express's own reading of a query knows nested names, which ComfyUI does not. */
function queryOf(req: Request): URLSearchParams {
  const [url = ''] = req.url.split('#', 1);
  const at = url.indexOf('?');
  return new URLSearchParams(at < 0 ? '' : url.slice(at + 1));
}

function answerFailure(
  error: unknown,
  req: Request,
  res: Response,
  logger: Logger,
  { title, hint }: ComfyUIRoutesOptions['backend'],
): void {
  // The client has left.
  if (res.destroyed) return;
  const code = error instanceof JobTrackerError ? error.code : undefined;
  if (res.headersSent) {
    logger.error(`${req.method} ${req.path} broke off: ${messageOf(error)}`);
    res.destroy();
  } else if (code === 'BACKEND_UNANSWERED') {
    answerError(res, 502, `${title} at ${messageOf(error)}. ${hint}`);
  } else if (code === 'INVALID_PARAMETER') {
    answerError(res, 400, messageOf(error));
  } else {
    logger.error(`${req.method} ${req.path} failed`, error);
    answerError(
      res,
      code === 'NOT_STORED' || code === 'CLOSED' ? 503 : 500,
      'The job tracker could not do this; its log says why',
    );
  }
}
