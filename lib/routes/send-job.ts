import { Readable } from 'node:stream';
import type { Response } from 'express';
import { openSidecar, type Sidecar } from '../images/answer-sidecar.js';
import { base64Length, streamBase64 } from '../images/base64-stream.js';
import type { ImageStore, StoredFile } from '../images/image-store.js';
import type { Job } from '../job.js';
import { type JobState, jobJson } from '../jobs/job-json.js';
import { asPlainJson } from '../json/python-json.js';
import { streamTo } from './stream-to.js';

/** The backend's words are looked at before they are given again, unless there are so many of them. */
const MAX_CHECKED_BYTES = 1024 * 1024;

export type ImagesAs = 'base64' | 'url' | 'none';

export interface SendJobOptions {
  readonly imagesAs: ImagesAs;
  readonly mountPath: string;
  readonly state: JobState;
}

/** A stretch of the answer: its length is known before it is read. */
interface Piece {
  readonly sizeBytes: number;
  readonly chunks: () => Iterable<Buffer> | AsyncIterable<Buffer>;
}

/**
 * Answers with a job as JSON: the extension's five fields first, then ours. Images and the backend's own words are
 * streamed from their files, so that a job of 500 MB costs as little memory as any.
 */
export async function sendJob(
  res: Response,
  store: ImageStore,
  job: Job,
  options: SendJobOptions,
): Promise<void> {
  const files: StoredFile[] = [];
  try {
    const { id, prompt, status, timestamp, ...more } = jobJson(job, options.mountPath, options.state);
    const pieces: Piece[] = [
      text(`${JSON.stringify({ id, prompt, status, timestamp }).slice(0, -1)},"images":`),
    ];
    const missing: number[] = [];
    if (options.imagesAs === 'base64') {
      pieces.push(text('['));
      let separator = '"';
      for (const [n, path] of job.output_paths.entries()) {
        const file = await store.read(path);
        if (!file) {
          missing.push(n);
          continue;
        }
        files.push(file);
        pieces.push(text(separator), base64(file), text('"'));
        separator = ',"';
      }
      pieces.push(text(']'));
    } else {
      pieces.push(text(JSON.stringify(options.imagesAs === 'url' ? more.image_urls : [])));
    }
    const rest = { ...more, ...(missing.length > 0 && { missing_images: missing }) };
    pieces.push(text(`,${JSON.stringify(rest).slice(1, -1)}`));
    const sidecar = job.sidecar === undefined ? undefined : await openSidecar(store, job.sidecar);
    if (sidecar) {
      files.push(sidecar.file);
      for (const name of ['info', 'parameters', 'workflow'] as const)
        pieces.push(...(await member(sidecar, name)));
    }
    pieces.push(text('}'));
    await send(res, pieces);
  } finally {
    await Promise.all(files.map((file) => file.close()));
  }
}

async function send(res: Response, pieces: readonly Piece[]): Promise<void> {
  res.setHeader('Content-Type', 'application/json; charset=utf-8');
  res.setHeader('Cache-Control', 'no-store');
  res.setHeader(
    'Content-Length',
    pieces.reduce((sum, piece) => sum + piece.sizeBytes, 0),
  );
  if (res.req.method === 'HEAD') {
    res.end();
    return;
  }
  async function* chunks() {
    for (const piece of pieces) yield* piece.chunks();
  }
  await streamTo(res, Readable.from(chunks(), { objectMode: false }));
}

function text(value: string): Piece {
  const bytes = Buffer.from(value);
  return { sizeBytes: bytes.length, chunks: () => [bytes] };
}

function base64(file: StoredFile): Piece {
  return { sizeBytes: base64Length(file.sizeBytes), chunks: () => streamBase64(file) };
}

/** A member of the backend's answer, in its own words; nothing where somebody has spoilt them. */
async function member(
  { header, file, textStart }: Sidecar,
  name: keyof Sidecar['header']['members'],
): Promise<Piece[]> {
  const place = header.members[name];
  if (!place) return [];
  const sizeBytes = place[1] - place[0];
  const start = textStart + place[0];
  if (sizeBytes > MAX_CHECKED_BYTES) {
    const chunks = () => file.read({ start, end: start + sizeBytes - 1 }) as AsyncIterable<Buffer>;
    return [text(`,"${name}":`), { sizeBytes, chunks }];
  }
  const value = asPlainJson((await file.slice(start, sizeBytes)).toString());
  return isJson(value) ? [text(`,"${name}":${value}`)] : [];
}

function isJson(value: string): boolean {
  try {
    JSON.parse(value);
    return true;
  } catch {
    // Put into the answer, it would make all of that unreadable, images and all.
    return false;
  }
}
