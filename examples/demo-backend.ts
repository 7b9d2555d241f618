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
import { realpathSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { createDemoA1111 } from './demo-backend/a1111-server.js';

export { createDemoA1111, type DemoA1111, type DemoA1111Options } from './demo-backend/a1111-server.js';
export type { DemoGeneration, DemoRequest, DemoState } from './demo-backend/demo-state.js';

const KEPT_IN_MEMORY = 10;

async function main(): Promise<void> {
  const port = readNumber('PORT', 7860);
  const generationMs = readNumber('DEMO_SECONDS', 4) * 1000;
  const host = process.env.HOST || '127.0.0.1';
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(0));
  const demo = createDemoA1111({ generationMs, historySize: KEPT_IN_MEMORY });
  const url = await demo.listen(port, host).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EADDRINUSE') throw error;
    throw new Error(`Port ${port} of ${host} is taken. Stop what listens there, or set PORT to a free one.`);
  });
  console.log(`Demo backend on ${url} (${generationMs / 1000} s a generation)`);
}

function readNumber(name: string, initial: number): number {
  const text = process.env[name];
  if (!text) return initial;
  const value = Number(text);
  if (!(value >= 0)) throw new Error(`Expected ${name} to be a number from 0, got ${JSON.stringify(text)}`);
  return value;
}

const program = process.argv[1];
if (program !== undefined && pathToFileURL(realpathSync(program)).href === import.meta.url) {
  main().catch((error: unknown) => {
    console.error(error instanceof Error ? error.message : error);
    process.exit(1);
  });
}
