import { createHash } from 'node:crypto';
import { drawLandscape } from '../../demo-shared/picture/landscape.js';
import { readPngChunks } from '../../demo-shared/picture/png.js';
import type { PythonDict, PythonValue } from '../../demo-shared/python-json.js';
import { type ComfyFiles, type FolderType, isFolderType } from '../comfy-files.js';
import type { NodeType } from './node-type.js';

export const CHECKPOINTS = [
  'demo.safetensors',
  'sd_xl_base_1.0.safetensors',
  'v1-5-pruned-emaonly.safetensors',
] as const;

const INITIAL_SIDE = 512;

const checkpointLoader: NodeType = {
  displayName: 'Load Checkpoint',
  category: 'loaders',
  required: { ckpt_name: { type: CHECKPOINTS } },
  outputs: ['MODEL', 'CLIP', 'VAE'],
  run: (inputs) => ({ values: Array(3).fill(inputs.get('ckpt_name')) }),
};

/** The picture is not decoded: another one is drawn in its place, which is the same for the same file. */
const loadImage: NodeType = {
  displayName: 'Load Image',
  category: 'image',
  required: { image: { type: (files) => files.list('input'), config: { image_upload: true } } },
  outputs: ['IMAGE', 'MASK'],
  check: (inputs, files) => {
    const name = inputs.get('image');
    const isThere = typeof name === 'string' && readAnnotated(name, files) !== undefined;
    return isThere ? undefined : { input: 'image', problem: `Invalid image file: ${String(name)}` };
  },
  fingerprint: (inputs, files) => hashOf(inputs.get('image'), files),
  run: (inputs, { files }) => {
    const name = inputs.get('image') as PythonValue;
    const header = readPngChunks(readAnnotated(String(name), files) ?? Buffer.alloc(0))[0]?.data;
    const [width, height] = header
      ? [header.readUInt32BE(0), header.readUInt32BE(4)]
      : [INITIAL_SIDE, INITIAL_SIDE];
    return { values: [[drawLandscape('', hashOf(name, files), width, height)], undefined] };
  },
};

export const LOADERS: Readonly<Record<string, NodeType>> = {
  CheckpointLoaderSimple: checkpointLoader,
  LoadImage: loadImage,
};

/** A file as workflows name it: `sub/name.png [output]`; in the input folder where no type stands behind it. */
function readAnnotated(text: string, files: ComfyFiles): Buffer | undefined {
  const [, name = text, type] = /^(.*) \[(\w+)\]$/.exec(text) ?? [];
  const folder: FolderType = type !== undefined && isFolderType(type) ? type : 'input';
  const at = name.lastIndexOf('/') + 1;
  const path = files.path(folder, name.slice(0, at), name.slice(at));
  return path === undefined ? undefined : files.read(path);
}

function hashOf(name: PythonDict | PythonValue | undefined, files: ComfyFiles): string {
  const bytes = readAnnotated(String(name), files) ?? Buffer.alloc(0);
  return createHash('sha256').update(bytes).digest('hex');
}
