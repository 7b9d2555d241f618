import { freemem, totalmem } from 'node:os';
import type { PythonValue } from '../demo-shared/python-json.js';
import type { ComfyFiles } from './comfy-files.js';
import { describeNodeType, NODE_TYPES } from './nodes/registry.js';
import { jsonReply } from './reply.js';
import { get, type Route } from './router.js';

/** What the server can do, for clients that ask. */
export function features(maxBodyBytes: number): PythonValue {
  return { supports_preview_metadata: true, max_upload_size: BigInt(maxBodyBytes) };
}

/** What the server says of itself. */
export function infoRoutes(files: ComfyFiles, maxBodyBytes: number): Route[] {
  const describe = (names: readonly string[]): PythonValue =>
    new Map(
      names.flatMap((name): [string, PythonValue][] => {
        const type = NODE_TYPES.get(name);
        return type ? [[name, describeNodeType(name, type, files)]] : [];
      }),
    );
  return [
    get('/object_info', () => jsonReply(describe([...NODE_TYPES.keys()]))),
    get('/object_info/{class}', ({ name }) => jsonReply(describe([name]))),
    get('/system_stats', () => jsonReply(systemStats())),
    get('/features', () => jsonReply(features(maxBodyBytes))),
    get('/embeddings', () => jsonReply([])),
    get('/extensions', () => jsonReply([])),
  ];
}

function systemStats(): PythonValue {
  const ram = { ram_total: BigInt(totalmem()), ram_free: BigInt(freemem()) };
  const vram = ['vram_total', 'vram_free', 'torch_vram_total', 'torch_vram_free'];
  return {
    system: {
      os: 'posix',
      ...ram,
      comfyui_version: '0.26.0-demo',
      required_frontend_version: null,
      python_version: '3.12.0 (demo)',
      pytorch_version: 'none',
      embedded_python: false,
      argv: ['main.py'],
    },
    devices: [
      { name: 'cpu', type: 'cpu', index: null, ...Object.fromEntries(vram.map((name) => [name, 0n])) },
    ],
  };
}
