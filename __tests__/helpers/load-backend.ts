import { once } from 'node:events';
import { createServer, type Server, type ServerResponse } from 'node:http';
import { buffer } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { type PlannedRequest, planAnswer } from './load-plan.js';

/** By this header the backend knows which request of the script it has. */
export const NUMBER_HEADER = 'x-load-number';

/** So long an answer may take from one process to the other. */
const UNDER_WAY_MS = 300;

/** A backend that does with each request what the script says. */
export class LoadBackend {
  readonly #plan: readonly PlannedRequest[];
  readonly #seed: number;
  #server: Server | undefined;
  #port = 0;
  /** How often each request has come whole. */
  readonly received = new Map<number, number>();
  /** Requests whose bodies were not what the client had sent. */
  readonly misread: number[] = [];
  /** Requests that it had when it died: nobody can say how far their answers got. */
  readonly spoilt = new Set<number>();
  /** Requests that it has, or whose answers may still be under way. */
  readonly #answering = new Set<number>();

  constructor(plan: readonly PlannedRequest[], seed: number) {
    this.#plan = plan;
    this.#seed = seed;
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  /** Listens, at the same address each time. */
  async open(): Promise<void> {
    this.#server = createServer(async (req, res) => {
      try {
        const body = await buffer(req);
        const request = this.#plan[Number(req.headers[NUMBER_HEADER])] as PlannedRequest;
        const { number } = request;
        this.received.set(number, (this.received.get(number) ?? 0) + 1);
        this.#answering.add(number);
        res.once('close', () => setTimeout(() => this.#answering.delete(number), UNDER_WAY_MS));
        // The tracker may add a member of its own at either end, and changes nothing else.
        const own = request.body;
        if (!body.includes(own.subarray(1)) && !body.includes(own.subarray(0, -1))) this.misread.push(number);
        await this.#answer(request, res);
      } catch {
        res.destroy();
      }
    });
    this.#port = await listenBelowEphemeralPorts(this.#server, this.#port);
  }

  /** Refuses connections from now on, and breaks those that there are. */
  async die(): Promise<void> {
    const server = this.#server as Server;
    for (const number of this.#answering) this.spoilt.add(number);
    const closed = once(server, 'close');
    server.close();
    server.closeAllConnections();
    await closed;
  }

  async #answer(request: PlannedRequest, res: ServerResponse): Promise<void> {
    const { backend, delayMs, pieces } = request;
    if (delayMs > 0) await sleep(delayMs);
    if (backend === 'hangs up') {
      res.socket?.resetAndDestroy();
      return;
    }
    const { status, contentType, body } = planAnswer(request, this.#seed);
    const isWhole = backend !== 'cuts its answer';
    const isMeasured = !isWhole || request.number % 2 === 0;
    res.writeHead(status, {
      'Content-Type': contentType,
      ...(isMeasured && { 'Content-Length': body.length }),
    });
    const end = isWhole ? body.length : Math.floor(body.length / 2);
    const step = Math.max(1, Math.ceil(end / pieces));
    for (let at = 0; at < end; at += step) {
      res.write(body.subarray(at, Math.min(end, at + step)));
      if (pieces > 1) await sleep(5);
    }
    if (isWhole) res.end();
    else if (request.number % 3 === 0) res.socket?.resetAndDestroy();
    else res.socket?.end();
  }
}

/** A port that no outgoing connection is given meanwhile: it has to be had again. Resolves to the port. */
async function listenBelowEphemeralPorts(server: Server, port: number): Promise<number> {
  for (;;) {
    const wanted = port || 20_000 + Math.floor(Math.random() * 12_000);
    try {
      server.listen(wanted, '127.0.0.1');
      await once(server, 'listening');
      return wanted;
    } catch (error) {
      if (port !== 0 || (error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error;
    }
  }
}
