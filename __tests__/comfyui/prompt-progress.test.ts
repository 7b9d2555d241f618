import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { type NodeState, PromptProgress } from '../../lib/comfyui/prompt-progress.js';

const finished: NodeState = { value: 1, max: 1, isFinished: true };
const atWork = (value = 0, max = 1): NodeState => ({ value, max, isFinished: false });
const nodes = (states: Readonly<Record<string, NodeState>>) => new Map(Object.entries(states));

describe('the progress of a prompt', () => {
  test('goes by nodes, of which the sampler weighs as much as it has steps', () => {
    const progress = new PromptProgress({ nodes: 7, steps: 20 });
    // 6 nodes and 20 steps are 26 pieces of work.
    expect(progress.allNodes(nodes({ n4: atWork() }))).toEqual({ progress: 0, text: 'Node n4' });
    const loaded = { n4: finished, n5: finished, n6: finished };
    expect(progress.allNodes(nodes({ ...loaded, n7: atWork() }))?.progress).toBe(0.115);
    const ready = { ...loaded, n7: finished };
    expect(progress.allNodes(nodes({ ...ready, n3: atWork() }))?.progress).toBe(0.154);
    expect(progress.allNodes(nodes({ ...ready, n3: atWork(10, 20) }))).toEqual({
      progress: 0.538,
      step: 10,
      steps: 20,
      text: 'Node n3',
    });
    const sampled = { ...ready, n3: { value: 20, max: 20, isFinished: true } };
    expect(progress.allNodes(nodes({ ...sampled, n8: atWork() }))).toEqual({
      progress: 0.923,
      text: 'Node n8',
    });
    expect(progress.allNodes(nodes({ ...sampled, n8: finished, n9: finished }))).toEqual({ progress: 1 });
  });

  test('does not wait for nodes whose output is there already', () => {
    const progress = new PromptProgress({ nodes: 4, steps: undefined });
    progress.cached(['a', 'b']);
    expect(progress.allNodes(nodes({ c: finished, d: atWork() }))?.progress).toBe(0.5);
  });

  test('without the size of the workflow it is that of the node at work', () => {
    const progress = new PromptProgress({ nodes: undefined, steps: undefined });
    expect(progress.allNodes(nodes({ a: finished, b: atWork(1, 4) }))?.progress).toBe(0.25);
    expect(progress.allNodes(nodes({ a: finished, b: finished }))?.progress).toBe(0.25);
  });

  test('never goes back: with a second sampler, with nodes that have made more nodes', () => {
    const progress = new PromptProgress({ nodes: 2, steps: 4 });
    expect(progress.allNodes(nodes({ a: finished, b: atWork(3, 4) }))?.progress).toBe(0.8);
    const more = { a: finished, b: finished, 'b.0': atWork(0, 40) };
    expect(progress.allNodes(nodes(more))).toEqual({ progress: 0.8, step: 0, steps: 40, text: 'Node b.0' });
  });

  test('bytes are not steps', () => {
    const progress = new PromptProgress({ nodes: 2, steps: 20 });
    expect(progress.allNodes(nodes({ loader: atWork(5e8, 1e9) }))).toEqual({
      progress: 0.024,
      text: 'Node loader',
    });
  });

  test('of an older server goes by one node at a time', () => {
    const progress = new PromptProgress({ nodes: 3, steps: 4 });
    expect(progress.oneNode('a')?.progress).toBe(0);
    expect(progress.oneNode('b')?.progress).toBe(0.167);
    expect(progress.oneNode('b', { value: 2, max: 4 })).toMatchObject({ progress: 0.5, step: 2, steps: 4 });
    expect(progress.oneNode('c')?.progress).toBe(0.833);
    expect(progress.oneNode('', { value: 0, max: 1 })?.text).toBeUndefined();
  });

  test('once all nodes are told, one of them says nothing more; and the same twice is no news', () => {
    const progress = new PromptProgress({ nodes: 3, steps: 4 });
    const states = nodes({ a: atWork(1, 4) });
    expect(progress.allNodes(states)).toBeDefined();
    expect(progress.allNodes(states)).toBeUndefined();
    expect(progress.oneNode('a', { value: 2, max: 4 })).toBeUndefined();
  });

  test('is from 0 to 1 and only grows, whatever comes', () => {
    const number = fc.oneof(fc.nat(50), fc.double({ min: 0, noNaN: true, noDefaultInfinity: true }));
    const state = fc.record({ value: number, max: number, isFinished: fc.boolean() });
    const states = fc.dictionary(fc.constantFrom('a', 'b', 'c', 'd', 'e'), state);
    const size = fc.record({
      nodes: fc.option(fc.nat(9), { nil: undefined }),
      steps: fc.option(number, { nil: undefined }),
    });
    fc.assert(
      fc.property(size, fc.array(fc.oneof(states, fc.tuple(fc.string(), state))), (given, events) => {
        const progress = new PromptProgress(given);
        let last = 0;
        for (const event of events) {
          const report = Array.isArray(event)
            ? progress.oneNode(event[0], event[1])
            : progress.allNodes(nodes(event));
          if (!report) continue;
          expect(report.progress).toBeGreaterThanOrEqual(last);
          expect(report.progress).toBeLessThanOrEqual(1);
          last = report.progress;
        }
      }),
    );
  });
});
