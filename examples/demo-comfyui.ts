/**
 * A demo ComfyUI: it speaks as ComfyUI does, over HTTP and WebSocket, but draws landscapes and needs no graphics card.
 * `npm run demo:comfyui` starts it; `createDemoComfyUI` is for tests.
 *
 * Environment: `PORT` (8188), `HOST` (127.0.0.1), `DEMO_SECONDS` for one generation (4).
 *
 * These words in a positive prompt make it fail, for trying things out (demo-comfyui/faults.ts):
 *
 * - `[slow]` takes ten times as long
 * - `[fail]` fails in its sampler after half of the steps
 * - `[oom]` runs out of memory there
 * - `[die]` ends the server there: it loses its queue and its history, and is back at once
 * - `[hang]` never ends from there on; an interrupt does not help
 */
import { createDemoComfyUI } from './demo-comfyui/comfyui-server.js';
import { runDemo } from './demo-shared/run-demo.js';

export {
  createDemoComfyUI,
  type DemoComfyUI,
  type DemoComfyUIOptions,
} from './demo-comfyui/comfyui-server.js';
export type { DemoComfyUIState, DemoExecution, ExecutionStatus } from './demo-comfyui/demo-state.js';
export type { PreviewRule } from './demo-comfyui/prompt-events.js';
export type { PromptIdRule } from './demo-comfyui/prompt-route.js';
export type { InterruptRule } from './demo-comfyui/queue-routes.js';
export type { DemoRequest } from './demo-shared/demo-request.js';

const KEPT_IN_MEMORY = 10;

runDemo(import.meta.url, {
  title: 'Demo ComfyUI',
  port: 8188,
  create: (generationMs) => createDemoComfyUI({ generationMs, historySize: KEPT_IN_MEMORY }),
});
