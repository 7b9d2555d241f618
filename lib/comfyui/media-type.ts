import { extname } from 'node:path/posix';

/** As Python's mimetypes has them, for what nodes save. */
const TYPES: Readonly<Record<string, string>> = {
  '.png': 'image/png',
  '.jpg': 'image/jpeg',
  '.jpeg': 'image/jpeg',
  '.webp': 'image/webp',
  '.gif': 'image/gif',
  '.avif': 'image/avif',
  '.bmp': 'image/bmp',
  '.tif': 'image/tiff',
  '.tiff': 'image/tiff',
  '.mp4': 'video/mp4',
  '.webm': 'video/webm',
  '.mov': 'video/quicktime',
  '.mkv': 'video/x-matroska',
  '.avi': 'video/x-msvideo',
  '.wav': 'audio/x-wav',
  '.mp3': 'audio/mpeg',
  '.flac': 'audio/flac',
  '.ogg': 'audio/ogg',
  '.opus': 'audio/opus',
  '.m4a': 'audio/mp4',
  '.aac': 'audio/aac',
  '.glb': 'model/gltf-binary',
  '.gltf': 'model/gltf+json',
  '.obj': 'model/obj',
  '.stl': 'model/stl',
  '.txt': 'text/plain',
  '.csv': 'text/csv',
  '.md': 'text/markdown',
  '.json': 'application/json',
};
/** A browser would run what is in these, or in what they refer to. */
const ACTIVE =
  /\.(?:x?html?|xht|shtml|mhtml?|[cm]?js|jsx|tsx?|css|svgz?|xml|xslt?|xsd|rdf|rss|atom|wasm|pdf|swf|hta|vbs?)$/i;

export interface MediaType {
  readonly type: string;
  /** It is only for keeping. */
  readonly isAttachment: boolean;
}

/** What a file is sent as, by its name. */
export function mediaTypeOf(filename: string): MediaType {
  const isAttachment = ACTIVE.test(filename.replace(/[. ]+$/, ''));
  return { type: TYPES[extname(filename).toLowerCase()] ?? 'application/octet-stream', isAttachment };
}
