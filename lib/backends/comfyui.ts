import { canonicalPath } from '../http/canonical-path.js';
import type { TopLevelMembers } from '../json/top-level-members.js';
import type { Backend, RequestFacts } from './backend.js';
import { SECRET_NAMES } from './comfyui-secrets.js';
import { comfyuiTasks } from './comfyui-tasks.js';
import { ComfyUITicket } from './comfyui-ticket.js';
import { readWorkflow } from './comfyui-workflow.js';
import { jsonOf, MAX_FIELD_LENGTH, objectOf, shortened, textOf } from './request-values.js';

/** ComfyUI has all of its routes twice. */
const GENERATION_PATHS = new Set(['/prompt', '/api/prompt']);
const MAX_NODE_FAULTS = 10;

/** ComfyUI, which answers `POST /prompt` at once and works on it later. */
export const comfyui: Backend = {
  name: 'comfyui',
  title: 'ComfyUI',
  hint: 'Check that it runs, and that this is its address.',
  answers: 'ticket',
  maxMemberBytes: 4 * 1024 * 1024,
  // How many prompts wait.
  pingPath: '/prompt',
  loginPath: '/prompt',

  matches: (method, path) => method === 'POST' && GENERATION_PATHS.has(canonicalPath(path)),
  owns: () => false,
  // A prompt that was interrupted says so itself, in the history.
  disturbance: () => undefined,
  tasks: comfyuiTasks,

  readRequest(members): RequestFacts {
    const { prompt, fields } = readWorkflow(members.get('prompt')?.text);
    const clientId = textOf(members, 'client_id') ?? clientIdIn(members.get('extra_data')?.text);
    return {
      prompt,
      fields: { ...fields, ...(clientId && { client_id: shortened(clientId, MAX_FIELD_LENGTH) }) },
      imagesUnwanted: false,
      hasSecrets: holdsSecrets(members),
    };
  },

  changesTo: () => ({}),
  taskOf: () => undefined,
  captureAnswer: () => new ComfyUITicket(),
  answerAgain: async (kept) => kept,

  /** `{error: {type, message, details}, node_errors: {"4": {errors, class_type}}}`; older ones have a text as `error`. */
  explainError(status, body) {
    const { error, node_errors } = objectOf(jsonOf(body));
    const { message, details } = objectOf(error);
    const parts = [typeof error === 'string' ? error : message, details, ...nodeFaults(node_errors)];
    // Details may repeat the message.
    const text = [...new Set(parts)].filter((part) => typeof part === 'string' && part !== '').join('; ');
    const said = (text || body).replace(/\s+/g, ' ').trim();
    return shortened(said || `The backend answered ${status} without a word`, MAX_FIELD_LENGTH);
  },

  advise: () => undefined,
};

/** Where `client_id` itself is absent, ComfyUI takes it from here. */
function clientIdIn(extraData: string | undefined): string | undefined {
  const { client_id } = objectOf(jsonOf(extraData));
  return typeof client_id === 'string' ? client_id : undefined;
}

/** True also where `extra_data` is too large to be looked at, or not to be read: ComfyUI reads more than JSON allows. */
function holdsSecrets(members: TopLevelMembers): boolean {
  const extra = members.get('extra_data');
  if (!extra) return false;
  const value = jsonOf(extra.text);
  if (value === undefined) return true;
  const given = objectOf(value);
  return SECRET_NAMES.some((name) => given[name] !== undefined && given[name] !== null);
}

function nodeFaults(nodeErrors: unknown): string[] {
  const faults: string[] = [];
  for (const [id, node] of Object.entries(objectOf(nodeErrors))) {
    const { class_type, errors } = objectOf(node);
    for (const fault of Array.isArray(errors) ? errors : []) {
      const { message, details } = objectOf(fault);
      const what = [message, details].filter((part) => typeof part === 'string' && part !== '').join(': ');
      faults.push(`${typeof class_type === 'string' ? class_type : 'node'} ${id}: ${what}`);
    }
  }
  return faults.slice(0, MAX_NODE_FAULTS);
}
