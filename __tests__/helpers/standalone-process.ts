import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));

export interface StandaloneProcess {
  readonly child: ChildProcess;
  /** What it has said so far. */
  readonly said: { out: string; err: string };
  /** Resolves once standard output has this in it. Rejects when the process ends without. */
  saying(part: string): Promise<void>;
  /** Resolves to the address once it listens. */
  listening(): Promise<string>;
  /** Resolves to the exit code, or to the signal that ended it. */
  readonly ended: Promise<number | string>;
}

/** The standalone gateway as a process of its own, with these environment variables and no other settings. */
export function startStandaloneProcess(env: Readonly<Record<string, string>>): StandaloneProcess {
  const { PATH = '', HOME = '', TMPDIR = '/tmp' } = process.env;
  const child = spawn(process.execPath, ['--import', 'tsx', 'examples/standalone.ts'], {
    cwd: root,
    env: { PATH, HOME, TMPDIR, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const said = { out: '', err: '' };
  child.stdout.on('data', (chunk) => {
    said.out += chunk;
  });
  child.stderr.on('data', (chunk) => {
    said.err += chunk;
  });
  const ended = once(child, 'close').then(([code, signal]) => (code ?? signal) as number | string);
  let over = false;
  void ended.then(() => {
    over = true;
  });
  const saying = async (part: string) => {
    while (!said.out.includes(part)) {
      if (over) throw new Error(`Expected the gateway to say "${part}", got "${said.out}" and "${said.err}"`);
      await Promise.race([once(child.stdout, 'data'), ended]);
    }
  };
  return {
    child,
    said,
    saying,
    async listening() {
      await saying('in front of');
      return /listens on (http:[^,]+),/.exec(said.out)?.[1] ?? '';
    },
    ended,
  };
}
