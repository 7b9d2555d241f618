import { setTimeout as delay } from 'node:timers/promises';
import type { HistoryEntry } from '../backends/comfyui-history.js';
import { JobTrackerError, messageOf } from '../errors.js';
import { writeSidecar } from '../images/answer-sidecar.js';
import type { ImageStore } from '../images/image-store.js';
import type { ComfyUIFile, JobError } from '../job.js';
import { imageStem, leftImages } from '../jobs/left-images.js';
import type { KeptAnswer, RunningJob } from '../jobs/running-job.js';
import type { Logger } from '../logger.js';
import { downloadOutput } from './download-output.js';
import type { Turn } from './turns.js';

const FIRST_RETRY_MS = 500;
const MAX_RETRY_MS = 10_000;
/** A file at which ComfyUI itself fails so often is not to be had. */
const MOST_FAILURES = 5;

export interface KeepOutputsOptions {
  readonly url: URL;
  readonly images: ImageStore;
  readonly logger: Logger;
  readonly job: RunningJob;
  readonly entry: HistoryEntry;
  /** Aborted where the job is to end, or to be left, without the rest. */
  readonly signal: AbortSignal;
  /** Given back while there is nothing to do but to wait. */
  readonly turn: Turn;
}

/** What was kept of a prompt that has ended. */
export interface KeptOutputs {
  readonly kept: KeptAnswer;
  /** Why not all of it could be; undefined where all was. */
  readonly problem: JobError | undefined;
}

/**
 * Fetches what a prompt has made, and keeps its history entry as the sidecar. While ComfyUI cannot be reached it is tried
 * again, with ever longer pauses, until `signal` is aborted; the promise rejects with its reason then.
 */
export async function keepOutputs(options: KeepOutputsOptions): Promise<KeptOutputs> {
  const { images, job, entry } = options;
  const stem = imageStem({ id: job.id, timestamp: job.createdAt.getTime() / 1000 });
  await removeLeft(options);
  const paths: string[] = [];
  const files: ComfyUIFile[] = [];
  let bytes = 0;
  let problem: JobError | undefined;
  try {
    for (const [n, file] of entry.files.entries()) {
      const outcome = await download(options, file, `${stem}-${n}`);
      if (outcome.kind === 'kept') {
        paths.push(outcome.path);
        files.push(file);
        bytes += outcome.sizeBytes;
      } else {
        problem ??= problemOf(file, outcome);
      }
    }
    const sidecar = await keepEntry(images, stem, job.id, entry);
    if (typeof sidecar === 'object') bytes += sidecar.sizeBytes;
    else problem ??= { code: 'not_stored', message: sidecar };
    const kept = {
      output_paths: paths,
      ...(files.length > 0 && { comfyui_files: files }),
      ...(typeof sidecar === 'object' && { sidecar: sidecar.path }),
      ...(bytes > 0 && { bytes }),
    };
    return { kept, problem };
  } catch (error) {
    // Nobody has a record of them.
    await Promise.allSettled(paths.map((path) => images.remove(path)));
    throw error;
  }
}

async function download(
  { url, images, signal, logger, turn }: KeepOutputsOptions,
  file: ComfyUIFile,
  stem: string,
) {
  let failures = 0;
  for (let pauseMs = FIRST_RETRY_MS; ; pauseMs = Math.min(pauseMs * 2, MAX_RETRY_MS)) {
    signal.throwIfAborted();
    try {
      const outcome = await downloadOutput({ url, file, images, stem, signal });
      if (outcome.kind !== 'missing' || outcome.status !== 500) return outcome;
      failures += 1;
      if (failures === MOST_FAILURES) return outcome;
      throw new JobTrackerError('BACKEND_UNANSWERED', `${url.origin} answered 500 to /view`);
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof JobTrackerError) || error.code !== 'BACKEND_UNANSWERED') throw error;
      if (pauseMs === FIRST_RETRY_MS) logger.warn(`${file.filename} is fetched once more: ${error.message}`);
      // The files of others may be there all the same.
      turn.end();
      await delay(pauseMs, undefined, { signal, ref: false });
      await turn.begin();
    }
  }
}

/** An earlier process may have been killed with a part of the files in place. */
async function removeLeft({ images, job, logger }: KeepOutputsOptions): Promise<void> {
  const { id, createdAt } = job;
  const record = { id, timestamp: createdAt.getTime() / 1000 };
  const left = (await leftImages(images, [record], logger)).get(id);
  for (const path of [...(left?.output_paths ?? []), ...(left?.sidecar ? [left.sidecar] : [])]) {
    await images.remove(path);
  }
}

async function keepEntry(images: ImageStore, stem: string, id: string, { text, workflow }: HistoryEntry) {
  try {
    const members = workflow ? { workflow: [workflow.start, workflow.end] as const } : {};
    const header = { id, status: 200, exact: false, images: [], members, text_bytes: text.length };
    return await writeSidecar(images, stem, header, once(text));
  } catch (error) {
    return `The history entry could not be kept: ${messageOf(error)}`;
  }
}

async function* once(text: Buffer): AsyncGenerator<Buffer, void> {
  yield text;
}

function problemOf(
  { filename }: ComfyUIFile,
  outcome: Exclude<Awaited<ReturnType<typeof download>>, { kind: 'kept' }>,
): JobError {
  switch (outcome.kind) {
    case 'missing':
      return {
        code: 'not_stored',
        message:
          outcome.status === 500
            ? `ComfyUI fails when it is asked for ${filename}: it answered 500`
            : `ComfyUI does not have ${filename} any more: it answered ${outcome.status}`,
      };
    case 'truncated':
      return { code: 'backend', message: `${filename} ends before its format says` };
    case 'failed':
      return { code: 'not_stored', message: `${filename} could not be kept: ${outcome.message}` };
  }
}
