import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { Response } from 'express';
import { systemCodeOf } from '../errors.js';

/** Streams a body to the client. A client that leaves in the middle is no failure: there is nobody to tell. */
export async function streamTo(res: Response, body: Readable): Promise<void> {
  try {
    await pipeline(body, res);
  } catch (error) {
    if (systemCodeOf(error) !== 'ERR_STREAM_PREMATURE_CLOSE') throw error;
  }
}
