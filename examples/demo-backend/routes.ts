import type { DemoRequest } from '../demo-shared/demo-request.js';
import type { PythonValue } from '../demo-shared/python-json.js';
import { pythonException } from './api-error.js';
import type { DemoGeneration } from './demo-state.js';
import type { GenerationEndpoint } from './generation-endpoint.js';
import type { Field, GenerationMode } from './generation-fields.js';
import { decodeImage, imageTexts } from './image-text.js';
import { parseInfotext } from './infotext.js';
import { demoPage } from './page.js';
import { progressAnswer, TASK_PROGRESS_FIELDS, taskProgressAnswer } from './progress-answers.js';
import { jsonReply, type Reply } from './reply.js';
import { type RequestJson, requireBody } from './request-json.js';
import type { SamplingState } from './sampling-state.js';
import { MODEL_NAMES, MODEL_TITLE, memoryAnswer, STATIC_ANSWERS } from './static-answers.js';
import type { TaskList } from './task-list.js';
import { validateFields } from './validate-fields.js';

/** A request that has found its route. */
export interface Call {
  readonly request: DemoRequest;
  /** Undefined where the route takes no body. */
  readonly json: RequestJson;
  /** For the routes of generation requests. */
  readonly generation: DemoGeneration | undefined;
}

export interface Route {
  readonly path: string;
  readonly methods: readonly string[];
  readonly takesBody: boolean;
  /** A generation request: it is counted, and kept for tests. */
  readonly generates: boolean;
  readonly handle: (call: Call) => Promise<Reply>;
}

interface Parts {
  readonly sampling: SamplingState;
  readonly tasks: TaskList;
  readonly endpoint: GenerationEndpoint;
}

const API = '/sdapi/v1/';
const IMAGE_FIELDS: readonly Field[] = [{ name: 'image', type: 'str', initial: '', nullable: false }];

/** The routes below `/sdapi/v1/`, which A1111 has with `--api` only. */
export function apiRoutes({ sampling, endpoint }: Parts): Route[] {
  const settings = new Map<string, PythonValue>([
    ['samples_format', 'png'],
    ['sd_model_checkpoint', MODEL_TITLE],
    ['return_grid', true],
  ]);
  return [
    generationRoute('txt2img', endpoint),
    generationRoute('img2img', endpoint),
    get(`${API}progress`, ({ request }) => {
      const query = new URLSearchParams(request.url.split('?')[1]);
      return progressAnswer(sampling, /^(1|on|true|yes)$/i.test(query.get('skip_current_image') ?? ''));
    }),
    post(`${API}interrupt`, () => {
      sampling.interrupt();
      return {};
    }),
    post(`${API}skip`, () => {
      sampling.skip();
      return null;
    }),
    post(`${API}png-info`, ({ json }) => pngInfo(json), true),
    get(`${API}options`, () => settings),
    post(`${API}options`, ({ json }) => changeSettings(settings, json), true),
    get(`${API}memory`, memoryAnswer),
    ...Object.entries(STATIC_ANSWERS).map(([name, answer]) => get(API + name, () => answer)),
  ];
}

/** The routes that A1111 always has. */
export function pageRoutes({ sampling, tasks }: Parts): Route[] {
  const html = Buffer.from(demoPage());
  return [
    {
      path: '/',
      methods: ['GET', 'HEAD'],
      takesBody: false,
      generates: false,
      handle: async () => ({
        status: 200,
        headers: { 'content-type': 'text/html; charset=utf-8' },
        body: html,
      }),
    },
    post(
      '/internal/progress',
      ({ json }) =>
        taskProgressAnswer(sampling, tasks, validateFields(requireBody(json), TASK_PROGRESS_FIELDS)),
      true,
    ),
    get('/internal/ping', () => ({})),
    get('/internal/pending-tasks', () => ({ size: BigInt(tasks.pending.length), tasks: tasks.pending })),
  ];
}

type Answer = (call: Call) => PythonValue | Promise<PythonValue>;

function get(path: string, answer: Answer): Route {
  return { ...post(path, answer), methods: ['GET'] };
}

function post(path: string, answer: Answer, takesBody = false): Route {
  const handle = async (call: Call) => jsonReply(await answer(call));
  return { path, methods: ['POST'], takesBody, generates: false, handle };
}

function generationRoute(mode: GenerationMode, endpoint: GenerationEndpoint): Route {
  return {
    path: API + mode,
    methods: ['POST'],
    takesBody: true,
    generates: true,
    handle: ({ json, generation }) => endpoint.handle(mode, json, generation as DemoGeneration),
  };
}

function pngInfo(json: RequestJson): PythonValue {
  const fields = validateFields(requireBody(json), IMAGE_FIELDS);
  const items = imageTexts(decodeImage(String(fields.get('image')).trim()));
  const info = items.get('parameters') ?? '';
  items.delete('parameters');
  return { info, items, parameters: parseInfotext(info) };
}

function changeSettings(settings: Map<string, PythonValue>, json: RequestJson): null {
  const changes = requireBody(json);
  const model = changes.get('sd_model_checkpoint');
  if (model !== undefined && model !== null && !MODEL_NAMES.includes(model)) {
    throw pythonException('RuntimeError', `model '${String(model)}' not found`);
  }
  for (const [name, value] of changes) settings.set(name, value);
  return null;
}
