import type { Request, Response } from 'express';
import { Authenticator } from './auth/authenticate.js';
import { readBasicLogin } from './auth/basic-login.js';
import { CredentialListCheck } from './auth/credential-list.js';
import { isRefusal } from './auth/identity.js';
import { checkByFunction, type LoginCheck } from './auth/login-check.js';
import { automatic1111 } from './backends/automatic1111.js';
import { BackendLogin } from './backends/backend-login.js';
import { answerError } from './http/error-answer.js';
import type { ResolvedOptions } from './options.js';

/** Who may come in, as the options say it. */
export function createAuthenticator(options: ResolvedOptions): Authenticator {
  const { user, admins, logger } = options;
  return new Authenticator({ login: loginCheckOf(options), user, admins, logger });
}

function loginCheckOf({ auth, a1111, logger }: ResolvedOptions): LoginCheck | undefined {
  if (auth === undefined) return undefined;
  if (auth === 'backend') return new BackendLogin({ url: a1111 as URL, backend: automatic1111, logger });
  return typeof auth === 'function' ? checkByFunction(auth, logger) : new CredentialListCheck(auth);
}

/** Whether somebody may see more than that all is well. Who gives no login, or one that nobody can judge, may ask that. */
export async function isKnown(
  req: Request,
  res: Response,
  authenticator: Authenticator,
): Promise<'yes' | 'no' | 'answered'> {
  const who = await authenticator.identify(req);
  if (!isRefusal(who)) return who.isAdmin || who.name !== undefined ? 'yes' : 'no';
  if (readBasicLogin(req.headers).kind === 'absent' || who.status === 503) return 'no';
  answerError(res, who.status, who.error, who.headers);
  return 'answered';
}
