import { promisify } from 'node:util';
import { crc32, deflate, inflateSync } from 'node:zlib';

/** A picture in memory: three bytes (red, green, blue) a pixel, rows from the top, without padding. */
export interface Picture {
  readonly width: number;
  readonly height: number;
  readonly rgb: Buffer;
}

export interface PngChunk {
  readonly type: string;
  readonly data: Buffer;
  /** True where the checksum fits the chunk. */
  readonly intact: boolean;
}

const SIGNATURE = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
const BYTES_PER_PIXEL = 3;
const FILTER_SUB = 1;
const deflateAsync = promisify(deflate);

/**
 * Encodes a picture as an 8-bit RGB PNG. Each text goes into a chunk of its keyword as Pillow writes it: `tEXt` where
 * Latin-1 can hold it, else `iTXt`.
 */
export async function encodePng(
  picture: Picture,
  texts: Readonly<Record<string, string>> = {},
): Promise<Buffer> {
  const { width, height } = picture;
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header[8] = 8; // bits a sample
  header[9] = 2; // RGB
  const pixels = await deflateAsync(filterRows(picture), { level: 3 });
  return Buffer.concat([
    SIGNATURE,
    chunk('IHDR', header),
    ...Object.entries(texts).map(([keyword, text]) => textChunk(keyword, text)),
    chunk('IDAT', pixels),
    chunk('IEND', Buffer.alloc(0)),
  ]);
}

/** A PNG of these chunks. */
export function encodePngChunks(chunks: readonly Pick<PngChunk, 'type' | 'data'>[]): Buffer {
  return Buffer.concat([SIGNATURE, ...chunks.map(({ type, data }) => chunk(type, data))]);
}

/** The chunks of a PNG in their order, as far as the file goes; none where it is not a PNG. */
export function readPngChunks(png: Buffer): PngChunk[] {
  const chunks: PngChunk[] = [];
  if (!png.subarray(0, SIGNATURE.length).equals(SIGNATURE)) return chunks;
  let start = SIGNATURE.length;
  while (start + 12 <= png.length) {
    const end = start + 8 + png.readUInt32BE(start);
    if (end + 4 > png.length) break;
    const data = png.subarray(start + 8, end);
    const intact = crc32(png.subarray(start + 4, end)) === png.readUInt32BE(end);
    chunks.push({ type: png.toString('latin1', start + 4, start + 8), data, intact });
    start = end + 4;
  }
  return chunks;
}

/** The texts in a PNG by their keywords. Throws zlib's error where a compressed one is damaged. */
export function readPngTexts(png: Buffer): Map<string, string> {
  const texts = new Map<string, string>();
  for (const { type, data } of readPngChunks(png)) {
    const keyEnd = data.indexOf(0);
    if (keyEnd < 0) continue;
    const key = data.toString('latin1', 0, keyEnd);
    if (type === 'tEXt') texts.set(key, data.toString('latin1', keyEnd + 1));
    if (type === 'zTXt') texts.set(key, inflateSync(data.subarray(keyEnd + 2)).toString('latin1'));
    if (type === 'iTXt') {
      const languageEnd = data.indexOf(0, keyEnd + 3);
      const text = data.subarray(data.indexOf(0, languageEnd + 1) + 1);
      texts.set(key, (data[keyEnd + 1] === 1 ? inflateSync(text) : text).toString('utf8'));
    }
  }
  return texts;
}

/** The difference to the pixel on the left in every row: soft gradients need no better filter, and it is quick. */
function filterRows({ width, height, rgb }: Picture): Buffer {
  const stride = width * BYTES_PER_PIXEL;
  const filtered = Buffer.allocUnsafe((stride + 1) * height);
  let to = 0;
  for (let row = 0; row < rgb.length; row += stride) {
    filtered[to++] = FILTER_SUB;
    for (let i = 0; i < stride; i += 1) {
      const left = i < BYTES_PER_PIXEL ? 0 : (rgb[row + i - BYTES_PER_PIXEL] as number);
      filtered[to++] = (rgb[row + i] as number) - left;
    }
  }
  return filtered;
}

function textChunk(keyword: string, text: string): Buffer {
  const key = Buffer.from(`${keyword}\0`, 'latin1');
  const latin1 = Buffer.from(text, 'latin1');
  if (latin1.toString('latin1') === text) return chunk('tEXt', Buffer.concat([key, latin1]));
  // not compressed, no language, no translated keyword
  return chunk('iTXt', Buffer.concat([key, Buffer.alloc(4), Buffer.from(text, 'utf8')]));
}

function chunk(type: string, data: Buffer): Buffer {
  const bytes = Buffer.alloc(12 + data.length);
  bytes.writeUInt32BE(data.length, 0);
  bytes.write(type, 4, 'latin1');
  data.copy(bytes, 8);
  bytes.writeUInt32BE(crc32(bytes.subarray(4, 8 + data.length)), 8 + data.length);
  return bytes;
}
