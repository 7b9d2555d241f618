import { JobTrackerError } from '../errors.js';
import { type BackendAnswer, callBackend } from '../http/backend-call.js';
import type { JobProgress } from '../job.js';
import { askForTask, jsonObject } from './automatic1111-tasks.js';
import type { ProgressSource } from './backend.js';

const ANSWER_WITHIN_MS = 5_000;
/** Of whatever runs, whoever it is for. Without the picture in the making, which would be large. */
const PROGRESS_PATH = '/sdapi/v1/progress?skip_current_image=true';
/** It does not have tasks: SD.Next, perhaps. */
const NO_SUCH_ROUTE = [404, 405];

/** The progress of Automatic1111. */
export const automatic1111Progress: ProgressSource = {
  async ofTask(url, taskId, signal) {
    const answer = await askForTask(url, taskId, signal);
    if (NO_SUCH_ROUTE.includes(answer.status)) return undefined;
    const { queued, active, progress, eta, textinfo } = saidIn(answer, url);
    if (queued === true) return progressOf(0, undefined, textinfo);
    if (active !== true) return undefined;
    // It does not count the steps here. The task is the one that runs, so that they are its own.
    return { ...(await stepsOf(url, signal)), ...progressOf(progress, eta, textinfo) };
  },

  async ofWhateverRuns(url, signal) {
    const said = saidIn(await askForState(url, signal), url);
    const steps = stepsIn(said);
    return steps && { ...steps, ...progressOf(said.progress, said.eta_relative, said.textinfo) };
  },
};

function askForState(url: URL, signal: AbortSignal): Promise<BackendAnswer> {
  return callBackend(url, { path: PROGRESS_PATH, timeoutMs: ANSWER_WITHIN_MS, signal });
}

/** Nothing where the login for it is not known. */
async function stepsOf(
  url: URL,
  signal: AbortSignal,
): Promise<Pick<JobProgress, 'step' | 'steps'> | undefined> {
  const answer = await askForState(url, signal);
  return answer.status === 200 ? stepsIn(saidIn(answer, url)) : undefined;
}

/** Undefined where nothing runs. */
function stepsIn({ state }: Said): Pick<JobProgress, 'step' | 'steps'> | undefined {
  const { job_count, sampling_step: step, sampling_steps: steps } = (state ?? {}) as Said;
  if (!(typeof job_count === 'number' && job_count > 0)) return undefined;
  return isCount(step) && isCount(steps) && steps > 0 ? { step: Math.min(step, steps), steps } : {};
}

function progressOf(progress: unknown, eta: unknown, text: unknown): JobProgress {
  return {
    // It is null before the first step.
    progress: typeof progress === 'number' && Number.isFinite(progress) ? progress : 0,
    ...(typeof eta === 'number' &&
      eta > 0 &&
      Number.isFinite(eta) && { eta_seconds: Math.round(eta * 10) / 10 }),
    ...(typeof text === 'string' && text !== '' && { text: text.slice(0, 200) }),
  };
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

type Said = Readonly<Record<string, unknown>>;

function saidIn({ status, body }: BackendAnswer, url: URL): Said {
  const said = status === 200 ? jsonObject(body) : undefined;
  if (said) return said;
  const what = status === 200 ? 'something else' : status;
  throw new JobTrackerError(
    'BACKEND_UNANSWERED',
    `${url.origin} does not tell its progress: it answered ${what}`,
  );
}
