import type { PythonDict } from '../demo-shared/python-json.js';
import type { ComfyProcess } from './comfy-process.js';
import { describeEntries } from './prompt-history.js';
import { describePrompt } from './prompt-queue.js';
import { emptyReply, jsonReply, type Reply } from './reply.js';
import { isTruthy, readIds, readInteger, readObject, UnexpectedInput } from './request-json.js';
import { type Call, get, post, type Route } from './router.js';

/** Whether `/interrupt` heeds a prompt's id, as it does today, or ends whatever runs, as in 2024. */
export type InterruptRule = 'by-id' | 'global';

/** The queue and the history. */
export function queueRoutes(current: () => ComfyProcess, interruptRule: InterruptRule): Route[] {
  return [
    get('/prompt', () => jsonReply({ exec_info: { queue_remaining: BigInt(current().queue.remaining) } })),
    get('/queue', () => queueReply(current())),
    post('/queue', (call) => changeQueue(call, current())),
    post('/interrupt', (call) => interrupt(call, current(), interruptRule)),
    get('/history', (call) => historyPage(call, current())),
    get('/history/{id}', ({ name }) => {
      const entry = current().history.get(name);
      return jsonReply(describeEntries(entry ? [entry] : []));
    }),
    post('/history', (call) => changeHistory(call, current())),
  ];
}

function queueReply({ queue }: ComfyProcess): Reply {
  const running = queue.running ? [describePrompt(queue.running)] : [];
  return jsonReply({ queue_running: running, queue_pending: queue.pending.map(describePrompt) });
}

function changeQueue({ request }: Call, process: ComfyProcess): Reply {
  const body = readObject(request);
  if (isTruthy(body.get('clear'))) process.remove(() => true);
  if (body.has('delete')) {
    const ids = new Set(readIds(body.get('delete')));
    process.remove(({ id }) => ids.has(id));
  }
  return emptyReply();
}

function historyPage({ query }: Call, { history }: ComfyProcess): Reply {
  const maxItems = readInteger(query.get('max_items'));
  const offset = readInteger(query.get('offset')) ?? -1;
  return jsonReply(describeEntries(history.page(maxItems, offset)));
}

function changeHistory({ request }: Call, { history }: ComfyProcess): Reply {
  const body = readObject(request);
  if (isTruthy(body.get('clear'))) history.clear();
  if (body.has('delete')) for (const id of readIds(body.get('delete'))) history.delete(id);
  return emptyReply();
}

function interrupt({ request }: Call, process: ComfyProcess, rule: InterruptRule): Reply {
  const id = rule === 'by-id' ? readOptional(request)?.get('prompt_id') : undefined;
  process.interrupt(isTruthy(id) ? String(id) : undefined);
  return emptyReply();
}

/** Undefined where the body is no object. */
function readOptional(request: Call['request']): PythonDict | undefined {
  try {
    return readObject(request);
  } catch (error) {
    if (error instanceof UnexpectedInput) return undefined;
    throw error;
  }
}
