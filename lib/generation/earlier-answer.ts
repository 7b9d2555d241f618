import { atMost } from '../at-most.js';
import type { AnswerAgain, Backend } from '../backends/backend.js';
import { messageOf } from '../errors.js';
import type { DetachedResponse } from '../http/detached-response.js';
import type { EarlyHead } from '../http/early-head.js';
import type { ImageStore } from '../images/image-store.js';
import { type KeptAnswer, openKeptAnswer } from '../images/kept-answer.js';
import { isFinished } from '../job.js';
import type { Claim, Deliveries } from '../jobs/deliveries.js';
import type { Logger } from '../logger.js';
import type { JobStore } from '../stores/job-store.js';

/** A disk that is stuck must not keep a client from a new generation. */
const OPEN_WITHIN_MS = 2_000;

export interface EarlierAnswerOptions {
  readonly claim: Claim;
  readonly response: DetachedResponse;
  readonly earlyHead: EarlyHead;
  readonly backend: Backend;
  /** The client wants no images in its answer. */
  readonly imagesUnwanted: boolean;
  readonly deliveries: Deliveries;
  readonly store: JobStore;
  readonly images: ImageStore;
  readonly logger: Logger;
}

/**
 * Gives a client the answer of a job that was made for an earlier, same request; of one that still runs, once it has
 * ended. Resolves to false where there is no such answer after all, and nothing has been sent.
 */
export async function giveEarlierAnswer(options: EarlierAnswerOptions): Promise<boolean> {
  const { claim, response, earlyHead, backend, imagesUnwanted, logger } = options;
  const { job, delivery } = claim;
  if (!isFinished(job)) {
    earlyHead.sendNow();
    const lost = new Promise<void>((resolve) => response.onLost(resolve));
    await Promise.race([options.deliveries.ended(job.id), lost]);
  }
  const kept = response.lost ? undefined : await openInTime(options);
  // Somebody in front, who lost patience, may have answered.
  const isTaken = !response.lost && (response.over || (response.answered && !response.early));
  if (!kept && !response.lost && !isTaken) {
    delivery.unavailable();
    if (!response.early) return false;
  }
  earlyHead.stop();
  if (!kept || isTaken) {
    delivery.lost();
    await kept?.close();
    if (!isTaken) response.abandon();
    return true;
  }
  try {
    const answer = await backend.answerAgain(kept, { imagesUnwanted });
    if (!response.early) sendHead(response, kept, answer);
    if (await pour(answer.chunks(), response)) response.finish();
    else response.abandon();
  } catch (error) {
    logger.error(`The answer of job ${job.id} could not be given once more: ${messageOf(error)}`);
    delivery.unavailable();
    response.abandon();
  } finally {
    await kept.close();
  }
  return true;
}

/** Undefined also where that takes too long, or fails. */
async function openInTime(options: EarlierAnswerOptions): Promise<KeptAnswer | undefined> {
  const { claim, logger } = options;
  let kept: KeptAnswer | undefined;
  let isLate = false;
  const opening = (async () => {
    kept = await openCompleted(options);
    if (isLate) await kept?.close();
  })();
  try {
    if (await atMost(OPEN_WITHIN_MS, opening)) return kept;
    isLate = true;
    throw new Error('the disk does not answer');
  } catch (error) {
    logger.warn(`The answer of job ${claim.job.id} cannot be read: ${messageOf(error)}`);
    return undefined;
  }
}

async function openCompleted({
  claim,
  store,
  images,
}: EarlierAnswerOptions): Promise<KeptAnswer | undefined> {
  const job = await store.get(claim.job.id);
  const isGood = job?.status === 'Completed' && job.disturbed_by === undefined;
  return isGood && job.sidecar !== undefined ? await openKeptAnswer(images, job.sidecar) : undefined;
}

function sendHead(response: DetachedResponse, kept: KeptAnswer, { sizeBytes }: AnswerAgain): void {
  if (kept.contentType !== undefined) response.setHeader('Content-Type', kept.contentType);
  if (sizeBytes !== undefined) response.setHeader('Content-Length', String(sizeBytes));
  response.sendHead(kept.status);
}

/** Hands bytes to the client at its own pace. Resolves to false where it leaves before their end. */
async function pour(chunks: AsyncIterable<Buffer>, response: DetachedResponse): Promise<boolean> {
  let goOn = () => {};
  response.onDrain(() => goOn());
  response.onLost(() => goOn());
  for await (const chunk of chunks) {
    if (response.over) break;
    const drained = new Promise<void>((resolve) => {
      goOn = resolve;
    });
    if (!response.write(chunk) && !response.over) await drained;
  }
  return !response.over;
}
