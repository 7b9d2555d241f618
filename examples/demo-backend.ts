/**
 * A demo Automatic1111: it answers as Automatic1111 1.10 with `--api` does, but draws landscapes and needs no graphics
 * card. `npm run demo:backend` starts it; `createDemoA1111` is for tests.
 *
 * Environment: `PORT` (7860), `HOST` (127.0.0.1), `DEMO_SECONDS` for one generation (4).
 *
 * These words in a prompt make it fail, for trying things out (demo-backend/faults.ts):
 *
 * - `[slow]` takes ten times as long
 * - `[refuse]` is refused at once with 500
 * - `[fail]` runs out of memory after half of the time: 500
 * - `[die]` breaks the connection in the middle of the answer
 * - `[half]` ends its first image in the middle
 * - `[empty]` answers without an image
 */
import { createDemoA1111 } from './demo-backend/a1111-server.js';
import { runDemo } from './demo-shared/run-demo.js';

export { createDemoA1111, type DemoA1111, type DemoA1111Options } from './demo-backend/a1111-server.js';
export type { DemoGeneration, DemoState } from './demo-backend/demo-state.js';
export type { DemoRequest } from './demo-shared/demo-request.js';

const KEPT_IN_MEMORY = 10;

runDemo(import.meta.url, {
  title: 'Demo backend',
  port: 7860,
  create: (generationMs) => createDemoA1111({ generationMs, historySize: KEPT_IN_MEMORY }),
});
