import type { ImageStore, StoredFile } from './image-store.js';

/** Where an image's base64 stood in an answer. */
export interface SidecarImage {
  /** Relative to the output folder. */
  readonly path: string;
  /** The byte offset in the answer's text at which the base64 was cut out. */
  readonly at: number;
  /** Every slash of the base64 was written as `\/`. */
  readonly escaped_slashes?: true;
}

/** What a sidecar says of the answer in it. */
export interface SidecarHeader {
  readonly id: string;
  readonly status: number;
  readonly content_type?: string;
  /** The answer can be given again byte for byte: its text, with the images' base64 put in where they were. */
  readonly exact: boolean;
  readonly images: readonly SidecarImage[];
  /** The places of raw values in the answer's text: start and end (exclusive), in bytes. */
  readonly members: {
    readonly info?: readonly [number, number];
    readonly parameters?: readonly [number, number];
    readonly workflow?: readonly [number, number];
  };
  readonly text_bytes: number;
}

export interface WrittenSidecar {
  readonly path: string;
  readonly sizeBytes: number;
}

const TEXT_FOLLOWS = ',\n"answer":';
const AFTER_TEXT = '}\n';
const MAX_HEADER_BYTES = 4 * 1024 * 1024;
/** So many bytes are written at once, or a chunk more. */
const WRITE_BYTES = 64 * 1024;
const FIRST_READ_BYTES = 16 * 1024;

/**
 * Writes a sidecar: one JSON file of two lines, the header and the answer's own text with its image strings cut out.
 * The text is never parsed, because a backend's numbers (64-bit seeds, `7.0`) would not survive that.
 */
export async function writeSidecar(
  store: ImageStore,
  stem: string,
  header: SidecarHeader,
  text: AsyncIterable<Buffer>,
): Promise<WrittenSidecar> {
  const writer = await store.create(stem);
  let sizeBytes = 0;
  // Most are small, and go to the disk in one piece.
  let gathered: Buffer[] = [];
  let gatheredBytes = 0;
  const flush = async () => {
    await writer.write(Buffer.concat(gathered));
    sizeBytes += gatheredBytes;
    gathered = [];
    gatheredBytes = 0;
  };
  const write = async (bytes: Buffer) => {
    gathered.push(bytes);
    gatheredBytes += bytes.length;
    if (gatheredBytes >= WRITE_BYTES) await flush();
  };
  try {
    await write(Buffer.from(JSON.stringify(header).slice(0, -1) + TEXT_FOLLOWS));
    for await (const chunk of text) await write(chunk);
    await write(Buffer.from(AFTER_TEXT));
    await flush();
    return { path: await writer.finish('json'), sizeBytes };
  } catch (error) {
    await writer.discard();
    throw error;
  }
}

/** An opened sidecar. Its `file` has to be closed. */
export interface Sidecar {
  readonly header: SidecarHeader;
  readonly file: StoredFile;
  /** Where the answer's text begins in the file, in bytes. */
  readonly textStart: number;
}

/** Opens a sidecar; undefined where there is none, or what is there is not one, or not a whole one. */
export async function openSidecar(store: ImageStore, path: string): Promise<Sidecar | undefined> {
  const file = await store.read(path);
  if (!file) return undefined;
  let sidecar: Sidecar | undefined;
  try {
    sidecar = await readSidecar(file);
  } finally {
    if (!sidecar) await file.close();
  }
  return sidecar;
}

async function readSidecar(file: StoredFile): Promise<Sidecar | undefined> {
  for (let length = FIRST_READ_BYTES; length <= MAX_HEADER_BYTES; length *= 16) {
    const head = await file.slice(0, length);
    const headerEnd = head.indexOf(TEXT_FOLLOWS);
    if (headerEnd !== -1) {
      const header = parseHeader(head.toString('utf8', 0, headerEnd));
      const textStart = headerEnd + TEXT_FOLLOWS.length;
      const textBytes = file.sizeBytes - textStart - AFTER_TEXT.length;
      return isHeader(header, textBytes) ? { header, file, textStart } : undefined;
    }
    if (head.length < length) return undefined;
  }
  return undefined;
}

function parseHeader(line: string): unknown {
  try {
    return JSON.parse(`${line}}`);
  } catch {
    // Somebody else's file, or a damaged one: the images do not depend on it.
    return undefined;
  }
}

/** Whether a file says of itself what a sidecar says whose text has so many bytes. Nothing read from a disk is taken on trust. */
function isHeader(value: unknown, textBytes: number): value is SidecarHeader {
  if (typeof value !== 'object' || value === null) return false;
  const { id, status, exact, images, members, text_bytes } = value as Partial<SidecarHeader>;
  if (typeof id !== 'string' || typeof status !== 'number' || typeof exact !== 'boolean') return false;
  if (text_bytes !== textBytes || !Array.isArray(images)) return false;
  if (typeof members !== 'object' || members === null) return false;
  const isOffset = (at: unknown) =>
    Number.isSafeInteger(at) && (at as number) >= 0 && (at as number) <= textBytes;
  const isPlace = (place: unknown) =>
    Array.isArray(place) && place.length === 2 && place.every(isOffset) && place[0] < place[1];
  return (
    [members.info, members.parameters, members.workflow].every(
      (place) => place === undefined || isPlace(place),
    ) && images.every((image) => typeof image?.path === 'string' && isOffset(image.at))
  );
}
