import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  type CompiledProgram,
  compileProgram,
  type ProgramProcess,
} from '../../__tests__/helpers/compiled-program.js';
import { askChild } from './remote.js';

/** A process of ours that answers questions. */
export interface Worker {
  /** Where it listens; `''` where it does not. */
  readonly url: string;
  ask<T>(name: string, argument?: unknown): Promise<T>;
  stop(): Promise<void>;
}

export interface WorkshopOptions {
  /** Where profiles go; undefined for none. */
  readonly profiles: string | undefined;
}

/**
 * A folder, the compiled program in it, and the processes that were started from it. The parent runs TypeScript; what
 * is measured runs as it is published.
 */
export class Workshop {
  readonly #folder: string;
  readonly #program: CompiledProgram;
  readonly #profiles: string | undefined;
  readonly #running = new Set<ProgramProcess>();
  #folders = 0;

  private constructor(folder: string, program: CompiledProgram, profiles: string | undefined) {
    this.#folder = folder;
    this.#program = program;
    this.#profiles = profiles;
  }

  /** Everything is below `BENCH_DIR`, or else the system's folder for temporary files: it should be on a real disk. */
  static async open({ profiles }: WorkshopOptions): Promise<Workshop> {
    const folder = await mkdtemp(join(process.env.BENCH_DIR ?? tmpdir(), 'job-tracker-bench-'));
    const compiled = join(folder, 'program');
    await mkdir(compiled);
    return new Workshop(
      folder,
      await compileProgram(compiled, ['lib', 'bench', '__tests__/helpers']),
      profiles,
    );
  }

  /** Where the compiled files are. */
  get program(): string {
    return join(this.#folder, 'program');
  }

  /** A new empty folder. */
  async makeFolder(): Promise<string> {
    this.#folders += 1;
    const folder = join(this.#folder, `data-${this.#folders}`);
    await mkdir(folder);
    return folder;
  }

  /** Starts `bench/processes/<name>`, and resolves once it is ready. */
  async start(name: string, ...args: readonly string[]): Promise<Worker> {
    const isProfiled = this.#profiles !== undefined && name === 'gateway';
    const started = this.#program.start(`bench/processes/${name}`, {
      arguments: args,
      messages: true,
      nodeArguments: isProfiled
        ? [
            '--cpu-prof',
            `--cpu-prof-dir=${this.#profiles}`,
            `--cpu-prof-name=${args[0]}-${Date.now()}.cpuprofile`,
          ]
        : [],
    });
    this.#running.add(started);
    const url = await started.saying(/ready at <(.*)>/);
    return {
      url,
      ask: (question, argument) =>
        askChild(started.child, question, argument).catch((error: Error) => {
          throw new Error(`${name} ${args[0] ?? ''}: ${error.message}\n${started.said.err}`);
        }) as never,
      stop: async () => {
        // Whoever is profiled has to end by itself.
        if (isProfiled) {
          started.child.kill('SIGTERM');
          await started.ended;
        } else await started.kill();
        this.#running.delete(started);
      },
    };
  }

  /** Runs a compiled script to its end; resolves to what it has said. */
  async run(file: string, ...args: readonly string[]): Promise<string> {
    const started = this.#program.start(file, { arguments: args });
    const code = await started.ended;
    if (code !== 0) throw new Error(`${file} has ended with ${code}: ${started.said.err}`);
    return started.said.out;
  }

  async close(): Promise<void> {
    await Promise.all([...this.#running].map((process) => process.kill()));
    await rm(this.#folder, { recursive: true, force: true });
  }
}
