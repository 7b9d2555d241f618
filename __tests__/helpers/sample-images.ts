import { crc32, deflateSync } from 'node:zlib';

const decoded = (base64: string) => Buffer.from(base64, 'base64');

function pngChunk(type: string, data: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(type, 'latin1'), data]);
  const chunk = Buffer.alloc(body.length + 8);
  chunk.writeUInt32BE(data.length, 0);
  body.copy(chunk, 4);
  chunk.writeUInt32BE(crc32(body), chunk.length - 4);
  return chunk;
}

/** A PNG of RGB pixels whose bytes are those of `noise`, repeated, with the data in chunks of `chunkBytes`. */
export function makePng(width: number, height: number, noise: Uint8Array, chunkBytes = 8192): Buffer {
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([8, 2, 0, 0, 0], 8);
  const rows = Buffer.alloc(height * (1 + width * 3), noise);
  for (let y = 0; y < height; y += 1) rows[y * (1 + width * 3)] = 0;
  const data = deflateSync(rows);
  const chunks: Buffer[] = [];
  for (let at = 0; at < data.length; at += chunkBytes)
    chunks.push(pngChunk('IDAT', data.subarray(at, at + chunkBytes)));
  return Buffer.concat([
    Buffer.from('89504e470d0a1a0a', 'hex'),
    pngChunk('IHDR', header),
    pngChunk('tEXt', Buffer.from('parameters\0a cat\nSteps: 20, Seed: 7', 'latin1')),
    ...chunks,
    pngChunk('IEND', Buffer.alloc(0)),
  ]);
}

/** Without a global color table, with a local one of two colors, and one pixel. */
const gifWithLocalColors = Buffer.from(
  '474946383961010001000000002c000000000100010080000000ffffff02024c01003b',
  'hex',
);

/** Small whole images, as real encoders make them. */
export const sampleImages: Readonly<Record<string, Buffer>> = {
  png: makePng(3, 2, Buffer.from('abc')),
  'png with many chunks': makePng(9, 9, Buffer.from('a much longer line of noise'), 5),
  'baseline jpeg': decoded(
    '/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABsSFBcUERsXFhceHBsgKEIrKCUlKFE6PTBCYFVlZF9VXVtqeJmBanGQc1tdhbWGkJ6jq62rZ4C8ybqmx5moq6T/wAALCAAIAAgBAREA/8QAFAABAAAAAAAAAAAAAAAAAAAAAP/EABYQAAMAAAAAAAAAAAAAAAAAAAAVYv/aAAgBAQAAPwAig//Z',
  ),
  'progressive jpeg': decoded(
    '/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABsSFBcUERsXFhceHBsgKEIrKCUlKFE6PTBCYFVlZF9VXVtqeJmBanGQc1tdhbWGkJ6jq62rZ4C8ybqmx5moq6T/wgALCAAIAAgBAREA/8QAFAABAAAAAAAAAAAAAAAAAAAAAP/aAAgBAQAAAAF//8QAFRABAQAAAAAAAAAAAAAAAAAAABP/2gAIAQEAAQUCg//EABQQAQAAAAAAAAAAAAAAAAAAAAD/2gAIAQEABj8Cf//EABUQAQEAAAAAAAAAAAAAAAAAAABx/9oACAEBAAE/IYf/2gAIAQEAAAAQf//EABQQAQAAAAAAAAAAAAAAAAAAAAD/2gAIAQEAAT8Qf//Z',
  ),
  'jpeg with a thumbnail in its EXIF': decoded(
    '/9j/4AAQSkZJRgABAQAAAQABAAD/4QDKRXhpZgAATU0AKgAAAAgAAZKGAAEAAACnAAAAGgAAAABVTklDT0RFAP/Y/+AAEEpGSUYAAQEAAAEAAQAA/9sAQwD//////////////////////////////////////////////////////////////////////////////////////8AACwgAAQABAQERAP/EABQAAQAAAAAAAAAAAAAAAAAAAAL/xAAUEAEAAAAAAAAAAAAAAAAAAAAA/9oACAEBAAA/AE//2QD/2wBDAP//////////////////////////////////////////////////////////////////////////////////////wAALCAAIAAgBAREA/8QAFAABAAAAAAAAAAAAAAAAAAAAAf/EABQQAQAAAAAAAAAAAAAAAAAAAAD/2gAIAQEAAD8AH//Z',
  ),
  'jpeg with restart markers': decoded(
    '/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAgGBgcGBQgHBwcJCQgKDBQNDAsLDBkSEw8UHRofHh0aHBwgJC4nICIsIxwcKDcpLDAxNDQ0Hyc5PTgyPC4zNDL/wAALCAAQABgBAREA/8QAFQABAQAAAAAAAAAAAAAAAAAABAL/xAAhEAADAQACAgIDAQAAAAAAAAABAgMEBRESIQATBhUiMf/dAAQAAv/aAAgBAQAAPwA/5G6cXTVHTr0SmytLXs0zI0WU1mXRV8vEzIqjGS+I6Ue+yylVZXh+s0clto+auyb7sF9Ys6oUf66G02X+/wCWZAgAPYPRdOvn/9CoZeQfi40lpfQtomGzLl+3Qjo7LQsqMGE6nzYDzBD+LMffYYVHPJccnITx1y1R5idquWranuYK1QelNUbpWIHY7BX0U//RHfbyf5Aq041Y4qyKgiokyyoWUgZ27duyiksv+KZt2fIH4jTzO3Ffdnx8mi31FZRJadVnbuLOCO3ACj7QvQZvEKAx8PX/2Q==',
  ),
  'lossy webp': decoded(
    'UklGRj4AAABXRUJQVlA4IDIAAACwAQCdASoIAAgABUB8JbACdAD0MYo0AP7p/TawvgiK/d9w9nltwWZ/s+naDNPC5AAAAA==',
  ),
  'lossless webp': decoded(
    'UklGRjYAAABXRUJQVlA4TCkAAAAvB8ABALkyRPQ/duUvf/Q/DGTSNnVS/z57TcGYDwJJW7ztjwk43zreewA=',
  ),
  gif: decoded(
    'R0lGODdhCAAIAIEAAG26VG1tMZsfFB8fBCwAAAAACAAIAAAIIQAHCBwgoKCAgQYLDgyQUGCAhw8PQpw44CGAixgzatwYEAA7',
  ),
  'animated gif': decoded(
    'R0lGODlhCAAIAIEAAG26VG1tMZsfFB8fBCH/C05FVFNDQVBFMi4wAwEAAAAsAAAAAAgACAAACCEABwgcIKCggIEGCw4MkFBggIcPD0KcOOAhgIsYM2rcGBAAIfkEAQAABAAsAAAAAAgACACBbbpUbW0xmx8UHx8ECCwABQgUEACAwYEBCh4USEAhgIEECBgEQEBARIkGCQwYkDBAxI0bE34EuTFiQAA7',
  ),
  'gif with local colors': gifWithLocalColors,
};

/** The first 64 bytes of an AVIF file. */
export const avifHead = decoded(
  'AAAAIGZ0eXBhdmlmAAAAAGF2aWZtaWYxbWlhZk1BMUIAAADrbWV0YQAAAAAAAAAhaGRscgAAAAAAAAAAcGljdA==',
);
