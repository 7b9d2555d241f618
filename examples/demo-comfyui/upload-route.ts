import { basename, extname } from 'node:path';
import { type ComfyFiles, isFolderType } from './comfy-files.js';
import { emptyReply, jsonReply, type Reply } from './reply.js';
import type { Call } from './router.js';

/** `POST /upload/image`: keeps the file of a form, by default in the input folder. */
export async function uploadImage({ request }: Call, files: ComfyFiles): Promise<Reply> {
  const type = request.headers['content-type'] ?? '';
  const form = await new Response(request.body, { headers: { 'content-type': type } }).formData();
  const image = form.get('image');
  const folder = String(form.get('type') ?? 'input');
  const subfolder = String(form.get('subfolder') ?? '');
  if (!(image instanceof Blob) || !('name' in image) || !isFolderType(folder)) return emptyReply(400);
  const given = basename(String(image.name));
  if (given === '') return emptyReply(400);
  const bytes = Buffer.from(await image.arrayBuffer());
  const isOverwriting = ['true', '1'].includes(String(form.get('overwrite')));
  for (let copy = 0; ; copy += 1) {
    const name = copy === 0 ? given : numbered(given, copy);
    const path = files.path(folder, subfolder, name);
    if (path === undefined) return emptyReply(400);
    const there = files.read(path);
    if (there && !isOverwriting && !there.equals(bytes)) continue;
    if (!there?.equals(bytes)) files.write(path, bytes);
    return jsonReply({ name, subfolder, type: folder });
  }
}

/** `photo (1).png`. */
function numbered(name: string, copy: number): string {
  const extension = extname(name);
  return `${name.slice(0, name.length - extension.length)} (${copy})${extension}`;
}
