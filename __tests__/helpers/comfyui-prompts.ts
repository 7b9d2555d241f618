export interface WorkflowOptions {
  readonly text?: string;
  /** Other than before, or ComfyUI has the outputs already. */
  readonly seed?: string;
  readonly images?: number;
  readonly prefix?: string;
}

/** A text-to-image workflow in ComfyUI's API format, as text: a seed of 64 bits is no number of JavaScript's. */
export function workflowText({
  text = 'a quiet bay',
  seed = '18446744073709551615',
  images = 1,
  prefix = 'ComfyUI',
}: WorkflowOptions = {}): string {
  return `{
    "3": {"class_type": "KSampler", "inputs": {"seed": ${seed}, "steps": 4, "cfg": 8, "sampler_name": "euler",
      "scheduler": "normal", "denoise": 1, "model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0],
      "latent_image": ["5", 0]}},
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "v1-5-pruned-emaonly.safetensors"}},
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": ${images}}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": ${JSON.stringify(text)}, "clip": ["4", 1]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "ugly", "clip": ["4", 1]}},
    "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
    "9": {"class_type": "SaveImage", "inputs": {"filename_prefix": ${JSON.stringify(prefix)}, "images": ["8", 0]}}
  }`;
}

/** The body of `POST /prompt`. */
export function promptText(options: WorkflowOptions & { readonly clientId?: string } = {}): string {
  const { clientId } = options;
  const client = clientId === undefined ? '' : `, "client_id": ${JSON.stringify(clientId)}`;
  return `{"prompt": ${workflowText(options)}${client}}`;
}
