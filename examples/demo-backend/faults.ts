/** What a word in a prompt makes the demo do, for trying out what goes wrong with real backends. */
export const FAULTS = {
  '[slow]': 'takes ten times as long',
  '[refuse]': 'is refused at once with 500',
  '[fail]': 'runs out of memory after half of the time: 500',
  '[die]': 'breaks the connection in the middle of the answer',
  '[half]': 'ends its first image in the middle',
  '[empty]': 'answers without an image',
} as const;

export type Fault = keyof typeof FAULTS;

/** The faults that a prompt asks for. */
export function faultsIn(prompt: string): ReadonlySet<Fault> {
  const words = Object.keys(FAULTS) as Fault[];
  return new Set(words.filter((word) => prompt.includes(word)));
}
