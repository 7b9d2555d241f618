import {
  type StructureWalk,
  type WalkStep,
  walkGif,
  walkJpeg,
  walkPng,
  walkRiff,
} from './image-structure.js';

export interface ImageFormat {
  /** Without a dot: `png`, `jpg`. */
  readonly extension: string;
  /** The media type. */
  readonly type: string;
  /** Whether a browser may show it in place, as opposed to saving it. */
  readonly inline: boolean;
}

const PNG: ImageFormat = { extension: 'png', type: 'image/png', inline: true };
const JPEG: ImageFormat = { extension: 'jpg', type: 'image/jpeg', inline: true };
const WEBP: ImageFormat = { extension: 'webp', type: 'image/webp', inline: true };
const GIF: ImageFormat = { extension: 'gif', type: 'image/gif', inline: true };
const AVIF: ImageFormat = { extension: 'avif', type: 'image/avif', inline: true };
const MP4: ImageFormat = { extension: 'mp4', type: 'video/mp4', inline: true };
const WEBM: ImageFormat = { extension: 'webm', type: 'video/webm', inline: true };

const PNG_SIGNATURE = '\x89PNG\r\n\x1a\n';
const JPEG_SIGNATURE = '\xff\xd8\xff';
const EBML_SIGNATURE = '\x1aE\xdf\xa3';
/** The brands (ISO/IEC 14496-12) of files that players take for MP4. */
const MP4_BRANDS = /^(?:iso[m2-9]|mp4[12]|avc1|M4V |M4VP|dash|mmp4|MSNV)$/;

/**
 * The format of a file, told by its first bytes; 64 are enough. `undefined` for any other format, which is best named
 * `.bin` and sent as `application/octet-stream`.
 */
export function sniffImage(head: Uint8Array): ImageFormat | undefined {
  const text = viewOf(head).toString('latin1', 0, 64);
  if (text.startsWith(PNG_SIGNATURE)) return PNG;
  if (text.startsWith(JPEG_SIGNATURE)) return JPEG;
  if (/^GIF8[79]a/.test(text)) return GIF;
  if (/^RIFF.{4}WEBP/s.test(text)) return WEBP;
  if (text.startsWith(EBML_SIGNATURE)) return text.includes('webm') ? WEBM : undefined;
  return text.startsWith('ftyp', 4) ? formatOfBrands(text) : undefined;
}

/** `text` begins with a box `ftyp`: size, `ftyp`, major brand, version, and compatible brands up to its end. */
function formatOfBrands(text: string): ImageFormat | undefined {
  const boxEnd = Buffer.from(text.slice(0, 4), 'latin1').readUInt32BE(0);
  const brands: readonly string[] = `${text.slice(8, 12)}${text.slice(16, boxEnd)}`.match(/.{4}/gs) ?? [];
  if (brands.includes('avif') || brands.includes('avis')) return AVIF;
  return brands.some((brand) => MP4_BRANDS.test(brand)) ? MP4 : undefined;
}

const WALKS: readonly { signature: string; walk: () => StructureWalk }[] = [
  { signature: PNG_SIGNATURE, walk: walkPng },
  { signature: JPEG_SIGNATURE, walk: walkJpeg },
  { signature: 'RIFF', walk: walkRiff },
  { signature: 'GIF87a', walk: walkGif },
  { signature: 'GIF89a', walk: walkGif },
];
const LONGEST_SIGNATURE = 8;
const NOTHING: Buffer = Buffer.alloc(0);

/**
 * Tells whether an image that passes in chunks ends where its format says: PNG, JPEG, RIFF (WebP) and GIF; another
 * format counts as whole. Bytes after the end do no harm. A file without a byte, one that stops within a signature, or
 * one with a broken structure is not whole. What the structure holds is not decoded.
 */
export class WholenessCheck {
  #state: 'format' | 'walking' | 'whole' | 'broken' = 'format';
  /** What has come while the format is not known. */
  #signature: Buffer = NOTHING;
  #walk: StructureWalk | undefined;
  #step: WalkStep = { skip: 0 };
  /** How many bytes of the step are still to come. */
  #left = 0;
  /** Whether the last byte passed over was the first of the two that are looked for. */
  #firstFound = false;
  readonly #read = Buffer.alloc(8);

  update(bytes: Uint8Array): void {
    const chunk = viewOf(bytes);
    if (this.#state === 'walking') this.#run(chunk);
    else if (this.#state === 'format' && chunk.length > 0) this.#recognise(chunk);
  }

  /** Whether the bytes so far are a whole image. */
  get whole(): boolean {
    return this.#state === 'whole';
  }

  #recognise(chunk: Buffer): void {
    const earlier = this.#signature;
    this.#signature = Buffer.concat([earlier, chunk.subarray(0, LONGEST_SIGNATURE)]);
    const text = this.#signature.toString('latin1');
    const format = WALKS.find(({ signature }) => text.startsWith(signature) || signature.startsWith(text));
    if (!format) this.#state = 'whole';
    else if (text.length >= format.signature.length) {
      this.#state = 'walking';
      this.#walk = format.walk();
      this.#advance(NOTHING);
      this.#run(earlier);
      this.#run(chunk);
    }
  }

  #run(chunk: Buffer): void {
    let at = 0;
    while (this.#state === 'walking') {
      const step = this.#step;
      if ('find' in step) {
        at = this.#find(chunk, at, step.find, step.followedBy);
        if (at < 0) return;
        this.#advance(this.#read.subarray(0, 1));
        continue;
      }
      const taken = Math.min(this.#left, chunk.length - at);
      if ('read' in step) chunk.copy(this.#read, step.read - this.#left, at, at + taken);
      at += taken;
      this.#left -= taken;
      if (this.#left > 0) return;
      this.#advance('read' in step ? this.#read.subarray(0, step.read) : NOTHING);
    }
  }

  /** Puts the second byte of the pair into `#read`, and returns where to go on; -1 where the chunk has no such pair. */
  #find(chunk: Buffer, start: number, first: number, isSecond: (byte: number) => boolean): number {
    let at = start;
    while (at < chunk.length) {
      if (this.#firstFound) {
        this.#firstFound = false;
        const second = chunk[at] as number;
        if (isSecond(second)) {
          this.#read[0] = second;
          return at + 1;
        }
      }
      const found = chunk.indexOf(first, at);
      if (found < 0) return -1;
      this.#firstFound = true;
      at = found + 1;
    }
    return -1;
  }

  #advance(read: Buffer): void {
    const next = this.#walk?.next(read);
    if (!next) return;
    if (next.done) {
      this.#state = next.value ? 'whole' : 'broken';
      return;
    }
    this.#step = next.value;
    if ('read' in next.value) this.#left = next.value.read;
    else if ('skip' in next.value) this.#left = next.value.skip;
  }
}

function viewOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
