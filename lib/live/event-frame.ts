/** Clients reconnect after so long, in milliseconds. */
export const RETRY_FRAME = 'retry: 2000\n';
/** Says nothing, and keeps proxies from taking a quiet connection for a dead one. */
export const HEARTBEAT_FRAME = ':\n\n';

/** One server-sent event (HTML standard, "text/event-stream"). JSON has no line breaks of its own. */
export function eventFrame(
  event: 'status' | 'removed' | 'progress' | 'reset',
  data: unknown,
  id?: string,
): string {
  const idLine = id === undefined ? '' : `id: ${id}\n`;
  return `event: ${event}\n${idLine}data: ${JSON.stringify(data)}\n\n`;
}
