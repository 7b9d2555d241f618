import type { IncomingMessage, ServerResponse } from 'node:http';
import { EXPOSED_HEADERS } from '../http/cross-origin.js';
import { answerError } from '../http/error-answer.js';
import type { JobQueue } from '../jobs/job-queue.js';

/** Answers with 429 (RFC 6585): as many jobs wait as may, and this one comes too much. */
export function answerQueueFull(
  req: IncomingMessage,
  res: ServerResponse,
  { counts, retryAfterSeconds }: Pick<JobQueue, 'counts' | 'retryAfterSeconds'>,
): void {
  const others = res.getHeader('Access-Control-Expose-Headers');
  answerError(
    res,
    429,
    `Expected a place in the queue, got none: ${counts.waiting} generations wait already (\`maxQueue\`). ` +
      `Try again in ${retryAfterSeconds} s`,
    {
      'Retry-After': String(retryAfterSeconds),
      'Cache-Control': 'no-store',
      ...(req.headers.origin !== undefined && {
        'Access-Control-Expose-Headers': [others, EXPOSED_HEADERS].flat().filter(Boolean).join(', '),
      }),
    },
  );
}
