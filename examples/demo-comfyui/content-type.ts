import { extname } from 'node:path';

const TYPES: Readonly<Record<string, string>> = {
  '.png': 'image/png',
  '.jpg': 'image/jpeg',
  '.jpeg': 'image/jpeg',
  '.gif': 'image/gif',
  '.webp': 'image/webp',
  '.svg': 'image/svg+xml',
  '.mp4': 'video/mp4',
  '.webm': 'video/webm',
  '.flac': 'audio/flac',
  '.mp3': 'audio/mpeg',
  '.wav': 'audio/x-wav',
  '.glb': 'model/gltf-binary',
  '.txt': 'text/plain',
  '.json': 'application/json',
  '.html': 'text/html',
  '.htm': 'text/html',
  '.js': 'text/javascript',
  '.css': 'text/css',
};
const UNKNOWN = 'application/octet-stream';
/** A browser would run it, or what is in it. */
const ACTIVE = new Set(['text/html', 'text/javascript', 'text/css', 'image/svg+xml']);

/** By the name's ending. What a browser would run is only for keeping. */
export function contentTypeOf(filename: string): { type: string; isAttachment: boolean } {
  const type = TYPES[extname(filename).toLowerCase()] ?? UNKNOWN;
  return ACTIVE.has(type) ? { type: UNKNOWN, isAttachment: true } : { type, isAttachment: false };
}
