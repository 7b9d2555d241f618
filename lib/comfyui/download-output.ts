import type { IncomingMessage } from 'node:http';
import { extname } from 'node:path/posix';
import { pipeline } from 'node:stream';
import { JobTrackerError, messageOf } from '../errors.js';
import { createAnswerDecoder, isPlain } from '../http/answer-decoder.js';
import { downloadFromBackend } from '../http/backend-call.js';
import { ImageIntake, type IntakeOutcome } from '../images/image-intake.js';
import type { ImageStore } from '../images/image-store.js';
import type { ComfyUIFile } from '../job.js';

const IDLE_MS = 60_000;
/** What the bytes of a file do not tell, its name may: but no text of others becomes a part of a path as it is. */
const KNOWN_EXTENSIONS = [
  ...['png', 'jpg', 'jpeg', 'webp', 'gif', 'avif', 'bmp', 'tiff', 'exr', 'svg'],
  ...['mp4', 'webm', 'mov', 'mkv', 'avi'],
  ...['wav', 'mp3', 'flac', 'ogg', 'opus', 'm4a', 'aac'],
  ...['glb', 'gltf', 'obj', 'ply', 'stl', 'fbx', 'usdz', 'splat'],
  ...['txt', 'json', 'csv', 'srt', 'md', 'latent', 'safetensors'],
];

export interface OutputDownload {
  readonly url: URL;
  readonly file: ComfyUIFile;
  readonly images: ImageStore;
  /** What the file's name in the store begins with: `2026-11-22/Ab12Cd34-0`. */
  readonly stem: string;
  readonly signal: AbortSignal;
}

/** What became of a file of ComfyUI's. `missing`: ComfyUI does not have it; where it answers 500, it fails at it. */
export type DownloadOutcome = IntakeOutcome | { readonly kind: 'missing'; readonly status: number };

/**
 * Fetches one file through `GET /view` into the store, byte for byte, in the memory of a few chunks.
 *
 * @throws JobTrackerError `BACKEND_UNANSWERED` where ComfyUI did not give all of it; it may later.
 */
export async function downloadOutput({
  url,
  file,
  images,
  stem,
  signal,
}: OutputDownload): Promise<DownloadOutcome> {
  const { filename, subfolder, type } = file;
  const path = `/view?${new URLSearchParams({ filename, subfolder, type })}`;
  const answer = await downloadFromBackend(url, { path, idleMs: IDLE_MS, signal });
  const { statusCode: status = 0 } = answer;
  if (status !== 200) {
    answer.destroy();
    if (status > 500)
      throw new JobTrackerError('BACKEND_UNANSWERED', `${url.origin} answered ${status} to /view`);
    return { kind: 'missing', status };
  }
  const bytes = plainBytes(answer);
  if (!bytes) {
    answer.destroy();
    const message = `it came encoded as "${answer.headers['content-encoding']}"`;
    return { kind: 'failed', message };
  }
  const intake = new ImageIntake(images, stem, () => {});
  try {
    for await (const chunk of bytes) {
      // One chunk at a time: ComfyUI is read at the pace of the disk.
      await new Promise<void>((resolve) => intake.push(chunk, resolve));
    }
  } catch (cause) {
    await intake.discard();
    throw new JobTrackerError(
      'BACKEND_UNANSWERED',
      `${url.origin} broke off ${filename}: ${messageOf(cause)}`,
      { cause },
    );
  }
  const extension = extname(filename).slice(1).toLowerCase();
  return await intake.finish(KNOWN_EXTENSIONS.includes(extension) ? extension : undefined);
}

/** A proxy in between may encode what was asked for as it is. Undefined where that cannot be read here. */
function plainBytes(answer: IncomingMessage): AsyncIterable<Buffer> | undefined {
  const encoding = answer.headers['content-encoding'];
  if (encoding === undefined || isPlain(encoding)) return answer;
  const decoder = createAnswerDecoder(encoding);
  // A failure shows where the decoder is read.
  return decoder && pipeline(answer, decoder, () => {});
}
