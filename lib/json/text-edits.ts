/** Replaces the bytes from `start` to `end` (exclusive) of a text. */
export interface TextEdit {
  readonly start: number;
  readonly end: number;
  readonly text: string;
}

/** By how many bytes a text grows through the edits. */
export function grownBytes(edits: readonly TextEdit[]): number {
  return edits.reduce((sum, { start, end, text }) => sum + Buffer.byteLength(text) - (end - start), 0);
}

/**
 * A body with edits made, in passing. Numbers in a body can be more than JavaScript can hold (64-bit seeds), or be
 * written in a way that it cannot repeat (`7.0`), so a body is never parsed and written anew.
 *
 * @param edits in ascending order, without overlaps.
 */
export async function* applyEdits(
  chunks: AsyncIterable<Buffer> | Iterable<Buffer>,
  edits: readonly TextEdit[],
): AsyncGenerator<Buffer, void> {
  let next = 0;
  let offset = 0;
  for await (const chunk of chunks) {
    const chunkEnd = offset + chunk.length;
    let at = 0;
    for (let edit = edits[next]; edit && edit.start < chunkEnd; edit = edits[next]) {
      if (edit.start >= offset) {
        if (edit.start > offset + at) yield chunk.subarray(at, edit.start - offset);
        if (edit.text) yield Buffer.from(edit.text);
      }
      at = Math.min(edit.end - offset, chunk.length);
      if (edit.end > chunkEnd) break;
      next += 1;
    }
    if (at < chunk.length) yield chunk.subarray(at);
    offset = chunkEnd;
  }
}

/** A text with edits made. */
export function editedText(text: Buffer, edits: readonly TextEdit[]): Buffer {
  if (edits.length === 0) return text;
  const pieces: Buffer[] = [];
  let at = 0;
  for (const edit of edits) {
    pieces.push(text.subarray(at, edit.start), Buffer.from(edit.text));
    at = edit.end;
  }
  return Buffer.concat([...pieces, text.subarray(at)]);
}
