import type { Logger } from '../logger.js';

/** Says whether a login is right. The name and the password are never empty. */
export type LoginFunction = (name: string, password: string) => boolean | Promise<boolean>;

/** What knows which logins are right. */
export interface LoginCheck {
  /**
   * Throws or rejects with JobTrackerError `LOGIN_UNCHECKED` where it cannot be told now; the message is for whoever
   * wants to come in.
   */
  check(name: string, password: string): boolean | Promise<boolean>;
}

/** The check by a function of the host: `true` lets in, and nothing else does, however true it looks. */
export function checkByFunction(login: LoginFunction, logger: Logger): LoginCheck {
  let hasSaid = false;
  return {
    async check(name, password) {
      const verdict: unknown = await login(name, password);
      if (verdict && verdict !== true && !hasSaid) {
        hasSaid = true;
        logger.error(
          `Expected the function in \`auth\` to give true or false, got ${typeof verdict}: nobody is let in by that`,
        );
      }
      return verdict === true;
    },
  };
}
