import type { Readable } from 'node:stream';
import type { Response } from 'express';
import type { ZipFile } from 'yazl';
import { answerError } from '../http/error-answer.js';
import { sniffImage } from '../images/image-format.js';
import type { ImageStore, StoredFile } from '../images/image-store.js';
import type { Job } from '../job.js';
import { streamTo } from './stream-to.js';

const SNIFF_BYTES = 64;

/**
 * Answers with all images of a job in one zip file, `<id>.zip`, as the client takes it. They are put in as they are:
 * images do not get smaller. Those that are no longer there are named in a `missing.txt`.
 */
export async function sendZip(res: Response, store: ImageStore, job: Job): Promise<void> {
  const files: StoredFile[] = [];
  const streams: Readable[] = [];
  const missing: string[] = [];
  // Few hosts ever need it: it is not to cost every one of them a part of its start.
  const yazl = await import('yazl');
  const zip = new yazl.ZipFile();
  const output = zip.outputStream as Readable;
  const fail = (error: Error) => output.destroy(error);
  zip.on('error', fail);
  // It is heard of where it is read; nobody may be reading yet.
  output.on('error', () => {});
  const options = {
    mtime: new Date((job.finished_at ?? job.timestamp) * 1000),
    mode: 0o100644,
    compress: false,
  };
  try {
    for (const [n, path] of job.output_paths.entries()) {
      const name = `${job.id}-${n}`;
      const file = await store.read(path);
      if (!file) {
        missing.push(name);
        continue;
      }
      files.push(file);
      const extension = sniffImage(await file.slice(0, SNIFF_BYTES))?.extension ?? 'bin';
      // Its size tells the reader of a file that has become shorter.
      zip.addReadStreamLazy(`${name}.${extension}`, { ...options, size: file.sizeBytes }, (take) => {
        const stream = file.read();
        stream.once('error', fail);
        streams.push(stream);
        take(null, stream);
      });
    }
    if (files.length === 0) {
      const { length } = job.output_paths;
      const what = length === 0 ? 'the job has none' : `none of the job's ${length} is kept any more`;
      answerError(res, 404, `Image not found: ${what}`);
      return;
    }
    if (missing.length > 0) {
      const text = `These images of the job are no longer kept:\n${missing.join('\n')}\n`;
      zip.addBuffer(Buffer.from(text), 'missing.txt', options);
    }
    res.setHeader('Content-Type', 'application/zip');
    res.setHeader('Content-Disposition', `attachment; filename="${job.id}.zip"`);
    res.setHeader('Cache-Control', 'no-store');
    res.setHeader('Content-Length', totalSizeOf(zip));
    if (res.req.method === 'HEAD') res.end();
    else await streamTo(res, output);
  } finally {
    // The library leaves what it was reading when nobody takes it any more.
    for (const stream of streams) stream.destroy();
    output.destroy();
    await Promise.all(files.map((file) => file.close()));
  }
}

/** No more is added to the file. All sizes are known, so that the library tells that of the whole at once. */
function totalSizeOf(zip: ZipFile): number {
  let sizeBytes = -1;
  // The type of the callback is wrong: it gets the size.
  const take = ((size: number) => {
    sizeBytes = size;
  }) as () => void;
  zip.end(undefined, take);
  if (sizeBytes < 0) throw new Error(`Expected the size of a zip file, got ${sizeBytes}`);
  return sizeBytes;
}
