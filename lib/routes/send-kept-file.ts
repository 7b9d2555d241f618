import type { Request, Response } from 'express';
import { mediaTypeOf } from '../comfyui/media-type.js';
import type { StoredFile } from '../images/image-store.js';
import { requestedRange } from './requested-range.js';
import { sendBytes } from './send-bytes.js';

export interface KeptFileFacts {
  /** What ComfyUI calls it. */
  readonly filename: string;
  /** For ever of this file alone: a name. */
  readonly tag: string;
  /** Unix seconds; absent where that is not known. */
  readonly modifiedAt: number | undefined;
}

/** Answers with a file as ComfyUI's `GET /view` would (RFC 9110: validators and ranges). */
export async function sendKeptFile(
  req: Request,
  res: Response,
  file: StoredFile,
  { filename, tag, modifiedAt }: KeptFileFacts,
): Promise<void> {
  const etag = `"${tag}"`;
  const { type, isAttachment } = mediaTypeOf(filename);
  res.setHeader('Content-Disposition', disposition(filename, isAttachment));
  res.setHeader('X-Content-Type-Options', 'nosniff');
  res.setHeader('ETag', etag);
  if (modifiedAt !== undefined) res.setHeader('Last-Modified', new Date(modifiedAt * 1000).toUTCString());
  res.setHeader('Accept-Ranges', 'bytes');
  if (req.fresh) {
    res.status(304).end();
    return;
  }
  const range = requestedRange(req, { sizeBytes: file.sizeBytes, etag });
  if (range === 'unsatisfiable') {
    res.setHeader('Content-Range', `bytes */${file.sizeBytes}`);
    res.setHeader('Content-Length', 0);
    res.status(416).end();
    return;
  }
  res.setHeader('Content-Type', isAttachment ? 'application/octet-stream' : type);
  await sendBytes(req, res, file, range);
}

/** ComfyUI writes the name's UTF-8 as it is, where Node takes a character for each byte. */
function disposition(filename: string, isAttachment: boolean): string {
  const bytes = Buffer.from(filename, 'utf8').toString('latin1');
  // biome-ignore lint/suspicious/noControlCharactersInRegex: a header must not hold any.
  const name = bytes.replace(/[\x00-\x1f\x7f]/g, '_').replace(/["\\]/g, '\\$&');
  return `${isAttachment ? 'attachment; ' : ''}filename="${name}"`;
}
