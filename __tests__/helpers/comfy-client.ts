import http from 'node:http';
import { WebSocket } from 'ws';

export interface ComfyAnswer {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly body: Buffer;
  readonly text: string;
}

export interface ComfyCall {
  readonly method?: string;
  readonly headers?: http.OutgoingHttpHeaders;
  /** A string or bytes are sent as they are, anything else as JSON. */
  readonly body?: unknown;
}

/** One call over a connection of its own, by Node's plain client, which hides nothing. */
export function callComfy(url: string, { method, headers = {}, body }: ComfyCall = {}): Promise<ComfyAnswer> {
  const bytes =
    body === undefined || typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body);
  return new Promise((resolve, reject) => {
    const options = { method: method ?? (body === undefined ? 'GET' : 'POST'), headers, agent: false };
    const req = http.request(url, options, (res) => {
      const chunks: Buffer[] = [];
      res.on('data', (chunk: Buffer) => chunks.push(chunk));
      res.on('error', reject);
      res.on('end', () => {
        const whole = Buffer.concat(chunks);
        resolve({ status: res.statusCode ?? 0, headers: res.headers, body: whole, text: String(whole) });
      });
    });
    req.on('error', reject);
    req.end(bytes);
  });
}

export interface ComfyMessage {
  readonly type: string;
  // biome-ignore lint/suspicious/noExplicitAny: a message has any shape, and a test looks at it
  readonly data: any;
}

export interface ComfySocket {
  readonly socket: WebSocket;
  /** Binary frames stand among the others as `{ type: 'binary', data: Buffer }`. */
  readonly messages: ComfyMessage[];
  readonly types: () => string[];
  /** Resolves to the first message that fits, come or to come. Rejects where the connection ends without it. */
  until(isWanted: (message: ComfyMessage) => boolean): Promise<ComfyMessage>;
  readonly closed: Promise<void>;
}

/** A client of ComfyUI's WebSocket that has been greeted. */
export async function openComfySocket(url: string, options?: ConstructorParameters<typeof WebSocket>[2]) {
  const socket = new WebSocket(url.replace(/^http/, 'ws'), options);
  const messages: ComfyMessage[] = [];
  const look = new Set<() => void>();
  let isClosed = false;
  const closed = new Promise<void>((resolve) => {
    socket.once('close', () => {
      isClosed = true;
      for (const wake of look) wake();
      resolve();
    });
  });
  socket.on('error', () => {}); // `close` follows
  socket.on('message', (data: Buffer, isBinary) => {
    messages.push(isBinary ? { type: 'binary', data } : JSON.parse(String(data)));
    for (const wake of look) wake();
  });
  const client: ComfySocket = {
    socket,
    messages,
    types: () => messages.map(({ type }) => type),
    closed,
    until: (isWanted) =>
      new Promise((resolve, reject) => {
        const wake = (): void => {
          const found = messages.find(isWanted);
          if (!found && !isClosed) return;
          look.delete(wake);
          if (found) resolve(found);
          else reject(new Error(`closed after ${JSON.stringify(client.types())}`));
        };
        look.add(wake);
        wake();
      }),
  };
  await client.until(({ type }) => type === 'status');
  return client;
}

/** What may differ in the standard workflow. */
export interface WorkflowFields {
  readonly text?: string;
  readonly seed?: number;
  readonly steps?: number;
  readonly batchSize?: number;
  readonly prefix?: string;
}

/** The standard workflow: a checkpoint, two texts, a sampler, and one node that saves, `9`. */
export function standardWorkflow({
  text = 'a lake',
  seed = 7,
  steps = 4,
  batchSize = 1,
  prefix = 'demo',
}: WorkflowFields = {}) {
  return {
    '3': {
      class_type: 'KSampler',
      inputs: {
        seed,
        steps,
        cfg: 8,
        sampler_name: 'euler',
        scheduler: 'normal',
        denoise: 1,
        model: ['4', 0],
        positive: ['6', 0],
        negative: ['7', 0],
        latent_image: ['5', 0],
      },
    },
    '4': { class_type: 'CheckpointLoaderSimple', inputs: { ckpt_name: 'demo.safetensors' } },
    '5': { class_type: 'EmptyLatentImage', inputs: { width: 64, height: 48, batch_size: batchSize } },
    '6': { class_type: 'CLIPTextEncode', inputs: { text, clip: ['4', 1] } },
    '7': { class_type: 'CLIPTextEncode', inputs: { text: 'fog', clip: ['4', 1] } },
    '8': { class_type: 'VAEDecode', inputs: { samples: ['3', 0], vae: ['4', 2] } },
    '9': { class_type: 'SaveImage', inputs: { filename_prefix: prefix, images: ['8', 0] } },
  };
}
