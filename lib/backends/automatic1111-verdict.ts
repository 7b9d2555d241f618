import type { AnswerImage, AnswerSummary } from '../images/answer-summary.js';
import type { IntakeOutcome } from '../images/image-intake.js';
import type { JobError } from '../job.js';
import type { CapturedAnswer } from './backend.js';

/** A string of the answer's `images`, and what became of it; no outcome where it was no base64. */
export interface SettledImage {
  readonly image: AnswerImage;
  readonly outcome: IntakeOutcome | undefined;
}

/** The images that were kept, in the answer's order, with their size together where there are any. */
export function keptImages(images: readonly SettledImage[]): Pick<CapturedAnswer, 'output_paths' | 'bytes'> {
  const kept = images.flatMap(({ outcome }) => (outcome?.kind === 'kept' ? [outcome] : []));
  const output_paths = kept.map(({ path }) => path);
  if (kept.length === 0) return { output_paths };
  return { output_paths, bytes: kept.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0) };
}

/** Why a job with this 2xx answer is not Completed; undefined where it is. */
export function problemOf(
  summary: AnswerSummary,
  images: readonly SettledImage[],
  status: number,
): JobError | undefined {
  for (const [i, { outcome }] of images.entries()) {
    if (outcome?.kind === 'failed') {
      return { code: 'not_stored', message: `images[${i}] could not be kept: ${outcome.message}` };
    }
  }
  const bad = (message: string): JobError => ({ code: 'backend', message, status });
  if (!summary.json.complete) return bad(`The answer is not whole JSON: ${summary.json.reason}`);
  const truncated = images.findIndex(({ outcome }) => outcome?.kind === 'truncated');
  if (truncated !== -1) return bad(`images[${truncated}] ends too early`);
  // A short text among the images is kept in the sidecar; a long one is lost.
  const unreadable = images.findIndex(({ image }) => image.verdict === 'not-base64' && !image.exact);
  if (unreadable !== -1) return bad(`images[${unreadable}] is not base64`);
  if (images.some(({ outcome }) => outcome?.kind === 'kept')) return undefined;
  if (images.length > 0) return bad('images[0] is not base64');
  const message =
    summary.imagesMember === 'array' ? 'The answer has no image in it' : 'The answer has no array `images`';
  return { code: 'empty', message, status };
}
