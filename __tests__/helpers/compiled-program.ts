import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readdir, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { transformFile } from '@swc/core';

const root = fileURLToPath(new URL('../..', import.meta.url));
const ROOMS = ['lib', 'examples', '__tests__/helpers'];

/** A process of the project's own. */
export interface ProgramProcess {
  readonly child: ChildProcess;
  /** What it has said so far. */
  readonly said: { out: string; err: string };
  /** Resolves to the exit code, or to the signal that ended it. */
  readonly ended: Promise<number | string>;
  /** Resolves to what the pattern's first group has found in standard output. Rejects when the process ends without. */
  saying(pattern: RegExp): Promise<string>;
  /** Kills it with kill -9; resolves once it is gone. May be called at any time. */
  kill(): Promise<void>;
}

export interface CompiledProgram {
  /** Starts a file such as `examples/standalone`. */
  start(file: string, options: StartOptions): ProgramProcess;
  /** Starts the standalone gateway; resolves to its process at once, which `listening` tells the address of. */
  standalone(env: Readonly<Record<string, string>>): ProgramProcess;
}

export interface StartOptions {
  /** These environment variables and no other settings. */
  readonly env?: Readonly<Record<string, string>>;
  readonly nodeArguments?: readonly string[];
  readonly arguments?: readonly string[];
  /** Lets it talk with its parent by messages. */
  readonly messages?: boolean;
}

/**
 * Compiles the project into a folder, in less than a second: a process that is started many times must not translate
 * TypeScript each time.
 */
export async function compileProgram(
  folder: string,
  rooms: readonly string[] = ROOMS,
): Promise<CompiledProgram> {
  for (const room of rooms) {
    const names = (await readdir(join(root, room), { recursive: true })).filter((name) =>
      /(?<!\.d|\.test)\.ts$/.test(name),
    );
    await Promise.all(names.map((name) => compile(join(room, name), folder)));
  }
  await writeFile(join(folder, 'package.json'), '{"type":"module"}');
  await symlink(join(root, 'node_modules'), join(folder, 'node_modules'));
  const start = (file: string, options: StartOptions) => startProcess(join(folder, `${file}.js`), options);
  return { start, standalone: (env) => start('examples/standalone', { env }) };
}

/** Resolves to the standalone gateway's address once it listens. */
export function listening(gateway: ProgramProcess): Promise<string> {
  return gateway.saying(/listens on (http:[^,]+),/);
}

async function compile(file: string, folder: string): Promise<void> {
  const { code } = await transformFile(join(root, file), {
    swcrc: false,
    jsc: { target: 'es2022', parser: { syntax: 'typescript' } },
    module: { type: 'es6' },
  });
  const target = join(folder, file.replace(/\.ts$/, '.js'));
  await mkdir(dirname(target), { recursive: true });
  await writeFile(target, code);
}

function startProcess(path: string, options: StartOptions): ProgramProcess {
  const { PATH = '', HOME = '', TMPDIR = '/tmp' } = process.env;
  const child = spawn(
    process.execPath,
    [...(options.nodeArguments ?? []), path, ...(options.arguments ?? [])],
    {
      env: { PATH, HOME, TMPDIR, ...options.env },
      stdio: ['ignore', 'pipe', 'pipe', ...(options.messages ? ['ipc' as const] : [])],
    },
  );
  const said = { out: '', err: '' };
  child.stdout?.on('data', (chunk) => {
    said.out += chunk;
    if (process.env.ECHO) process.stderr.write(chunk);
  });
  child.stderr?.on('data', (chunk) => {
    said.err += chunk;
  });
  let over = false;
  const ended = once(child, 'close').then(([code, signal]) => {
    over = true;
    return (code ?? signal) as number | string;
  });
  return {
    child,
    said,
    ended,
    async saying(pattern) {
      for (;;) {
        const found = pattern.exec(said.out)?.[1];
        if (found !== undefined) return found;
        if (over) throw new Error(`Expected ${pattern} to be said, got "${said.out}" and "${said.err}"`);
        await Promise.race([once(child.stdout as NodeJS.EventEmitter, 'data'), ended]);
      }
    },
    async kill() {
      if (!over) child.kill('SIGKILL');
      await ended;
    },
  };
}
