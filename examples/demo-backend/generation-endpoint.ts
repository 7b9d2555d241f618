import { isList, type PythonValue } from '../demo-shared/python-json.js';
import { httpException, pythonException } from './api-error.js';
import type { DemoGeneration, DemoState } from './demo-state.js';
import { faultsIn } from './faults.js';
import { FifoLock } from './fifo-lock.js';
import { type Generated, generate } from './generate.js';
import { GENERATION_FIELDS, type GenerationMode } from './generation-fields.js';
import { type GenerationParameters, readParameters } from './generation-parameters.js';
import { decodeImage } from './image-text.js';
import { createInfo } from './infotext.js';
import { jsonReply, type Reply } from './reply.js';
import { type RequestJson, requireBody } from './request-json.js';
import type { SamplingState } from './sampling-state.js';
import type { TaskList } from './task-list.js';
import { validateFields } from './validate-fields.js';

interface Parts {
  readonly state: DemoState;
  readonly sampling: SamplingState;
  readonly tasks: TaskList;
  readonly generationMs: number;
}

type Fields = Map<string, PythonValue>;

/** `POST /sdapi/v1/txt2img` and `/img2img`. */
export class GenerationEndpoint {
  readonly #parts: Parts;
  readonly #lock = new FifoLock();

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** Resolves once the images are made, which takes its place in the queue. Rejects with `ApiError`. */
  async handle(mode: GenerationMode, json: RequestJson, generation: DemoGeneration): Promise<Reply> {
    const fields = validateFields(requireBody(json), GENERATION_FIELDS[mode]);
    const initImages = mode === 'img2img' ? requireInitImages(fields) : [];
    refuseScripts(fields);
    const parameters = readParameters(mode, fields);
    generation.taskId = parameters.taskId;
    const faults = faultsIn(parameters.prompt);
    if (faults.has('[refuse]')) {
      throw pythonException('RuntimeError', 'The demo refuses, because the prompt says [refuse]');
    }
    const made = await this.#generateInTurn(parameters, initImages, generation);
    generation.images = made.images;
    if (mode === 'img2img' && fields.get('include_init_images') !== true) {
      fields.set('init_images', null).set('mask', null);
    }
    const reply = jsonReply({
      images: parameters.sendsImages ? made.images.map((image) => image.toString('base64')) : [],
      parameters: fields,
      info: createInfo(parameters, made.infotexts, made.indexOfFirstImage),
    });
    return { ...reply, isCutShort: faults.has('[die]') };
  }

  async #generateInTurn(
    parameters: GenerationParameters,
    initImages: readonly PythonValue[],
    generation: DemoGeneration,
  ): Promise<Generated> {
    const { state, sampling, tasks, generationMs } = this.#parts;
    tasks.add(parameters.taskId);
    state.waiting += 1;
    const giveBack = await this.#lock.acquire();
    state.waiting -= 1;
    try {
      // as late as in A1111, where the task of a bad image stays pending for ever
      checkInitImages(initImages, parameters);
      sampling.begin(parameters);
      tasks.start(parameters.taskId);
      state.startRunning(generation);
      try {
        const made = await generate(parameters, {
          sampling,
          durationMs: generationMs,
          heldAt: () => state.heldAt,
          hold: (signal) => state.waitAtGate(generation, signal),
        });
        tasks.finish(parameters.taskId);
        return made;
      } finally {
        sampling.end();
        state.stopRunning(generation);
      }
    } finally {
      giveBack();
    }
  }
}

function requireInitImages(fields: Fields): readonly PythonValue[] {
  const images = fields.get('init_images') ?? null;
  if (!isList(images)) throw httpException(404, 'Init image not found');
  const mask = fields.get('mask');
  if (mask) decodeImage(mask);
  return images;
}

function checkInitImages(images: readonly PythonValue[], { mode, batchSize }: GenerationParameters): void {
  for (const image of images) decodeImage(image);
  if (mode === 'img2img' && (images.length === 0 || images.length > Math.max(1, batchSize))) {
    const message = `bad number of images passed: ${images.length}; expecting ${batchSize} or less`;
    throw pythonException('RuntimeError', message);
  }
}

/** The demo has no scripts, so that none is ever found. */
function refuseScripts(fields: Fields): void {
  const always = fields.get('alwayson_scripts');
  const names = [fields.get('script_name'), ...(always instanceof Map ? always.keys() : [])];
  const name = names.find((one) => typeof one === 'string' && one !== '');
  if (name !== undefined) throw httpException(422, `Script '${String(name)}' not found`);
}
