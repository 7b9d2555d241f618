import type { Job } from '../../lib/job.js';
import type { Logger } from '../../lib/logger.js';

/** A job's record; the number makes its id and its time. */
export function makeJob(number: number, differences: Partial<Job> = {}): Job {
  return {
    id: `Job${String(number).padStart(5, '0')}`,
    prompt: `a lighthouse, variation ${number}`,
    ip: '192.0.2.1',
    timestamp: 1_790_000_000 + number,
    status: 'Pending',
    output_paths: [],
    backend: 'a1111',
    path: '/sdapi/v1/txt2img',
    ...differences,
  };
}

export interface CollectedLog extends Logger {
  readonly infos: string[];
  readonly warnings: string[];
  readonly errors: string[];
  /** Resolves with the next line that matches. */
  next(pattern: RegExp): Promise<string>;
}

export function collectLog(): CollectedLog {
  const waiting: { pattern: RegExp; resolve: (line: string) => void }[] = [];
  const lists = { infos: [] as string[], warnings: [] as string[], errors: [] as string[] };
  const into =
    (list: string[]) =>
    (...parts: unknown[]): void => {
      const line = parts.map(String).join(' ');
      list.push(line);
      for (const { pattern, resolve } of waiting) if (pattern.test(line)) resolve(line);
    };
  return {
    ...lists,
    info: into(lists.infos),
    warn: into(lists.warnings),
    error: into(lists.errors),
    next: (pattern) => new Promise((resolve) => waiting.push({ pattern, resolve })),
  };
}
