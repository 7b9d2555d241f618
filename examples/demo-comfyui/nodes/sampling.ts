import { drawLandscape } from '../../demo-shared/picture/landscape.js';
import { drawSketch } from '../../demo-shared/picture/sketch.js';
import {
  type Conditioning,
  float,
  type Images,
  integer,
  type Latent,
  type NodeType,
  TEXT,
} from './node-type.js';

const SAMPLERS = [
  'euler',
  'euler_ancestral',
  'heun',
  'dpm_2',
  'dpm_2_ancestral',
  'lms',
  'dpm_fast',
  'dpm_adaptive',
  'dpmpp_2s_ancestral',
  'dpmpp_sde',
  'dpmpp_2m',
  'dpmpp_2m_sde',
  'dpmpp_3m_sde',
  'ddpm',
  'lcm',
  'ddim',
  'uni_pc',
];
const SCHEDULERS = ['simple', 'sgm_uniform', 'karras', 'exponential', 'ddim_uniform', 'beta', 'normal'];
const MAX_SIDE = 16384n;
const MAX_SEED = 0xffffffffffffffffn;

const clipTextEncode: NodeType = {
  displayName: 'CLIP Text Encode (Prompt)',
  category: 'conditioning',
  required: { text: TEXT, clip: { type: 'CLIP' } },
  outputs: ['CONDITIONING'],
  run: (inputs) => ({ values: [{ text: String(inputs.get('text')) } satisfies Conditioning] }),
};

const emptyLatentImage: NodeType = {
  displayName: 'Empty Latent Image',
  category: 'latent',
  required: {
    width: integer(512n, 16n, MAX_SIDE),
    height: integer(512n, 16n, MAX_SIDE),
    batch_size: integer(1n, 1n, 4096n),
  },
  outputs: ['LATENT'],
  run: (inputs) => {
    const [width, height, batchSize] = ['width', 'height', 'batch_size'].map((name) =>
      Number(inputs.get(name)),
    ) as [number, number, number];
    return { values: [{ width, height, batchSize, prompt: '', seed: 0n } satisfies Latent] };
  },
};

const kSampler: NodeType = {
  displayName: 'KSampler',
  category: 'sampling',
  required: {
    model: { type: 'MODEL' },
    seed: integer(0n, 0n, MAX_SEED),
    steps: integer(20n, 1n, 10_000n),
    cfg: float(8, 0, 100),
    sampler_name: { type: SAMPLERS },
    scheduler: { type: SCHEDULERS },
    positive: { type: 'CONDITIONING' },
    negative: { type: 'CONDITIONING' },
    latent_image: { type: 'LATENT' },
    denoise: float(1, 0, 1),
  },
  outputs: ['LATENT'],
  run: async (inputs, context) => {
    const latent = inputs.get('latent_image') as Latent;
    const seed = BigInt(inputs.get('seed') as bigint);
    const prompt = (inputs.get('positive') as Conditioning).text;
    const draw = (progress: number) => drawSketch(prompt, String(seed), latent, progress);
    await context.sample({ steps: Number(inputs.get('steps')), prompt, draw });
    return { values: [{ ...latent, prompt, seed } satisfies Latent] };
  },
};

const vaeDecode: NodeType = {
  displayName: 'VAE Decode',
  category: 'latent',
  required: { samples: { type: 'LATENT' }, vae: { type: 'VAE' } },
  outputs: ['IMAGE'],
  run: (inputs) => {
    const { width, height, batchSize, prompt, seed } = inputs.get('samples') as Latent;
    const images: Images = Array.from({ length: batchSize }, (_, index) =>
      drawLandscape(prompt, String(seed + BigInt(index)), width, height),
    );
    return { values: [images] };
  },
};

const vaeEncode: NodeType = {
  displayName: 'VAE Encode',
  category: 'latent',
  required: { pixels: { type: 'IMAGE' }, vae: { type: 'VAE' } },
  outputs: ['LATENT'],
  run: (inputs) => {
    const images = inputs.get('pixels') as Images;
    const { width = 8, height = 8 } = images[0] ?? {};
    return { values: [{ width, height, batchSize: images.length, prompt: '', seed: 0n } satisfies Latent] };
  },
};

export const SAMPLING: Readonly<Record<string, NodeType>> = {
  CLIPTextEncode: clipTextEncode,
  EmptyLatentImage: emptyLatentImage,
  KSampler: kSampler,
  VAEDecode: vaeDecode,
  VAEEncode: vaeEncode,
};
