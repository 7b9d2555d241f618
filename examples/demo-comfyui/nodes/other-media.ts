import { ANIMATED_WEBP, FLAC, GLB, MP4 } from '../sample-files.js';
import { filenamePrefix, float, IMAGES, integer, type NodeType } from './node-type.js';
import { saveFiles } from './save-files.js';

/** Files that are no PNG have always the same content: a small whole file of their kind. */
interface Media {
  readonly displayName: string;
  readonly category: string;
  /** The name and the type of the input that is saved. */
  readonly input: readonly [string, string];
  readonly prefix: string;
  readonly extension: string;
  readonly content: Buffer;
  /** Under which name the history lists the files. */
  readonly key: 'images' | 'audio' | '3d';
  readonly isAnimated?: boolean;
}

function savingNode({ displayName, category, input: [name, type], ...media }: Media): NodeType {
  return {
    displayName,
    category,
    required: { [name]: { type }, filename_prefix: filenamePrefix(media.prefix) },
    hidden: { prompt: 'PROMPT', extra_pnginfo: 'EXTRA_PNGINFO' },
    outputs: [],
    isOutput: true,
    run: (inputs, context) => {
      const prefix = String(inputs.get('filename_prefix') ?? media.prefix);
      const { extension } = media;
      const saved = saveFiles(context, [media.content], { type: 'output', prefix, extension });
      return { values: [], ui: { [media.key]: saved, ...(media.isAnimated ? { animated: [true] } : {}) } };
    },
  };
}

/** A node whose output is only passed on to one that saves. */
function sourceNode(displayName: string, output: string, required: NodeType['required']): NodeType {
  const run = () => ({ values: [{ kind: output.toLowerCase() }] });
  return { displayName, category: 'demo', required, outputs: [output], run };
}

export const OTHER_MEDIA: Readonly<Record<string, NodeType>> = {
  CreateVideo: sourceNode('Create Video', 'VIDEO', { images: IMAGES, fps: float(30, 1, 120) }),
  EmptyAudio: sourceNode('Empty Audio', 'AUDIO', {
    duration: float(60, 0, 1000),
    sample_rate: integer(44_100n, 1n, 192_000n),
    channels: integer(2n, 1n, 2n),
  }),
  VAEDecodeHunyuan3D: sourceNode('VAE Decode Hunyuan 3D', 'VOXEL', {
    samples: { type: 'LATENT' },
    vae: { type: 'VAE' },
  }),
  VoxelToMeshBasic: sourceNode('Voxel to Mesh (Basic)', 'MESH', {
    voxel: { type: 'VOXEL' },
    threshold: float(0.6, -1, 1),
  }),
  SaveAnimatedWEBP: savingNode({
    displayName: 'Save Animated WEBP',
    category: 'image/animation',
    input: ['images', 'IMAGE'],
    prefix: 'ComfyUI',
    extension: 'webp',
    content: ANIMATED_WEBP,
    key: 'images',
    isAnimated: true,
  }),
  SaveVideo: savingNode({
    displayName: 'Save Video',
    category: 'image/video',
    input: ['video', 'VIDEO'],
    prefix: 'video/ComfyUI',
    extension: 'mp4',
    content: MP4,
    key: 'images',
    isAnimated: true,
  }),
  SaveAudio: savingNode({
    displayName: 'Save Audio (FLAC)',
    category: 'audio',
    input: ['audio', 'AUDIO'],
    prefix: 'audio/ComfyUI',
    extension: 'flac',
    content: FLAC,
    key: 'audio',
  }),
  SaveGLB: savingNode({
    displayName: 'Save GLB',
    category: '3d',
    input: ['mesh', 'MESH'],
    prefix: 'mesh/ComfyUI',
    extension: 'glb',
    content: GLB,
    key: '3d',
  }),
};
