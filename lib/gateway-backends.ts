import type { Backend } from './backends/backend.js';
import type { Forwarder } from './http/forward.js';
import type { BackendName } from './job.js';
import type { JobQueue } from './jobs/job-queue.js';

/** A backend whose generations are tracked, as this gateway has it. */
export interface GatewayBackend {
  readonly backend: Backend;
  /** For the tracker's own calls. May hold credentials, which are never shown. */
  readonly url: URL | undefined;
  /** Where its jobs wait. One that queues by itself gets them all at once. */
  readonly queue: JobQueue;
  /** Absent where the host forwards. */
  readonly forwarder: Forwarder | undefined;
  /** Passes on what the tracker itself has to, also where the host forwards the rest. Absent without an address. */
  readonly ownForwarder: Forwarder | undefined;
}

/** The backends of one gateway, in the order in which they are asked whether a request is theirs. */
export class GatewayBackends {
  readonly all: readonly GatewayBackend[];
  readonly #forwarding: readonly GatewayBackend[];

  /** @param all where several forward, all but the last one get only what `owns` says is theirs. */
  constructor(all: readonly GatewayBackend[]) {
    this.all = all;
    this.#forwarding = all.filter(({ forwarder }) => forwarder);
  }

  /** True where the tracker forwards by itself. */
  get forwards(): boolean {
    return this.#forwarding.length > 0;
  }

  get(name: BackendName): GatewayBackend | undefined {
    return this.all.find(({ backend }) => backend.name === name);
  }

  /** Whose generation a request is. `path` is the one below the mount, without the query. */
  matching(method: string | undefined, path: string): GatewayBackend | undefined {
    return this.all.find(({ backend }) => backend.matches(method, path));
  }

  /** Who forwards a request that nobody has answered; undefined where the host does. `path` as above. */
  forwarderFor(path: string): Forwarder | undefined {
    const owner = this.#forwarding.find(({ backend }) => backend.owns(path));
    return (owner ?? this.#forwarding.at(-1))?.forwarder;
  }

  /** How many jobs are at a backend, and how many wait for that. */
  get counts(): { readonly running: number; readonly waiting: number } {
    const counts = this.all.map(({ queue }) => queue.counts);
    return {
      running: counts.reduce((sum, { running }) => sum + running, 0),
      waiting: counts.reduce((sum, { waiting }) => sum + waiting, 0),
    };
  }
}
