import type { ComfyFiles } from './comfy-files.js';
import type { ComfyProcess } from './comfy-process.js';
import type { DemoComfyUIState } from './demo-state.js';
import { infoRoutes } from './info-routes.js';
import { jobRoutes } from './job-routes.js';
import { demoPage } from './page.js';
import { type PromptIdRule, queuePrompt } from './prompt-route.js';
import { type InterruptRule, queueRoutes } from './queue-routes.js';
import { bytesReply, emptyReply } from './reply.js';
import { belowApi, get, post, type Route } from './router.js';
import { uploadImage } from './upload-route.js';
import { viewFile } from './view-route.js';

export interface RouteParts {
  /** A restart puts another one in its place. */
  readonly current: () => ComfyProcess;
  readonly files: ComfyFiles;
  readonly state: DemoComfyUIState;
  readonly promptIdRule: PromptIdRule;
  readonly interruptRule: InterruptRule;
  readonly nosniff: boolean;
  readonly maxBodyBytes: number;
}

/** Most routes are there twice: as they are, and below `/api`. */
export function allRoutes(parts: RouteParts): Route[] {
  const { current, files, state, promptIdRule, interruptRule, nosniff, maxBodyBytes } = parts;
  const twice = [
    post('/prompt', (call) => queuePrompt(call, { process: current(), files, state, promptIdRule })),
    ...queueRoutes(current, interruptRule),
    get('/view', (call) => viewFile(call, files, nosniff)),
    post('/upload/image', (call) => uploadImage(call, files)),
    ...infoRoutes(files, maxBodyBytes),
  ];
  const page = Buffer.from(demoPage());
  return [
    ...twice,
    ...belowApi(twice),
    ...jobRoutes(current),
    get('/', () => bytesReply(page, 'text/html; charset=utf-8')),
    // clients turn the log on with it; the demo has none to send
    { method: 'PATCH', path: '/internal/logs/subscribe', handle: () => emptyReply() },
  ];
}
