import fc from 'fast-check';

/** Sizes of pieces, to be used over and over. */
export const pieceSizes = fc.oneof(
  fc.constant([1]),
  fc.constant([Number.MAX_SAFE_INTEGER]),
  fc.array(fc.integer({ min: 1, max: 7 }), { minLength: 1, maxLength: 10 }),
  fc.array(fc.integer({ min: 1, max: 3000 }), { minLength: 1, maxLength: 10 }),
);

/** Cuts bytes into pieces, each in memory of its own that is spoilt once the next one is asked for. */
export function* piecesOf(bytes: Buffer, sizes: readonly number[]): Generator<Buffer> {
  for (let at = 0, turn = 0; at < bytes.length; turn += 1) {
    const size = sizes[turn % sizes.length] as number;
    const piece = Buffer.from(bytes.subarray(at, at + size));
    yield piece;
    piece.fill('!');
    at += piece.length;
  }
}
