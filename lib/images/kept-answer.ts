import { openSidecar } from './answer-sidecar.js';
import { base64Length, streamBase64 } from './base64-stream.js';
import type { ImageStore, StoredFile } from './image-store.js';

/** A backend's answer that can be given once more, byte for byte. It has to be closed. */
export interface KeptAnswer {
  readonly status: number;
  readonly contentType: string | undefined;
  /** Of all of it; undefined where that is known only once it has been read. */
  readonly sizeBytes: number | undefined;
  /** The answer. */
  chunks(): AsyncGenerator<Buffer, void>;
  /** The answer without the base64 of its images, as the sidecar has it. */
  text(): AsyncGenerator<Buffer, void>;
  close(): Promise<void>;
}

/** Opens an answer that was kept; undefined where a part of it is missing, or was not kept as it came. */
export async function openKeptAnswer(store: ImageStore, path: string): Promise<KeptAnswer | undefined> {
  const sidecar = await openSidecar(store, path);
  if (!sidecar) return undefined;
  const { header, file, textStart } = sidecar;
  const files: StoredFile[] = [file];
  const close = async () => {
    await Promise.all(files.map((one) => one.close()));
  };
  const holes: { at: number; image: StoredFile; escapedSlashes: boolean }[] = [];
  let isWhole = false;
  try {
    for (const { path: imagePath, at, escaped_slashes } of header.exact ? header.images : []) {
      const image = await store.read(imagePath);
      if (!image) return undefined;
      files.push(image);
      holes.push({ at, image, escapedSlashes: escaped_slashes === true });
    }
    isWhole = header.exact;
  } finally {
    if (!isWhole) await close();
  }
  if (!isWhole) return undefined;
  holes.sort((a, b) => a.at - b.at);
  const textEnd = textStart + header.text_bytes;

  async function* text(start: number, end: number): AsyncGenerator<Buffer, void> {
    // A stream's range has its end in it.
    if (end > start) yield* file.read({ start, end: end - 1 }) as AsyncIterable<Buffer>;
  }
  return {
    status: header.status,
    contentType: header.content_type,
    sizeBytes: holes.some(({ escapedSlashes }) => escapedSlashes)
      ? undefined
      : holes.reduce((sum, { image }) => sum + base64Length(image.sizeBytes), header.text_bytes),
    async *chunks() {
      let at = textStart;
      for (const hole of holes) {
        yield* text(at, textStart + hole.at);
        yield* streamBase64(hole.image, hole);
        at = textStart + hole.at;
      }
      yield* text(at, textEnd);
    },
    text: () => text(textStart, textEnd),
    close,
  };
}
