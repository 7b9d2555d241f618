import { encodePng, type Picture } from '../demo-shared/picture/png.js';
import type { PythonValue } from '../demo-shared/python-json.js';
import { plainPreview, previewWithMetadata } from './binary-preview.js';
import type { StatusMessage } from './prompt-history.js';
import type { QueuedPrompt } from './prompt-queue.js';
import type { SocketHub } from './socket-hub.js';

export type PreviewRule = 'none' | 'as-asked' | 'with-metadata';

interface NodeProgress {
  value: number;
  max: number;
  state: 'running' | 'finished' | 'error';
}

type Data = { readonly [key: string]: PythonValue };

/**
 * Tells the sockets how one prompt gets on. Without a client id its messages go nowhere, but its progress and previews
 * go to everybody.
 */
export class PromptEvents {
  /** What the history shows of it. */
  readonly messages: StatusMessage[] = [];
  readonly #promptId: string;
  readonly #clientId: string | undefined;
  readonly #hub: SocketHub;
  readonly #previews: PreviewRule;
  readonly #progress = new Map<string, NodeProgress>();

  constructor({ id, execution }: QueuedPrompt, hub: SocketHub, previews: PreviewRule) {
    this.#promptId = id;
    this.#clientId = execution.clientId;
    this.#hub = hub;
    this.#previews = previews;
  }

  /** A message that the history keeps. The one about an interrupt goes to every socket. */
  message(type: string, data: Data = {}): void {
    const whole = { prompt_id: this.#promptId, ...data, timestamp: BigInt(Date.now()) };
    this.messages.push([type, whole]);
    if (type === 'execution_interrupted') this.#hub.send(type, whole);
    else this.#toClient(type, whole);
  }

  executing(node: string | null): void {
    const display = node === null ? {} : { display_node: node };
    this.#toClient('executing', { node, ...display, prompt_id: this.#promptId });
  }

  executed(node: string, output: PythonValue): void {
    this.#toClient('executed', { node, display_node: node, output, prompt_id: this.#promptId });
  }

  nodeStarted(node: string): void {
    this.#progress.set(node, { value: 0, max: 1, state: 'running' });
    this.#sendProgressState();
  }

  nodeFinished(node: string): void {
    const { max = 1 } = this.#progress.get(node) ?? {};
    this.#progress.set(node, { value: max, max, state: 'finished' });
    this.#sendProgressState();
  }

  nodeFailed(node: string): void {
    const { value = 0, max = 1 } = this.#progress.get(node) ?? {};
    this.#progress.set(node, { value, max, state: 'error' });
  }

  async progress(node: string, value: number, max: number, draw: () => Picture): Promise<void> {
    this.#progress.set(node, { value, max, state: 'running' });
    this.#sendProgressState();
    const data = { value: BigInt(value), max: BigInt(max), prompt_id: this.#promptId, node };
    this.#hub.send('progress', data, this.#clientId);
    if (this.#previews === 'none' || !this.#hub.hasReceivers(this.#clientId)) return;
    const png = await encodePng(draw());
    this.#hub.sendBinary(
      (takesMetadata) =>
        takesMetadata || this.#previews === 'with-metadata'
          ? previewWithMetadata(png, this.#promptId, node)
          : plainPreview(png),
      this.#clientId,
    );
  }

  #sendProgressState(): void {
    const nodes = [...this.#progress].map(([id, { value, max, state }]): [string, PythonValue] => [
      id,
      {
        value: BigInt(value),
        max: BigInt(max),
        state,
        node_id: id,
        prompt_id: this.#promptId,
        display_node_id: id,
        parent_node_id: null,
        real_node_id: id,
      },
    ]);
    this.#hub.send('progress_state', { prompt_id: this.#promptId, nodes: new Map(nodes) }, this.#clientId);
  }

  #toClient(type: string, data: Data): void {
    if (this.#clientId !== undefined) this.#hub.send(type, data, this.#clientId);
  }
}
