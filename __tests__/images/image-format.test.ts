import { createHash } from 'node:crypto';
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { sniffImage, WholenessCheck } from '../../lib/images/image-format.js';
import { pieceSizes, piecesOf } from '../helpers/byte-splits.js';
import { avifHead, makePng, sampleImages } from '../helpers/sample-images.js';

const samples = Object.entries(sampleImages);
const sample = (name: string) => sampleImages[name] as Buffer;

function isWhole(bytes: Uint8Array, sizes: readonly number[] = [Number.MAX_SAFE_INTEGER]): boolean {
  const check = new WholenessCheck();
  for (const piece of piecesOf(Buffer.from(bytes), sizes)) check.update(piece);
  return check.whole;
}

const ftyp = (...brands: string[]) => {
  const box = Buffer.alloc(8 + brands.length * 4 + 4);
  box.writeUInt32BE(box.length, 0);
  box.write(`ftyp${brands[0]}`, 4, 'latin1');
  box.write(brands.slice(1).join(''), 16, 'latin1');
  return Buffer.concat([box, Buffer.from('\0\0\0\x08avif', 'latin1')]);
};

describe('sniffImage', () => {
  test.each(samples)('knows %s', (name, bytes) => {
    const extension = name.replace(/.*(png|jpeg|webp|gif).*/, '$1').replace('jpeg', 'jpg');
    const type = `image/${extension === 'jpg' ? 'jpeg' : extension}`;
    expect(sniffImage(bytes)).toEqual({ extension, type, inline: true });
    expect(sniffImage(new Uint8Array(bytes.subarray(0, 64)))?.extension).toBe(extension);
  });

  test.each([
    ['AVIF', avifHead, 'avif'],
    ['AVIF by a compatible brand', ftyp('mif1', 'miaf', 'avif'), 'avif'],
    ['MP4', ftyp('isom', 'iso2', 'mp41'), 'mp4'],
    ['MP4 by a compatible brand', ftyp('XAVC', 'mp42'), 'mp4'],
    ['HEIC', ftyp('heic', 'mif1', 'heic'), undefined],
    ['a QuickTime film', ftyp('qt  ', 'qt  '), undefined],
    ['WebM', Buffer.from('1a45dfa39f4286810142f7810142f2810442f381084282847765626d', 'hex'), 'webm'],
    [
      'Matroska',
      Buffer.from('1a45dfa3a34286810142f7810142f2810442f381084282886d6174726f736b61', 'hex'),
      undefined,
    ],
    ['a WAVE sound', Buffer.from('RIFF\x24\0\0\0WAVEfmt ', 'latin1'), undefined],
    ['HTML', Buffer.from('<!doctype html><svg>'), undefined],
    ['SVG', Buffer.from('<svg xmlns="http://www.w3.org/2000/svg"></svg>'), undefined],
    ['half a signature', Buffer.from('\x89PNG', 'latin1'), undefined],
    ['nothing', Buffer.alloc(0), undefined],
  ])('tells %s', (_name, head, extension) => {
    expect(sniffImage(head)?.extension).toBe(extension);
  });
});

describe('WholenessCheck', () => {
  test.each(samples)('knows the end of %s, and every place ahead of it', (_name, bytes) => {
    expect(isWhole(bytes)).toBe(true);
    expect(isWhole(bytes, [1])).toBe(true);
    expect(isWhole(Buffer.concat([bytes, Buffer.from('something behind it')]))).toBe(true);
    for (let length = 0; length < bytes.length; length += 1) {
      if (isWhole(bytes.subarray(0, length)))
        throw new Error(`whole with ${length} of ${bytes.length} bytes`);
      if (isWhole(bytes.subarray(0, length), [1])) throw new Error(`whole with ${length} single bytes`);
    }
  });

  test('judges alike however the image is cut', () => {
    const damaged = fc
      .tuple(fc.constantFrom(...samples), fc.nat(), fc.integer({ min: 0, max: 255 }), fc.nat())
      .map(([[, bytes], at, byte, end]) => {
        const copy = Buffer.from(bytes);
        copy[at % copy.length] = byte;
        return copy.subarray(0, copy.length - (end % 3));
      });
    fc.assert(
      fc.property(damaged, pieceSizes, (bytes, sizes) => {
        expect(isWhole(bytes, sizes)).toBe(isWhole(bytes));
      }),
      { numRuns: 500 },
    );
  });

  test('walks over a large PNG', () => {
    const noise = createHash('shake256', { outputLength: 100_000 }).update('noise').digest();
    const png = makePng(400, 400, noise);
    expect(png.length).toBeGreaterThan(100_000);
    expect(isWhole(png, [64 * 1024])).toBe(true);
    expect(isWhole(png.subarray(0, -1), [64 * 1024])).toBe(false);
  });

  const changed = (bytes: Buffer, change: (copy: Buffer) => void) => {
    const copy = Buffer.from(bytes);
    change(copy);
    return copy;
  };
  const png = sample('png');
  const iend = png.length - 12;
  const jpeg = sample('baseline jpeg');
  const scan = jpeg.indexOf(Buffer.from('ffda', 'hex'));
  const gif = sample('gif');

  test.each([
    ['a PNG with a chunk longer than the file', changed(png, (copy) => copy.writeUInt32BE(1_000_000, 8))],
    ['a PNG with an impossible length', changed(png, (copy) => copy.writeUInt32BE(0xffffffff, 8))],
    ['a PNG with a chunk of no name', changed(png, (copy) => copy.write('\0', iend + 4))],
    ['a PNG without data', Buffer.concat([png.subarray(0, 33), png.subarray(iend)])],
    ['a PNG whose end is in the data of a chunk', changed(png, (copy) => copy.writeUInt32BE(png.length, 33))],
    ['a JPEG with a segment longer than the file', changed(jpeg, (copy) => copy.writeUInt16BE(0xffff, 4))],
    ['a JPEG with an impossible length', changed(jpeg, (copy) => copy.writeUInt16BE(0, 4))],
    ['a JPEG with something between its segments', changed(jpeg, (copy) => copy.writeUInt16BE(17, 4))],
    ['a JPEG without a scan', Buffer.concat([jpeg.subarray(0, scan), Buffer.from('ffd9', 'hex')])],
    ['a WebP that says it is longer', changed(sample('lossy webp'), (copy) => copy.writeUInt32LE(63, 4))],
    ['a WebP that says it is nothing', changed(sample('lossy webp'), (copy) => copy.writeUInt32LE(0, 4))],
    [
      'a GIF with an unknown block',
      changed(gif, (copy) => copy.fill(0x22, gif.indexOf(0x2c), gif.indexOf(0x2c) + 1)),
    ],
    ['a GIF without an image', Buffer.concat([gif.subarray(0, 10), Buffer.from([0, 0, 0, 0x3b])])],
    [
      'a GIF whose trailer is in the data',
      changed(gif, (copy) => copy.fill(0xff, gif.length - 36, gif.length - 35)),
    ],
    ['nothing', Buffer.alloc(0)],
    ['half a signature', Buffer.from('\x89PN', 'latin1')],
    ['one byte of a JPEG', Buffer.from([0xff])],
  ])('does not take %s for whole', (_name, bytes) => {
    expect(isWhole(bytes)).toBe(false);
    expect(isWhole(bytes, [1])).toBe(false);
  });

  test('lets a JPEG repeat the first byte of a marker', () => {
    const filler = Buffer.from('ffff', 'hex');
    const filled = Buffer.concat([
      jpeg.subarray(0, 2),
      filler,
      jpeg.subarray(2, -2),
      filler,
      jpeg.subarray(-2),
    ]);
    expect(isWhole(filled)).toBe(true);
    expect(isWhole(filled, [1])).toBe(true);
    expect(isWhole(filled.subarray(0, -1))).toBe(false);
  });

  test.each([
    ['AVIF', avifHead],
    ['anything', Buffer.from('plain text')],
    ['one byte', Buffer.from('x')],
  ])('takes a format that it does not know for whole: %s', (_name, bytes) => {
    expect(isWhole(bytes)).toBe(true);
    expect(isWhole(bytes, [1])).toBe(true);
  });
});
