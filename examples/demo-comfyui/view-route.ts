import { basename } from 'node:path';
import { encodePngChunks, readPngChunks } from '../demo-shared/picture/png.js';
import { type ComfyFiles, isFolderType } from './comfy-files.js';
import { contentTypeOf } from './content-type.js';
import { bytesReply, emptyReply, type Reply } from './reply.js';
import type { Call } from './router.js';
import { fileReply } from './send-file.js';

/** `GET /view`: a file of one of the three folders. */
export function viewFile({ query, request }: Call, files: ComfyFiles, nosniff: boolean): Reply {
  const given = query.get('filename');
  if (given === null) return emptyReply(404);
  const [, name = given, annotated] = /^(.*) \[(output|input|temp)\]$/.exec(given) ?? [];
  if (name === '' || name.startsWith('/') || name.includes('..')) return emptyReply(400);
  const type = annotated ?? query.get('type') ?? 'output';
  if (!isFolderType(type)) return emptyReply(400);
  const path = files.path(type, query.get('subfolder') ?? '', name);
  if (path === undefined) return emptyReply(403);
  const bytes = files.read(path);
  if (!bytes) return emptyReply(404);
  const filename = basename(path);
  const content = contentTypeOf(filename);
  // as raw UTF-8, which Node writes only where each byte is a character
  const quoted = Buffer.from(`filename="${filename}"`, 'utf8').toString('latin1');
  const own = {
    'content-type': content.type,
    'content-disposition': content.isAttachment ? `attachment; ${quoted}` : quoted,
    ...(nosniff ? { 'x-content-type-options': 'nosniff' } : {}),
  };
  const isEncodedAnew = query.has('preview') || ['rgb', 'a'].includes(query.get('channel') ?? '');
  const png = isEncodedAnew ? withoutTexts(bytes) : undefined;
  if (!png) return fileReply(path, bytes, own, request.headers);
  const reply = bytesReply(png, 'image/png');
  return { ...reply, headers: { ...reply.headers, 'content-disposition': quoted } };
}

/** The picture of a PNG alone, for whoever asks for another encoding of it; undefined for other files. */
function withoutTexts(bytes: Buffer): Buffer | undefined {
  const chunks = readPngChunks(bytes);
  if (chunks.length === 0) return undefined;
  return encodePngChunks(chunks.filter(({ type }) => !/^(tEXt|zTXt|iTXt)$/.test(type)));
}
