import type { Request, Response } from 'express';
import type { StoredFile } from '../images/image-store.js';
import { streamTo } from './stream-to.js';

/** Both inclusive. */
interface ByteRange {
  readonly start: number;
  readonly end: number;
}

/** Answers with a file's bytes, or with those that were asked for (RFC 9110, 206); to HEAD with what it would say of them. */
export async function sendBytes(
  req: Request,
  res: Response,
  file: StoredFile,
  range: ByteRange | undefined,
): Promise<void> {
  if (range) {
    res.status(206);
    res.setHeader('Content-Range', `bytes ${range.start}-${range.end}/${file.sizeBytes}`);
  }
  const { start, end } = range ?? { start: 0, end: file.sizeBytes - 1 };
  const length = end - start + 1;
  res.setHeader('Content-Length', length);
  if (req.method === 'HEAD' || length === 0) res.end();
  else await streamTo(res, file.read({ start, end }));
}
