import type { JobProgress } from '../job.js';

/** What is known of a prompt before it starts. */
export interface PromptSize {
  /** How many nodes its workflow has. */
  readonly nodes: number | undefined;
  /** How many steps its sampler will take. */
  readonly steps: number | undefined;
}

/** A node that has begun. */
export interface NodeState {
  readonly value: number;
  readonly max: number;
  readonly isFinished: boolean;
}

/** What counts more steps than any sampler counts something else: bytes. */
const MOST_STEPS = 1_000;
const MAX_NODE_LENGTH = 100;

/**
 * Reckons how far one prompt has come. A node weighs as much as it has steps, because a sampler takes nearly all of the
 * time; of nodes that have not begun only their number is known, and the sampler's steps are expected until one has begun.
 */
export class PromptProgress {
  readonly #size: PromptSize;
  #nodes = new Map<string, NodeState>();
  #cached: ReadonlySet<string> = new Set();
  #knowsAll = false;
  #last: JobProgress | undefined;

  constructor(size: PromptSize) {
    this.#size = size;
  }

  /** These nodes need not run: what they make is there already. */
  cached(nodes: readonly string[]): void {
    this.#cached = new Set(nodes);
  }

  /** All nodes that have begun, as they are now. Returns the news, if that is any. */
  allNodes(nodes: ReadonlyMap<string, NodeState>): JobProgress | undefined {
    this.#knowsAll = true;
    this.#nodes = new Map(nodes);
    return this.#report();
  }

  /** Of older servers, which tell of one node at a time: this one is at work now, and those before it are through. */
  oneNode(id: string, state?: Pick<NodeState, 'value' | 'max'>): JobProgress | undefined {
    if (this.#knowsAll) return undefined;
    for (const [before, node] of this.#nodes) {
      if (!node.isFinished) this.#nodes.set(before, { ...node, isFinished: true });
    }
    const { value = 0, max = 1 } = state ?? {};
    this.#nodes.set(id, { value, max, isFinished: false });
    return this.#report();
  }

  /** Steps are those of the node at work, which is also what the text tells; the progress is that of the whole prompt. */
  #report(): JobProgress | undefined {
    // The one that began last; more than one at a time is rare.
    const atWork = [...this.#nodes].findLast(([, { isFinished }]) => !isFinished);
    const share = this.#size.nodes === undefined ? shareOf(atWork?.[1]) : this.#shareOfAll(this.#size.nodes);
    const progress = Math.max(this.#last?.progress ?? 0, Math.round(share * 1000) / 1000);
    const report: JobProgress = {
      progress,
      ...(atWork && stepsOf(atWork[1])),
      ...(atWork && isName(atWork[0]) && { text: `Node ${atWork[0]}` }),
    };
    const last = this.#last;
    this.#last = report;
    const isNew =
      last?.progress !== progress ||
      last.step !== report.step ||
      last.steps !== report.steps ||
      last.text !== report.text;
    return isNew ? report : undefined;
  }

  #shareOfAll(nodeCount: number): number {
    let done = 0;
    let begun = 0;
    let hasSampled = false;
    for (const node of this.#nodes.values()) {
      const weight = weightOf(node.max);
      begun += weight;
      done += weight * (node.isFinished ? 1 : shareOf(node));
      hasSampled ||= weight > 1;
    }
    const unneeded = [...this.#cached].filter((id) => !this.#nodes.has(id)).length;
    const others = Math.max(0, nodeCount - this.#nodes.size - unneeded);
    const sampling = hasSampled || others === 0 ? 0 : weightOf(this.#size.steps ?? 1) - 1;
    const all = begun + others + sampling;
    return all > 0 ? done / all : 0;
  }
}

function isName(id: string): boolean {
  return id !== '' && id.length <= MAX_NODE_LENGTH;
}

function weightOf(max: number): number {
  return max > 1 && max <= MOST_STEPS ? max : 1;
}

function shareOf(node: Pick<NodeState, 'value' | 'max'> | undefined): number {
  return node && node.max > 0 ? Math.min(1, Math.max(0, node.value / node.max)) : 0;
}

function stepsOf({ value, max }: NodeState): Pick<JobProgress, 'step' | 'steps'> {
  const isCount = Number.isInteger(value) && Number.isInteger(max) && max > 1 && max <= MOST_STEPS;
  return isCount && value >= 0 && value <= max ? { step: value, steps: max } : {};
}
