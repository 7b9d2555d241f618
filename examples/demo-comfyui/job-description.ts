import { isList, type PythonDict, type PythonValue } from '../demo-shared/python-json.js';
import type { HistoryEntry } from './prompt-history.js';
import type { QueuedPrompt } from './prompt-queue.js';

export const JOB_STATUSES = ['pending', 'in_progress', 'completed', 'failed', 'cancelled'] as const;

export type JobStatus = (typeof JOB_STATUSES)[number];

/** A prompt as `/api/jobs` sees it, waiting, at work or ended. */
export interface Job {
  readonly prompt: QueuedPrompt;
  readonly status: JobStatus;
  readonly entry?: HistoryEntry;
}

export function statusOf({ isSuccess, messages }: HistoryEntry): JobStatus {
  if (isSuccess) return 'completed';
  return messages.at(-1)?.[0] === 'execution_interrupted' ? 'cancelled' : 'failed';
}

/** Milliseconds since 1970; undefined for what was queued without it. */
export function createTimeOf({ prompt }: Job): bigint | undefined {
  const time = prompt.extraData?.get('create_time');
  return typeof time === 'bigint' ? time : undefined;
}

/** 0 where it has not run. */
export function durationOf(job: Job): number {
  const { start = 0n, end = 0n } = timesOf(job);
  return Number(end - start);
}

/** Without what is not known. */
export function describeJob(job: Job): { readonly [key: string]: PythonValue } {
  const { prompt, status, entry } = job;
  const { start, end } = timesOf(job);
  const files = [...(entry?.outputs ?? [])].flatMap(([nodeId, output]) => filesOf(nodeId, output));
  const error = entry?.messages.find(([type]) => type === 'execution_error')?.[1];
  const fields: Record<string, PythonValue | undefined> = {
    id: prompt.id,
    status,
    priority: prompt.number,
    create_time: createTimeOf(job),
    execution_start_time: start,
    execution_end_time: end,
    execution_error: error,
    outputs_count: BigInt(files.length),
    previewable_outputs_count: BigInt(files.length),
    preview_output: files[0],
    workflow_id: workflowIdOf(job),
  };
  return Object.fromEntries(
    Object.entries(fields).filter((field): field is [string, PythonValue] => (field[1] ?? null) !== null),
  );
}

/** With what a list leaves out. */
export function describeWholeJob(job: Job): PythonValue {
  const { prompt, entry } = job;
  return {
    ...describeJob(job),
    ...(entry
      ? {
          outputs: entry.outputs,
          execution_status: {
            status_str: entry.isSuccess ? 'success' : 'error',
            completed: entry.isSuccess,
            messages: entry.messages,
          },
        }
      : {}),
    workflow: { prompt: prompt.workflow, extra_data: prompt.extraData },
  };
}

export function workflowIdOf({ prompt }: Job): PythonValue | undefined {
  const workflow = member(member(prompt.extraData ?? undefined, 'extra_pnginfo'), 'workflow');
  return member(workflow, 'id');
}

function member(value: PythonValue | undefined, key: string): PythonValue | undefined {
  return value instanceof Map ? (value as PythonDict).get(key) : undefined;
}

function timesOf({ entry }: Job): { start?: bigint; end?: bigint } {
  if (!entry) return {};
  const [first, last] = [entry.messages.at(0), entry.messages.at(-1)];
  return { start: first?.[1].timestamp as bigint, end: last?.[1].timestamp as bigint };
}

function filesOf(nodeId: string, output: { readonly [key: string]: PythonValue }): PythonValue[] {
  return Object.entries(output).flatMap(([mediaType, items]) => {
    if (!isList(items)) return [];
    return items.flatMap((item) => {
      const isFile = typeof item === 'object' && item !== null && 'filename' in item;
      return isFile ? [{ ...(item as { filename: string }), nodeId, mediaType }] : [];
    });
  });
}
