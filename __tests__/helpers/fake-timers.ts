import { jest } from '@jest/globals';

const TIMERS = ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval'] as const;
const OTHERS = ['Date', 'hrtime', 'nextTick', 'queueMicrotask', 'setImmediate', 'clearImmediate'] as const;

/** Timers go by the test's own clock from now on; sockets and promises go on as ever. */
export function fakeOnly(...names: ((typeof TIMERS)[number] | 'performance')[]): void {
  const all = [...TIMERS, ...OTHERS, 'performance'] as const;
  jest.useFakeTimers({ doNotFake: all.filter((name) => !(names as readonly string[]).includes(name)) });
}
