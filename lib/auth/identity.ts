import type { IncomingMessage } from 'node:http';
import type { Job } from '../job.js';

/** Says who makes a request; nothing for nobody in particular. Where Express has the request, it is Express's. */
export type UserFunction = (
  req: IncomingMessage,
) => string | null | undefined | Promise<string | null | undefined>;

/** Who makes a request, as far as that is known. */
export interface Identity {
  /** Undefined where nobody has logged in. */
  readonly name: string | undefined;
  /** Sees everyone's jobs, changes settings and purges. */
  readonly isAdmin: boolean;
}

/** Why somebody is not let in, as an answer. */
export interface Refusal {
  readonly status: 401 | 403 | 429 | 503;
  readonly headers: Readonly<Record<string, string>>;
  /** For people; holds no secret. */
  readonly error: string;
}

export function isRefusal(value: Identity | Refusal): value is Refusal {
  return 'status' in value;
}

/** Whether somebody may see, stop or forget a job: its maker and admins may. */
export function mayTouch({ name, isAdmin }: Identity, job: Pick<Job, 'user'>): boolean {
  return isAdmin || (name !== undefined && job.user === name);
}
