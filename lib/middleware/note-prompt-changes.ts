import type { RequestHandler } from 'express';
import { promptChange } from '../backends/comfyui-paths.js';
import type { ComfyUIFollower } from '../comfyui/follower.js';

/**
 * The middleware in front of what is passed on: where a client takes prompts out of ComfyUI's hands, whoever follows them
 * learns of it, before it happens and once it has. It waits for nothing.
 */
export function notePromptChanges(
  follower: Pick<ComfyUIFollower, 'queueChanges' | 'lookSoon'>,
): RequestHandler {
  return (req, res, next) => {
    const change = promptChange(req.method, req.path);
    // One that is gone before we look was taken out, and not lost.
    if (change === 'removal') follower.queueChanges();
    if (change) res.once('close', () => follower.lookSoon());
    next();
  };
}
