import { describe, expect, test } from '@jest/globals';
import { ImageIntake } from '../../lib/images/image-intake.js';
import type { ImageStore, ImageWriter } from '../../lib/images/image-store.js';
import { sampleImages } from '../helpers/sample-images.js';

const png = sampleImages.png as Buffer;
const no = () => Promise.reject(new Error('the disk is full'));

/** A store in memory, for one file. */
function memoryStore(parts: Partial<ImageWriter> = {}) {
  const written: Buffer[] = [];
  let discarded = 0;
  const writer: ImageWriter = {
    async write(bytes) {
      written.push(Buffer.from(bytes));
    },
    finish: async (extension) => `stem.${extension}`,
    async discard() {
      discarded += 1;
    },
    ...parts,
  };
  const store: ImageStore = {
    open: async () => {},
    create: async () => writer,
    read: async () => undefined,
    remove: async () => false,
  };
  return { store, content: () => Buffer.concat(written), discarded: () => discarded };
}

/** Gives an image to an intake in pieces, and spoils each piece as soon as it is released. */
function give(store: ImageStore, image: Buffer) {
  const released: number[] = [];
  let taken = 0;
  const intake = new ImageIntake(store, 'stem', (sizeBytes) => {
    taken += sizeBytes;
  });
  for (let at = 0, n = 0; at < image.length; at += 10, n += 1) {
    const piece = Buffer.from(image.subarray(at, at + 10));
    intake.push(piece, () => {
      piece.fill(0);
      released.push(n);
    });
  }
  return { intake, released, taken: () => taken };
}

const pieces = Array.from({ length: Math.ceil(png.length / 10) }, (_, n) => n);

describe('an image on its way', () => {
  test('is written in order, and each piece is released once it is taken', async () => {
    const { store, content, discarded } = memoryStore();
    const { intake, released, taken } = give(store, png);
    expect(released).toEqual([]);
    expect(await intake.finish()).toEqual({ kind: 'kept', path: 'stem.png', sizeBytes: png.length });
    expect(content()).toEqual(png);
    expect(released).toEqual(pieces);
    expect([taken(), discarded()]).toEqual([png.length, 0]);
  });

  test('has the extension of its format, whatever size the first piece has', async () => {
    const { store } = memoryStore();
    for (const [image, extension] of [
      [sampleImages['baseline jpeg'], 'jpg'],
      [sampleImages['lossy webp'], 'webp'],
      [Buffer.from('something else'), 'bin'],
    ] as const) {
      expect(await give(store, image as Buffer).intake.finish()).toEqual({
        kind: 'kept',
        path: `stem.${extension}`,
        sizeBytes: (image as Buffer).length,
      });
    }
  });

  test('that ends early is thrown away', async () => {
    const { store, discarded } = memoryStore();
    const { intake } = give(store, png.subarray(0, -1));
    expect(await intake.finish()).toEqual({ kind: 'truncated' });
    expect(discarded()).toBe(1);
  });

  test.each([
    ['write rejects', memoryStore({ write: no })],
    ['finish rejects', memoryStore({ finish: no })],
  ])('%s: it is thrown away, and every piece is released', async (_what, { store, discarded }) => {
    const { intake, released, taken } = give(store, png);
    expect(await intake.finish()).toEqual({ kind: 'failed', message: 'the disk is full' });
    expect(released).toEqual(pieces);
    expect([taken(), discarded()]).toEqual([png.length, 1]);
  });

  test('create rejects: every piece is released', async () => {
    const { store } = memoryStore();
    const { intake, released } = give({ ...store, create: no }, png);
    expect(await intake.finish()).toEqual({ kind: 'failed', message: 'the disk is full' });
    expect(released).toEqual(pieces);
    await intake.discard();
  });

  test('discard never rejects', async () => {
    const { store } = memoryStore({ discard: no });
    await give(store, png).intake.discard();
  });
});
