import { encodePng } from '../demo-shared/picture/png.js';
import { drawSketch } from '../demo-shared/picture/sketch.js';
import type { PythonDict, PythonValue } from '../demo-shared/python-json.js';
import type { Field } from './generation-fields.js';
import type { SamplingState } from './sampling-state.js';
import type { TaskList } from './task-list.js';

/** `GET /sdapi/v1/progress`: of whatever runs. */
export async function progressAnswer(sampling: SamplingState, skipsImage: boolean): Promise<PythonValue> {
  const state = sampling.toDict();
  if (sampling.isIdle) return { progress: 0, eta_relative: 0, state, current_image: null, textinfo: null };
  const progress = 0.01 + sampling.progress;
  const elapsed = sampling.elapsedSeconds;
  const preview = skipsImage ? undefined : await drawPreview(sampling);
  return {
    progress: Math.min(1, progress),
    eta_relative: elapsed / progress - elapsed,
    state,
    current_image: preview?.toString('base64') ?? null,
    textinfo: null,
  };
}

/** The body of `POST /internal/progress`. */
export const TASK_PROGRESS_FIELDS: readonly Field[] = [
  { name: 'id_task', type: 'str', initial: null, nullable: false },
  { name: 'id_live_preview', type: 'int', initial: -1n, nullable: false },
  { name: 'live_preview', type: 'bool', initial: true, nullable: false },
];

/** `POST /internal/progress`: of one task. */
export async function taskProgressAnswer(
  sampling: SamplingState,
  tasks: TaskList,
  fields: PythonDict,
): Promise<PythonValue> {
  const id = String(fields.get('id_task'));
  const position = tasks.positionOf(id);
  const known = { active: tasks.isActive(id), queued: position >= 0, completed: tasks.isFinished(id) };
  if (!known.active) {
    const waits = `In queue: ${position + 1}/${tasks.pending.length}`;
    const textinfo = known.queued ? waits : 'Waiting...';
    return { ...known, progress: null, eta: null, live_preview: null, id_live_preview: -1n, textinfo };
  }
  const { progress, elapsedSeconds } = sampling;
  const asked = fields.get('id_live_preview') as bigint;
  const previewId = BigInt(sampling.previewId);
  const wantsPreview = fields.get('live_preview') === true && asked !== previewId;
  const preview = wantsPreview ? await drawPreview(sampling) : undefined;
  return {
    ...known,
    progress,
    eta: progress > 0 ? elapsedSeconds / progress - elapsedSeconds : null,
    live_preview: preview ? `data:image/png;base64,${preview.toString('base64')}` : null,
    id_live_preview: preview ? previewId : asked,
    textinfo: null,
  };
}

/** The running picture as far as it is; undefined before the first step. */
async function drawPreview(sampling: SamplingState): Promise<Buffer | undefined> {
  const { parameters, step } = sampling;
  if (!parameters || step === 0 || sampling.isIdle) return undefined;
  const { prompt, seed, steps } = parameters;
  return encodePng(drawSketch(prompt, String(seed), parameters, step / steps));
}
