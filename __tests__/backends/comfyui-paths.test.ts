import { describe, expect, test } from '@jest/globals';
import { isNewsSocket, promptChange } from '../../lib/backends/comfyui-paths.js';

describe('what ComfyUI has where', () => {
  test.each(['/ws', '/api/ws', '/ws/', '//api//ws', '/%77s'])('%s tells clients of their prompts', (path) => {
    expect(isNewsSocket(path)).toBe(true);
  });

  test.each(['/', '/wss', '/ws/a', '/a/ws', '/queue/join'])('%s does not', (path) => {
    expect(isNewsSocket(path)).toBe(false);
  });

  test.each([
    ['/queue', 'removal'],
    ['/api/queue', 'removal'],
    ['/history', 'removal'],
    ['/api/history/', 'removal'],
    ['/api/jobs/cancel', 'removal'],
    ['/api/jobs/0a1b2c3d-0000-4000-8000-000000000000/cancel', 'removal'],
    ['/interrupt', 'interrupt'],
    ['//api/Interrupt', 'interrupt'],
    ['/prompt', undefined],
    ['/history/a', undefined],
    ['/api/jobs/a/b/cancel', undefined],
    ['/jobs/cancel', undefined],
  ])('POST %s: %s', (path, change) => {
    expect(promptChange('POST', path)).toBe(change);
    expect(promptChange('GET', path)).toBeUndefined();
  });
});
