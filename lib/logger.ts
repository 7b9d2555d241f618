/** Where the tracker says what its owner should know. `console` is one. */
export type Logger = Pick<Console, 'info' | 'warn' | 'error'>;

/** Warnings and errors to the console, with the library's name in front. */
export const consoleLogger: Logger = {
  info: () => {},
  warn: (...parts: unknown[]) => console.warn('[sd-job-tracker]', ...parts),
  error: (...parts: unknown[]) => console.error('[sd-job-tracker]', ...parts),
};
