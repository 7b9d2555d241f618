/**
 * What a walk over a file wants: `read` bytes to look at, `skip` bytes passed over, or all passed over up to a byte
 * `find` whose next byte is one for which `followedBy` is true; that next byte is then given.
 */
export type WalkStep =
  | { readonly read: number }
  | { readonly skip: number }
  | { readonly find: number; readonly followedBy: (byte: number) => boolean };

/**
 * Walks over the structure of an image file. The bytes that it wanted are given to the generator, and valid until it
 * asks for more. Returns true where the image is whole, false where its structure is broken; a walk that still wants
 * something at the end of the file has found it cut off.
 */
export type StructureWalk = Generator<WalkStep, boolean, Buffer>;

/** PNG (ISO/IEC 15948): chunks up to the end of IEND. */
export function* walkPng(): StructureWalk {
  yield { skip: 8 };
  for (let hasData = false; ; ) {
    const head = yield { read: 8 };
    const type = head.toString('latin1', 4, 8);
    yield { skip: head.readUInt32BE(0) + 4 };
    if (type === 'IDAT') hasData = true;
    if (type === 'IEND') return hasData;
  }
}

const MARKER = 0xff;
const END_OF_IMAGE = 0xd9;
const START_OF_SCAN = 0xda;

/** JPEG (ISO/IEC 10918-1): segments by their length, scans up to the next marker, up to the end-of-image marker. */
export function* walkJpeg(): StructureWalk {
  yield { skip: 2 };
  let hasScan = false;
  let code = yield* nextMarker();
  while (code !== undefined && code !== END_OF_IMAGE) {
    const length = (yield { read: 2 }).readUInt16BE(0);
    if (length < 2) return false;
    yield { skip: length - 2 };
    if (code === START_OF_SCAN) {
      hasScan = true;
      code = (yield { find: MARKER, followedBy: endsScan })[0];
    } else code = yield* nextMarker();
  }
  return code === END_OF_IMAGE && hasScan;
}

/** The code of the marker that must come next, whose first byte may be repeated; undefined where there is none. */
function* nextMarker(): Generator<WalkStep, number | undefined, Buffer> {
  if ((yield { read: 1 })[0] !== MARKER) return undefined;
  for (;;) {
    const code = (yield { read: 1 })[0];
    if (code !== MARKER) return code;
  }
}

/** In entropy-coded data, 0xff is followed by 0, by a restart's code or, ahead of the marker that ends it, by 0xff. */
const endsScan = (code: number) => code !== 0 && code !== MARKER && (code < 0xd0 || code > 0xd7);

/** RIFF, of which WebP is one: as long as it says at its beginning. */
export function* walkRiff(): StructureWalk {
  const head = yield { read: 8 };
  const length = head.readUInt32LE(4);
  if (length < 4) return false;
  yield { skip: length };
  return true;
}

const GIF_EXTENSION = 0x21;
const GIF_IMAGE = 0x2c;
const GIF_TRAILER = 0x3b;

/** GIF 87a and 89a: blocks up to the trailer. */
export function* walkGif(): StructureWalk {
  yield { skip: 10 };
  yield { skip: 2 + colorTableBytes((yield { read: 1 })[0] as number) };
  for (let hasImage = false; ; ) {
    const block = (yield { read: 1 })[0];
    if (block === GIF_TRAILER) return hasImage;
    if (block === GIF_EXTENSION) yield { skip: 1 };
    else if (block === GIF_IMAGE) {
      hasImage = true;
      yield { skip: 8 };
      yield { skip: colorTableBytes((yield { read: 1 })[0] as number) + 1 };
    } else return false;
    for (let size = -1; size !== 0; ) {
      size = (yield { read: 1 })[0] as number;
      yield { skip: size };
    }
  }
}

/** The size of the color table that a GIF's flags announce: 3 bytes for each of 2 to 256 colors, or none. */
function colorTableBytes(flags: number): number {
  return flags & 0x80 ? 3 * 2 ** ((flags & 0x07) + 1) : 0;
}
