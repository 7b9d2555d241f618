import { jsonOf, objectOf } from '../backends/request-values.js';
import type { JobProgress } from '../job.js';
import type { RunningJob } from '../jobs/running-job.js';
import type { ComfyUIFollower } from './follower.js';
import { type NodeState, PromptProgress } from './prompt-progress.js';

export interface ComfyUIMessagesOptions {
  readonly follower: Pick<ComfyUIFollower, 'jobOf' | 'onlyProcessing' | 'started' | 'lookSoon'>;
  /** Called when a followed job, which is on record as Processing, has come further. It must not throw. */
  readonly onProgress: (jobId: string, report: JobProgress) => void;
}

/** A prompt may begin before its job is followed; of so many the cached nodes are remembered. */
const MOST_EARLY = 16;

type Members = Readonly<Record<string, unknown>>;

/**
 * Understands what ComfyUI says over its WebSockets, `{"type": …, "data": {…}}`, as far as it is about jobs that are
 * followed. The same message may come over several sockets. What it does not know, or not as it is, says nothing.
 *
 * @see https://docs.comfy.org/development/comfyui-server/comms_messages
 */
export class ComfyUIMessages {
  readonly #options: ComfyUIMessagesOptions;
  readonly #progressOf = new WeakMap<RunningJob, PromptProgress>();
  /** The cached nodes of prompts that nobody follows yet, the newest last. */
  readonly #early = new Map<string, readonly string[]>();

  constructor(options: ComfyUIMessagesOptions) {
    this.#options = options;
  }

  /** Takes one text message. Never throws. */
  receive(text: string): void {
    const { type, data: value } = objectOf(jsonOf(text));
    const data = objectOf(value);
    switch (type) {
      case 'status':
        // The queue is another one now.
        this.#options.follower.lookSoon();
        break;
      case 'execution_cached':
        this.#cached(data);
        break;
      case 'execution_start':
      case 'executing':
      case 'progress':
      case 'progress_state':
        this.#atWork(type, data);
        break;
      case 'execution_success':
      case 'execution_error':
      case 'execution_interrupted':
        if (this.#jobOf(data)) this.#options.follower.lookSoon();
        break;
    }
  }

  #atWork(type: string, data: Members): void {
    const { follower } = this.#options;
    const job = this.#jobOf(data) ?? (isUnnamedProgress(type, data) ? follower.onlyProcessing : undefined);
    if (!job || job.ended || job.taskId === undefined) return;
    if (type === 'executing' && data.node === null) {
      // It is through, and in the history.
      follower.lookSoon();
      return;
    }
    const started = follower.started(job.taskId);
    const report = this.#reportOf(job, type, data);
    if (!report) return;
    void started.then(() => {
      if (!job.ended) this.#options.onProgress(job.id, report);
    });
  }

  #reportOf(job: RunningJob, type: string, data: Members): JobProgress | undefined {
    const progress = this.#progressFor(job);
    const node = typeof data.node === 'string' ? data.node : undefined;
    switch (type) {
      case 'executing':
        return node === undefined ? undefined : progress.oneNode(node);
      case 'progress': {
        const { value, max } = data;
        // Older servers do not say which node it is.
        return isCount(value) && isCount(max) ? progress.oneNode(node ?? '', { value, max }) : undefined;
      }
      case 'progress_state': {
        const nodes = nodesOf(data.nodes);
        return nodes.size > 0 ? progress.allNodes(nodes) : undefined;
      }
      default:
        return undefined;
    }
  }

  #cached(data: Members): void {
    const { prompt_id: promptId } = data;
    if (typeof promptId !== 'string' || !Array.isArray(data.nodes)) return;
    const nodes = data.nodes.filter((id) => typeof id === 'string');
    const job = this.#jobOf(data);
    if (job) {
      this.#progressFor(job).cached(nodes);
      return;
    }
    this.#early.delete(promptId);
    this.#early.set(promptId, nodes);
    const [oldest] = this.#early.keys();
    if (this.#early.size > MOST_EARLY && oldest !== undefined) this.#early.delete(oldest);
  }

  #progressFor(job: RunningJob): PromptProgress {
    const known = this.#progressOf.get(job);
    if (known) return known;
    const { nodes, steps } = job.request;
    const progress = new PromptProgress({
      nodes: isCount(nodes) ? nodes : undefined,
      steps: isCount(steps) ? steps : undefined,
    });
    progress.cached(this.#early.get(job.taskId ?? '') ?? []);
    this.#progressOf.set(job, progress);
    return progress;
  }

  #jobOf({ prompt_id }: Members): RunningJob | undefined {
    return typeof prompt_id === 'string' ? this.#options.follower.jobOf(prompt_id) : undefined;
  }
}

function isUnnamedProgress(type: string, { prompt_id }: Members): boolean {
  return type === 'progress' && prompt_id === undefined;
}

function nodesOf(value: unknown): ReadonlyMap<string, NodeState> {
  const nodes = new Map<string, NodeState>();
  for (const [id, node] of Object.entries(objectOf(value))) {
    const { value: done, max, state } = objectOf(node);
    if (state === 'pending' || !isCount(done) || !isCount(max)) continue;
    nodes.set(id, { value: done, max, isFinished: state === 'finished' });
  }
  return nodes;
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value) && value >= 0;
}
