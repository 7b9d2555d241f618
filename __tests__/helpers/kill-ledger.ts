import { createHash } from 'node:crypto';

/** What is known outside of the gateway about one generation request, its prompt being its name. */
export interface LedgerEntry {
  readonly prompt: string;
  /** The client asked not to wait for the answer. */
  readonly isAsync: boolean;
  /** How often the backend got it. */
  handedOn: number;
  /** The SHA-256 of each image that the backend made of it. */
  images: string[];
  /** The id that the client has seen. */
  id?: string;
  /** The client has the whole answer, and had it before the hold of its end can have been given up. */
  surelyComplete?: boolean;
}

/** All requests of all lives of a gateway. */
export class KillLedger {
  readonly entries = new Map<string, LedgerEntry>();
  /** What must not be, in sentences. */
  readonly violations: string[] = [];
  readonly counts = { requests: 0, ids: 0, whole: 0, surelyComplete: 0, untracked: 0, cut: 0 };

  add(prompt: string, isAsync: boolean): LedgerEntry {
    const entry: LedgerEntry = { prompt, isAsync, handedOn: 0, images: [] };
    this.entries.set(prompt, entry);
    this.counts.requests += 1;
    return entry;
  }

  expect(holds: boolean, violation: () => string): void {
    if (!holds) this.violations.push(violation());
  }
}

export function hashOf(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}
