import { describe, expect, test } from '@jest/globals';
import { BufferPool } from '../../lib/images/buffer-pool.js';

describe('BufferPool', () => {
  test('lends what came back, and nothing to two at once', () => {
    const pool = new BufferPool({ sizeBytes: 100, keep: 4 });
    const first = pool.take();
    expect(first.buffer).toHaveLength(100);
    expect(pool.take().buffer).not.toBe(first.buffer);
    first.release();
    first.release();
    const again = pool.take();
    expect(again.buffer).toBe(first.buffer);
    first.release();
    expect(pool.take().buffer).not.toBe(first.buffer);
  });

  test('keeps only so many', () => {
    const pool = new BufferPool({ sizeBytes: 100, keep: 2 });
    const lent = [pool.take(), pool.take(), pool.take()];
    for (const { release } of lent) release();
    const old = new Set(lent.map(({ buffer }) => buffer));
    const taken = [pool.take(), pool.take(), pool.take()];
    expect(taken.filter(({ buffer }) => old.has(buffer))).toHaveLength(2);
  });
});
