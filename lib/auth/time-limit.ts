/**
 * Rejects where something takes too long. What it was waiting for goes on, and is no longer heard.
 *
 * @param message says what was expected.
 */
export async function withinTime<T>(work: T | Promise<T>, limitMs: number, message: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(message)), limitMs).unref();
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
