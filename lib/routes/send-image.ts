import type { Request, Response } from 'express';
import { sniffImage } from '../images/image-format.js';
import type { StoredFile } from '../images/image-store.js';
import { requestedRange } from './requested-range.js';
import { sendBytes } from './send-bytes.js';

const SNIFF_BYTES = 64;

/**
 * Answers with an image itself (RFC 9110: ETag, If-None-Match, Range, If-Range). An image never changes, so its name is
 * its ETag. What is not an image that browsers show safely goes as an attachment.
 *
 * @param name the file's name for people, without its extension; unique for ever.
 */
export async function sendImage(req: Request, res: Response, file: StoredFile, name: string): Promise<void> {
  const etag = `"${name}"`;
  res.setHeader('Accept-Ranges', 'bytes');
  res.setHeader('ETag', etag);
  res.setHeader('Cache-Control', 'private, max-age=31536000, immutable');
  if (req.fresh) {
    res.status(304).end();
    return;
  }
  const range = requestedRange(req, { sizeBytes: file.sizeBytes, etag });
  if (range === 'unsatisfiable') {
    res.removeHeader('ETag');
    res.setHeader('Cache-Control', 'no-store');
    res.setHeader('Content-Range', `bytes */${file.sizeBytes}`);
    res
      .status(416)
      .json({ error: `Expected a range within ${file.sizeBytes} bytes, got "${req.headers.range}"` });
    return;
  }
  const format = sniffImage(await file.slice(0, SNIFF_BYTES));
  const disposition = format?.inline ? 'inline' : 'attachment';
  res.setHeader('Content-Type', format?.type ?? 'application/octet-stream');
  res.setHeader('Content-Disposition', `${disposition}; filename="${name}.${format?.extension ?? 'bin'}"`);
  await sendBytes(req, res, file, range);
}
