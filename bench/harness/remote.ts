import type { ChildProcess } from 'node:child_process';

/** What a parent asks of a process, and what that does. */
export type Behaviours = Readonly<Record<string, (argument: never) => unknown>>;

interface Question {
  /** The answer has the same. */
  readonly number: number;
  readonly name: string;
  readonly argument: unknown;
}

type Answer = { readonly number: number } & ({ readonly result: unknown } | { readonly error: string });

let asked = 0;

/** In the child: does what the parent asks for. */
export function serveParent(behaviours: Behaviours): void {
  process.on('message', async ({ number, name, argument }: Question) => {
    const behave = behaviours[name];
    let answer: Answer;
    try {
      if (!behave) throw new Error(`Expected one of ${Object.keys(behaviours).join(', ')}, got ${name}`);
      answer = { number, result: await behave(argument as never) };
    } catch (error) {
      answer = { number, error: error instanceof Error ? (error.stack ?? error.message) : String(error) };
    }
    process.send?.(answer);
  });
}

/** In the parent: asks a child for something, and waits for the answer. */
export function askChild<T>(child: ChildProcess, name: string, argument?: unknown): Promise<T> {
  asked += 1;
  const number = asked;
  return new Promise((resolve, reject) => {
    const settle = () => {
      child.off('message', onMessage);
      child.off('exit', onExit);
    };
    const onMessage = (answer: Answer) => {
      if (answer.number !== number) return;
      settle();
      if ('error' in answer) reject(new Error(`${name}: ${answer.error}`));
      else resolve(answer.result as T);
    };
    const onExit = (code: number | null, signal: string | null) => {
      settle();
      reject(new Error(`The process that was asked for "${name}" has ended (${code ?? signal})`));
    };
    child.on('message', onMessage);
    child.on('exit', onExit);
    // A message without a value would lose it.
    child.send({ number, name, argument: argument ?? null });
  });
}
