import type { Authenticator } from './auth/authenticate.js';
import { automatic1111 } from './backends/automatic1111.js';
import type { Backend } from './backends/backend.js';
import { comfyui } from './backends/comfyui.js';
import { isNewsSocket } from './backends/comfyui-paths.js';
import { type GatewayBackend, GatewayBackends } from './gateway-backends.js';
import { basicAuthorization } from './http/backend-call.js';
import { Forwarder } from './http/forward.js';
import { JobQueue } from './jobs/job-queue.js';
import type { ResolvedOptions } from './options.js';

export interface BackendListeners {
  /** Called when positions in a queue may have changed. It must not throw. */
  readonly onQueueMoved: () => void;
  /** Gets the text messages that pass from ComfyUI to its clients. */
  readonly onComfyUIMessage: (text: string) => void;
}

/** The backends that the options name; with none of them Automatic1111, to which the host forwards. */
export function createBackends(
  options: ResolvedOptions,
  { required }: Pick<Authenticator, 'required'>,
  { onQueueMoved, onComfyUIMessage }: BackendListeners,
): GatewayBackends {
  const { concurrency, maxQueue, auth } = options;
  const readsAlong = (path: string) => (isNewsSocket(path) ? onComfyUIMessage : undefined);
  const create = (backend: Backend, url: URL | undefined, queue: JobQueue): GatewayBackend => {
    // Automatic1111 itself may have said whose logins are right: it gets to see them.
    const judges = auth === 'backend' && backend.name === 'a1111';
    // Where the host forwards, only the tracker's own calls have the credentials in the address.
    const credentials = url && basicAuthorization(url);
    const replaces = (required && !judges) || (!options.forward && credentials !== null);
    const ownForwarder = url
      ? new Forwarder({
          target: url,
          backend,
          ...(replaces && { authorization: credentials }),
          ...(backend.name === 'comfyui' && { readerOf: readsAlong }),
        })
      : undefined;
    return { backend, url, queue, forwarder: options.forward ? ownForwarder : undefined, ownForwarder };
  };
  const all: GatewayBackend[] = [];
  // Without its address it is behind the host's handler, if anywhere.
  if (options.a1111 || !options.forward) {
    all.push(
      create(
        automatic1111,
        options.a1111,
        new JobQueue(concurrency, { maxWaiting: maxQueue, onMoved: onQueueMoved }),
      ),
    );
  }
  // Without its address its jobs could not be followed. It queues by itself.
  if (options.comfyui) {
    all.push(create(comfyui, options.comfyui, new JobQueue(Number.POSITIVE_INFINITY)));
  }
  return new GatewayBackends(all);
}
