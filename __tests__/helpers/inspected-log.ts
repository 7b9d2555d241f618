import { inspect } from 'node:util';
import type { Logger } from '../../lib/logger.js';

/** A logger whose lines hold all that the console would show, with stacks and causes: for what must not be in them. */
export function inspectingLogger(log: string[]): Logger {
  const line = (...parts: unknown[]) =>
    void log.push(
      parts.map((part) => (typeof part === 'string' ? part : inspect(part, { depth: 10 }))).join(' '),
    );
  return { info: line, warn: line, error: line };
}
