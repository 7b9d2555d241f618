/** What a word in the positive prompt makes the demo do, for trying out what goes wrong with a real ComfyUI. */
export const FAULTS = {
  '[slow]': 'takes ten times as long',
  '[fail]': 'fails in its sampler after half of the steps',
  '[oom]': 'runs out of memory in its sampler after half of the steps',
  '[die]': 'ends the server after half of the steps: it loses its queue and its history, and is back at once',
  '[hang]': 'never ends after half of the steps; an interrupt does not help, and the queue behind it waits',
} as const;

export type Fault = keyof typeof FAULTS;

/** The faults that a prompt asks for. */
export function faultsIn(prompt: string): ReadonlySet<Fault> {
  const words = Object.keys(FAULTS) as Fault[];
  return new Set(words.filter((word) => prompt.includes(word)));
}
