import express, { type Request, type Response, type Router } from 'express';
import { answerError } from '../http/error-answer.js';
import type { ImageStore, StoredFile } from '../images/image-store.js';
import type { Thumbnails } from '../images/thumbnails.js';
import type { Job } from '../job.js';
import { sendImage } from './send-image.js';
import { sendZip } from './send-zip.js';
import type { WithJob } from './with-job.js';

export interface ImageRoutesOptions {
  readonly withJob: WithJob;
  readonly images: ImageStore;
  readonly thumbnails: Pick<Thumbnails, 'open'>;
}

/** The routes of a job's images: one, a small picture of it, and all of them. */
export function imageRoutes({ withJob, images, thumbnails }: ImageRoutesOptions): Router {
  const router = express.Router();

  async function sendOriginal(job: Job, req: Request, res: Response): Promise<void> {
    const n = numberIn(req);
    const path = n === undefined ? undefined : job.output_paths[n];
    const file = path === undefined ? undefined : await images.read(path);
    if (file) await sendFile(req, res, file, `${job.id}-${n}`);
    else answerError(res, 404, `Image not found: the job has ${job.output_paths.length}, counted from 0`);
  }

  router.get('/sdapi/v1/job/:id/images/:n', withJob(sendOriginal));

  router.get(
    '/sdapi/v1/job/:id/images/:n/thumbnail',
    withJob(async (job, req, res) => {
      const n = numberIn(req);
      const file = n === undefined ? undefined : await thumbnails.open(job, n);
      // A browser makes the image itself small as well.
      if (file) await sendFile(req, res, file, `${job.id}-${n}-thumbnail`);
      else await sendOriginal(job, req, res);
    }),
  );

  router.get(
    '/sdapi/v1/job/:id/zip',
    withJob((job, _req, res) => sendZip(res, images, job)),
  );

  return router;
}

async function sendFile(req: Request, res: Response, file: StoredFile, name: string): Promise<void> {
  try {
    await sendImage(req, res, file, name);
  } finally {
    await file.close();
  }
}

function numberIn({ params }: Request): number | undefined {
  const n = String(params.n);
  return /^\d{1,6}$/.test(n) ? Number(n) : undefined;
}
