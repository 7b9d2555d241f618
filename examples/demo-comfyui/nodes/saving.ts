import { randomBytes } from 'node:crypto';
import { encodePng } from '../../demo-shared/picture/png.js';
import { dumpSpaced, type PythonValue } from '../../demo-shared/python-json.js';
import { filenamePrefix, IMAGES, type Images, type NodeContext, type NodeType } from './node-type.js';
import { type SaveOptions, saveFiles } from './save-files.js';

const HIDDEN = { prompt: 'PROMPT', extra_pnginfo: 'EXTRA_PNGINFO' };

const saveImage: NodeType = {
  displayName: 'Save Image',
  category: 'image',
  required: { images: IMAGES, filename_prefix: filenamePrefix('ComfyUI') },
  hidden: HIDDEN,
  outputs: [],
  isOutput: true,
  run: async (inputs, context) => {
    const prefix = String(inputs.get('filename_prefix') ?? 'ComfyUI');
    const images = await saveImages(inputs.get('images') as Images, context, { type: 'output', prefix });
    return { values: [], ui: { images } };
  },
};

/** Its files are named by chance, as nobody is to count on them: they are gone after a restart. */
const previewImage: NodeType = {
  displayName: 'Preview Image',
  category: 'image',
  required: { images: IMAGES },
  hidden: HIDDEN,
  outputs: [],
  isOutput: true,
  run: async (inputs, context) => {
    const prefix = `ComfyUI_temp_${randomBytes(3).toString('hex')}`;
    const images = await saveImages(inputs.get('images') as Images, context, { type: 'temp', prefix });
    return { values: [], ui: { images } };
  },
};

const previewAny: NodeType = {
  displayName: 'Preview as Text',
  category: 'utilities',
  required: { source: { type: '*' } },
  outputs: ['STRING'],
  isOutput: true,
  run: (inputs) => {
    const source = inputs.get('source');
    const text = typeof source === 'object' ? JSON.stringify(source, bigintsAsText) : String(source);
    return { values: [text], ui: { text: [text] } };
  },
};

export const SAVING: Readonly<Record<string, NodeType>> = {
  SaveImage: saveImage,
  PreviewImage: previewImage,
  PreviewAny: previewAny,
};

async function saveImages(
  images: Images,
  context: NodeContext,
  options: Pick<SaveOptions, 'type' | 'prefix'>,
): Promise<PythonValue[]> {
  const texts = {
    prompt: context.promptJson,
    ...Object.fromEntries([...context.pngInfo].map(([key, value]) => [key, dumpSpaced(value)])),
  };
  const contents = await Promise.all(images.map((image) => encodePng(image, texts)));
  const { width = 0, height = 0 } = images[0] ?? {};
  return saveFiles(context, contents, { ...options, extension: 'png', size: { width, height } });
}

function bigintsAsText(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? String(value) : value;
}
