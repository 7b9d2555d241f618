import type { ChildProcess } from 'node:child_process';

/** What a parent asks of a process, and what that does. */
export type Behaviours = Readonly<Record<string, (argument: never) => unknown>>;

interface Question {
  readonly name: string;
  readonly argument: unknown;
}

type Answer = { readonly result: unknown } | { readonly error: string };

/** In the child: does what the parent asks for, one thing at a time. */
export function serveParent(behaviours: Behaviours): void {
  process.on('message', async ({ name, argument }: Question) => {
    const behave = behaviours[name];
    let answer: Answer;
    try {
      if (!behave) throw new Error(`Expected one of ${Object.keys(behaviours).join(', ')}, got ${name}`);
      answer = { result: await behave(argument as never) };
    } catch (error) {
      answer = { error: error instanceof Error ? (error.stack ?? error.message) : String(error) };
    }
    process.send?.(answer);
  });
}

/** In the parent: asks a child for something, and waits for the answer. */
export function askChild<T>(child: ChildProcess, name: string, argument?: unknown): Promise<T> {
  return new Promise((resolve, reject) => {
    const settle = () => {
      child.off('message', onMessage);
      child.off('exit', onExit);
    };
    const onMessage = (answer: Answer) => {
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
    child.send({ name, argument: argument ?? null });
  });
}
