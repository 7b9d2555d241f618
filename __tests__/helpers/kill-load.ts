import { setTimeout as sleep } from 'node:timers/promises';
import { post } from './client.js';
import { hashOf, type KillLedger, type LedgerEntry } from './kill-ledger.js';
import {
  answerWith,
  bigPng,
  type ScriptedBackend,
  sendAnswer,
  startScriptedBackend,
} from './scripted-backend.js';
import type { SeededRandom } from './seeded-random.js';

/** The end of an answer is held so long at most. */
const HOLD_MS = 1_000;
/** On a busy machine a round has to come to an end as well. */
const PATIENCE_MS = 3_000;
/** So many bytes of a large answer come at a time. */
const PIECE_BYTES = 100_000;

/** What was sent in answer to a prompt, and since when it was on its way to its end. */
interface Sent {
  readonly answer: Buffer;
  readonly endedAt: number;
}

/** A gateway process from its start to its violent end. */
export interface GatewayLife {
  readonly name: string;
  readonly url: string;
  /** True once it is about to be ended. */
  isOver: boolean;
  /** Its disk outlives it: what it says in its last moment holds as well. */
  readonly speaksTheTruthToItsEnd: boolean;
}

/** Clients and a backend that never fails: whatever goes wrong between them is the gateway's. */
export class KillLoad {
  readonly #ledger: KillLedger;
  readonly #random: SeededRandom;
  readonly #sent = new Map<string, Sent>();
  #backend: ScriptedBackend | undefined;

  constructor(ledger: KillLedger, random: SeededRandom) {
    this.#ledger = ledger;
    this.#random = random;
  }

  /** Resolves to the backend's address. */
  async open(): Promise<string> {
    this.#backend = await startScriptedBackend(async (res, body) => {
      const { prompt } = JSON.parse(body.toString()) as { prompt: string };
      const entry = this.#ledger.entries.get(prompt) as LedgerEntry;
      entry.handedOn += 1;
      const images = Array.from({ length: this.#random.integer(1, 3) }, () => bigPng(this.#imageBytes()));
      entry.images = images.map(hashOf);
      const answer = answerWith(images);
      if (this.#random.chance(0.3)) await sleep(this.#random.integer(1, 250));
      this.#sent.set(prompt, { answer, endedAt: performance.now() });
      if (this.#random.chance(0.5)) {
        sendAnswer(res, answer);
        return;
      }
      res.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': answer.length });
      for (let at = 0; at < answer.length && !res.destroyed; at += PIECE_BYTES) {
        res.write(answer.subarray(at, at + PIECE_BYTES));
        await sleep(this.#random.integer(0, 10));
      }
      this.#sent.set(prompt, { answer, endedAt: performance.now() });
      res.end();
    });
    return this.#backend.url;
  }

  async close(): Promise<void> {
    await this.#backend?.close();
  }

  /** So many clients that generate one picture after the other. Resolves once all have lost their gateway. */
  async run(life: GatewayLife, clients: number): Promise<void> {
    const client = async (number: number) => {
      for (let turn = 0; !life.isOver; turn += 1)
        await this.#generate(life, `${life.name}-${number}-${turn}`);
    };
    await Promise.all(Array.from({ length: clients }, (_, number) => client(number)));
    this.#sent.clear();
  }

  /** Resolves once so many clients more have their whole answer, or have waited long enough for it. */
  async answered(count: number): Promise<void> {
    const { counts } = this.#ledger;
    const wanted = counts.whole + count;
    const deadline = performance.now() + PATIENCE_MS;
    while (counts.whole < wanted && performance.now() < deadline) await sleep(1);
  }

  async #generate(life: GatewayLife, prompt: string): Promise<void> {
    const { counts } = this.#ledger;
    const isAsync = this.#random.chance(0.15);
    const entry = this.#ledger.add(prompt, isAsync);
    const ballast = this.#random.chance(0.1) ? 'x'.repeat(1_500_000) : '';
    const request = post(
      `${life.url}/sdapi/v1/txt2img`,
      { prompt, ballast },
      { headers: isAsync ? { Prefer: 'respond-async' } : {} },
    );
    try {
      const { headers } = await request.head;
      const id = headers['x-job-id'] as string | undefined;
      if (id === undefined) counts.untracked += 1;
      else {
        entry.id = id;
        counts.ids += 1;
      }
      const { status, body } = await request.answer;
      // A gateway that has lost its disk and not yet its life goes on, and keeps nothing.
      if (life.isOver && !life.speaksTheTruthToItsEnd) return;
      const now = performance.now();
      if (status === 202) return;
      this.#ledger.expect(
        status === 200,
        () => `${prompt} was answered with ${status}: ${body.subarray(0, 300)}`,
      );
      const sent = this.#sent.get(prompt);
      counts.whole += 1;
      this.#ledger.expect(
        sent !== undefined && body.subarray(body.indexOf('{')).equals(sent.answer),
        () => `The whole answer to ${prompt} is not what the backend said`,
      );
      if (sent && id !== undefined && now - sent.endedAt < HOLD_MS) {
        entry.surelyComplete = true;
        counts.surelyComplete += 1;
      }
    } catch {
      // The gateway is gone, or not there yet.
      counts.cut += 1;
      if (!life.isOver) await sleep(5);
    } finally {
      this.#sent.delete(prompt);
    }
  }

  #imageBytes(): number {
    if (this.#random.chance(0.04)) return this.#random.integer(500_000, 1_500_000);
    return this.#random.integer(100, 12_000);
  }
}
