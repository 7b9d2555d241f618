import { systemCodeOf } from '../errors.js';

/** Sides of a thumbnail at most, in pixels. */
const SIDE = 320;
const QUALITY = 75;
/** A picture of 8192 x 8192; a small file may claim to hold a far larger one. */
const MAX_PIXELS = 2 ** 26;
const MAX_SECONDS = 10;

/** Makes a small WebP of an image. Rejects where it is none, or a hostile one. */
export type ThumbnailMaker = (image: Buffer) => Promise<Buffer>;

/**
 * The maker that `sharp` is, an optional peer of ours; undefined where it is not installed. Rejects where it is, and
 * cannot be loaded.
 */
export async function loadThumbnailMaker(): Promise<ThumbnailMaker | undefined> {
  let sharp: typeof import('sharp').default;
  try {
    ({ default: sharp } = await import('sharp'));
  } catch (error) {
    if (systemCodeOf(error) === 'ERR_MODULE_NOT_FOUND') return undefined;
    throw error;
  }
  // Nothing is set for all of sharp: the host may use it as well. What the image says of itself, the prompt for one, is
  // not taken over.
  return (image) =>
    sharp(image, { limitInputPixels: MAX_PIXELS, sequentialRead: true, failOn: 'error' })
      .timeout({ seconds: MAX_SECONDS })
      .resize(SIDE, SIDE, { fit: 'inside', withoutEnlargement: true })
      .webp({ quality: QUALITY, effort: 2 })
      .toBuffer();
}
