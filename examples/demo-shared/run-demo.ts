import { realpathSync } from 'node:fs';
import { pathToFileURL } from 'node:url';

interface Demo {
  listen(port: number, host: string): Promise<string>;
  close(): Promise<void>;
}

export interface DemoProgram {
  /** What it calls itself when it says where it listens. */
  readonly title: string;
  /** Used where `PORT` is not set. */
  readonly port: number;
  readonly create: (generationMs: number) => Demo;
}

/**
 * Starts a demo where its file is the program and not imported. Environment: `PORT`, `HOST` (127.0.0.1),
 * `DEMO_SECONDS` for one generation (4).
 *
 * @param moduleUrl `import.meta.url` of the demo's file.
 */
export function runDemo(moduleUrl: string, program: DemoProgram): void {
  const file = process.argv[1];
  if (file === undefined || pathToFileURL(realpathSync(file)).href !== moduleUrl) return;
  start(program).catch((error: unknown) => {
    console.error(error instanceof Error ? error.message : error);
    process.exit(1);
  });
}

async function start(program: DemoProgram): Promise<void> {
  const port = readNumber('PORT', program.port);
  const generationMs = readNumber('DEMO_SECONDS', 4) * 1000;
  const host = process.env.HOST || '127.0.0.1';
  const demo = program.create(generationMs);
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => demo.close().finally(() => process.exit(0)));
  }
  const url = await demo.listen(port, host).catch(async (error: NodeJS.ErrnoException) => {
    await demo.close();
    if (error.code !== 'EADDRINUSE') throw error;
    throw new Error(`Port ${port} of ${host} is taken. Stop what listens there, or set PORT to a free one.`);
  });
  console.log(`${program.title} on ${url} (${generationMs / 1000} s a generation)`);
}

function readNumber(name: string, initial: number): number {
  const text = process.env[name];
  if (!text) return initial;
  const value = Number(text);
  if (!(value >= 0)) throw new Error(`Expected ${name} to be a number from 0, got ${JSON.stringify(text)}`);
  return value;
}
