import { randomUUID } from 'node:crypto';
import { isList, type PythonDict, type PythonValue } from '../demo-shared/python-json.js';
import type { ComfyFiles } from './comfy-files.js';
import type { ComfyProcess } from './comfy-process.js';
import type { DemoComfyUIState, DemoExecution } from './demo-state.js';
import type { QueuedPrompt } from './prompt-queue.js';
import { jsonReply, type Reply } from './reply.js';
import { isTruthy, readObject, requireObject, UnexpectedInput } from './request-json.js';
import type { Call } from './router.js';
import { validateWorkflow } from './validate-workflow.js';

/** What a server does with a client's `prompt_id`, which changed over time. */
export type PromptIdRule =
  /** The newest: it has to be a UUID in lower case with hyphens; else 400. */
  | 'uuid'
  /** Of the middle of 2025: any value is taken. */
  | 'any'
  /** Of 2024: it is ignored. Errors then also have their older, shorter form. */
  | 'ignored';

export interface PromptRouteParts {
  readonly files: ComfyFiles;
  readonly state: DemoComfyUIState;
  readonly process: ComfyProcess;
  readonly promptIdRule: PromptIdRule;
}

const UUID = /^[\da-f]{8}-[\da-f]{4}-[\da-f]{4}-[\da-f]{4}-[\da-f]{12}$/;
const SENSITIVE_KEYS = ['auth_token_comfy_org', 'api_key_comfy_org'];

/** `POST /prompt`: checks a workflow and puts it into the queue. */
export function queuePrompt({ request }: Call, parts: PromptRouteParts): Reply {
  const { process, files, promptIdRule, state } = parts;
  const body = readObject(request);
  const number = readNumber(body, process);
  if (!body.has('prompt')) return noPrompt(promptIdRule);
  const workflow = requireObject(body.get('prompt'), 'prompt');
  const id = readPromptId(body, promptIdRule);
  if (id === undefined) return invalidId();
  const verdict = validateWorkflow(workflow, files, readTargets(body));
  if (!verdict.isValid) return refuse(verdict.error, verdict.nodeErrors, promptIdRule);
  const { extraData, sensitive } = readExtraData(body, promptIdRule);
  const clientId = extraData?.get('client_id');
  const execution: DemoExecution = {
    request,
    promptId: id,
    clientId: typeof clientId === 'string' ? clientId : undefined,
    sensitive,
    status: 'pending',
    cachedNodes: [],
    executedNodes: [],
    files: [],
  };
  const { outputs, nodeErrors } = verdict;
  const prompt: QueuedPrompt = { number, id, workflow, extraData, outputs, execution };
  state.addExecution(execution);
  process.queue.put(prompt);
  state.emit('queued', execution);
  return jsonReply({ prompt_id: id, number, node_errors: nodeErrors });
}

/** A float where the client gives one, as in Python. Throws `UnexpectedInput`. */
function readNumber(body: PythonDict, { queue }: ComfyProcess): bigint | number {
  const given = body.get('number');
  if (given === undefined) return queue.nextNumber(isTruthy(body.get('front')));
  const isText = typeof given === 'string' && given.trim() !== '';
  const number = isText || typeof given === 'bigint' ? Number(given) : given;
  if (typeof number === 'number' && !Number.isNaN(number)) return number;
  throw new UnexpectedInput(`Expected number to be a number, got ${String(given)}`);
}

/** Undefined where the rule does not take the client's. */
function readPromptId(body: PythonDict, rule: PromptIdRule): string | undefined {
  const given = body.get('prompt_id');
  if (given === undefined || rule === 'ignored') return randomUUID();
  if (rule === 'any') return given === null ? 'None' : String(given);
  return typeof given === 'string' && UUID.test(given) ? given : undefined;
}

function readTargets(body: PythonDict): string[] | undefined {
  const targets = body.get('partial_execution_targets');
  return targets !== undefined && isList(targets) ? targets.map(String) : undefined;
}

/** Throws `UnexpectedInput`. */
function readExtraData(
  body: PythonDict,
  rule: PromptIdRule,
): { extraData: PythonDict | null; sensitive: PythonDict } {
  const given = body.get('extra_data');
  const clientId = body.get('client_id');
  const sensitive = new Map<string, PythonValue>();
  if (given === null && clientId === undefined && rule === 'ignored') return { extraData: null, sensitive };
  const extraData = new Map(given === undefined ? [] : requireObject(given, 'extra_data'));
  if (clientId !== undefined) extraData.set('client_id', clientId);
  if (rule === 'ignored') return { extraData, sensitive };
  for (const key of SENSITIVE_KEYS) {
    const value = extraData.get(key);
    if (value !== undefined) sensitive.set(key, value);
    extraData.delete(key);
  }
  extraData.set('create_time', BigInt(Date.now()));
  return { extraData, sensitive };
}

function noPrompt(rule: PromptIdRule): Reply {
  if (rule === 'ignored') return jsonReply({ error: 'no prompt', node_errors: [] }, 400);
  const text = 'No prompt provided';
  return refuse({ type: 'no_prompt', message: text, details: text, extra_info: {} }, {}, rule);
}

function invalidId(): Reply {
  const message = 'prompt_id must be a canonical UUID in lower case';
  const error = { type: 'invalid_prompt_id', message, details: message, extra_info: {} };
  return jsonReply({ error, node_errors: {} }, 400);
}

function refuse(error: PythonValue, nodeErrors: PythonValue, rule: PromptIdRule): Reply {
  if (rule !== 'ignored') return jsonReply({ error, node_errors: nodeErrors }, 400);
  const fields = error as { readonly type: string };
  const type = fields.type === 'missing_node_type' ? 'invalid_prompt' : fields.type;
  const hasNodes = nodeErrors instanceof Map && nodeErrors.size > 0;
  return jsonReply({ error: { ...fields, type }, node_errors: hasNodes ? nodeErrors : [] }, 400);
}
