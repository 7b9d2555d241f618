import { totalmem } from 'node:os';
import type { PythonValue } from '../demo-shared/python-json.js';
import { SAMPLERS, SCHEDULERS } from './samplers.js';

export const MODEL_TITLE = 'demo.safetensors';

/** The names by which A1111 would know the demo's model. */
export const MODEL_NAMES: readonly PythonValue[] = [MODEL_TITLE, 'demo'];

/** What `GET /sdapi/v1/...` answers where the answer is always the same. */
export const STATIC_ANSWERS: Readonly<Record<string, PythonValue>> = {
  samplers: SAMPLERS.map((name) => ({ name, aliases: [], options: {} })),
  schedulers: SCHEDULERS.map(({ name, label }) => ({
    name,
    label,
    aliases: null,
    default_rho: -1,
    need_inner_model: false,
  })),
  upscalers: [{ name: 'None', model_name: null, model_path: null, model_url: null, scale: 4 }],
  'latent-upscale-modes': [],
  'sd-models': [
    {
      title: MODEL_TITLE,
      model_name: 'demo',
      hash: null,
      sha256: null,
      filename: `/demo/models/${MODEL_TITLE}`,
      config: null,
    },
  ],
  'sd-vae': [],
  hypernetworks: [],
  'face-restorers': [],
  'realesrgan-models': [],
  'prompt-styles': [],
  embeddings: { loaded: {}, skipped: {} },
  scripts: { txt2img: [], img2img: [] },
  'script-info': [],
  extensions: [],
  'cmd-flags': { api: true, api_auth: null, api_log: false, listen: false, port: null },
};

/** `GET /sdapi/v1/memory`; there is no graphics card. */
export function memoryAnswer(): PythonValue {
  const used = process.memoryUsage.rss();
  const total = totalmem();
  return { ram: { free: total - used, used: BigInt(used), total }, cuda: { error: 'unavailable' } };
}
