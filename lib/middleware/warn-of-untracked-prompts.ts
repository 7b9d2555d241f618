import type { RequestHandler } from 'express';
import { comfyui } from '../backends/comfyui.js';
import type { Logger } from '../logger.js';

/** The middleware that says, once, why a prompt on its way to ComfyUI gets no job id. */
export function warnOfUntrackedPrompts(logger: Logger): RequestHandler {
  let isSaid = false;
  return (req, _res, next) => {
    if (!isSaid && comfyui.matches(req.method, req.path)) {
      isSaid = true;
      logger.warn(
        `POST ${req.path} passes untracked: what ComfyUI makes of it can only be followed where its address is given, as \`comfyui\``,
      );
    }
    next();
  };
}
