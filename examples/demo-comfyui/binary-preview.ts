import { dumpSpaced } from '../demo-shared/python-json.js';

const PREVIEW_IMAGE = 1;
const PREVIEW_IMAGE_WITH_METADATA = 4;
const FORMAT_PNG = 2;

/** A preview as older clients know it: two numbers of 32 bits, which are the event and the format, and the image. */
export function plainPreview(png: Buffer): Buffer {
  return Buffer.concat([uint32(PREVIEW_IMAGE), uint32(FORMAT_PNG), png]);
}

/** A preview that says what it belongs to: the event, the length of a JSON text, the text and the image. */
export function previewWithMetadata(png: Buffer, promptId: string, nodeId: string): Buffer {
  const metadata = Buffer.from(
    dumpSpaced({
      node_id: nodeId,
      prompt_id: promptId,
      display_node_id: nodeId,
      parent_node_id: null,
      real_node_id: nodeId,
      image_type: 'image/png',
    }),
  );
  return Buffer.concat([uint32(PREVIEW_IMAGE_WITH_METADATA), uint32(metadata.length), metadata, png]);
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}
