import { readPngChunks, readPngTexts } from '../demo-shared/picture/png.js';
import type { PythonValue } from '../demo-shared/python-json.js';
import { httpException, pythonException } from './api-error.js';

const OTHER_FORMATS = [/^\xff\xd8\xff/, /^RIFF.{4}WEBP/s, /^GIF8[79]a/, /^BM/];

/** An image from its base64, with `data:image/...;base64,` in front or not. Throws a 500 `ApiError`. */
export function decodeImage(text: PythonValue): Buffer {
  if (typeof text !== 'string')
    throw pythonException('AttributeError', "object has no attribute 'startswith'");
  if (/^https?:\/\//.test(text)) throw httpException(500, 'Requests not allowed');
  const base64 = text.startsWith('data:image/') ? (text.split(';')[1]?.split(',')[1] ?? '') : text;
  const image = Buffer.from(base64, 'base64');
  if (!isWholeImage(image)) throw httpException(500, 'Invalid encoded image');
  return image;
}

/** The texts in a PNG by their keywords, none for other formats. Throws a 500 `ApiError`. */
export function imageTexts(image: Buffer): Map<string, string> {
  try {
    return readPngTexts(image);
  } catch (error) {
    throw httpException(500, `Invalid encoded image: ${String(error)}`);
  }
}

function isWholeImage(image: Buffer): boolean {
  const chunks = readPngChunks(image);
  if (chunks.length > 0) return chunks.at(-1)?.type === 'IEND' && chunks.every(({ intact }) => intact);
  const start = image.toString('latin1', 0, 12);
  return OTHER_FORMATS.some((format) => format.test(start));
}
