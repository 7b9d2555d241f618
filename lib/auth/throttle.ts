import { addressGroup } from './address-group.js';

/** Addresses that are remembered at a time. */
const MAX_WINDOWS = 10_000;

export interface ThrottleOptions {
  /** So many events within a window are borne; then the address is blocked until the window ends. */
  readonly limit: number;
  /** A window begins with its first event. */
  readonly windowMs: number;
  /** The time in milliseconds. Default: `Date.now`. */
  readonly now?: () => number;
  /** What counts as one caller. Default: an IPv4 address, or the /64 of an IPv6 one. */
  readonly groupOf?: (address: string | undefined) => string;
}

interface Window {
  readonly startMs: number;
  count: number;
  /** What has been counted by name. */
  known: Set<string> | undefined;
}

/**
 * Counts events per caller: an IPv4 address or the /64 of an IPv6 address. What is no address counts as one caller.
 *
 * It remembers 10,000 callers at most; the one whose window began first is forgotten first.
 */
export class Throttle {
  readonly limit: number;
  readonly windowMs: number;
  readonly #now: () => number;
  readonly #groupOf: (address: string | undefined) => string;
  /** In the order in which they began. */
  readonly #windows = new Map<string, Window>();
  /** Goes on from where it stands: a new iterator each time would pass all the gaps that were left at the front. */
  readonly #oldest = this.#windows.keys();

  constructor({ limit, windowMs, now = () => Date.now(), groupOf = addressGroup }: ThrottleOptions) {
    this.#groupOf = groupOf;
    this.limit = limit;
    this.windowMs = windowMs;
    this.#now = now;
  }

  /** How long an address is blocked from now, in milliseconds. 0: it is not. */
  blockedFor(address: string | undefined): number {
    const window = this.#windowOf(this.#groupOf(address));
    if (!window || window.count < this.limit) return 0;
    return Math.max(0, window.startMs + this.windowMs - this.#now());
  }

  /** How many more events are borne from an address now. */
  remaining(address: string | undefined): number {
    return this.limit - (this.#windowOf(this.#groupOf(address))?.count ?? 0);
  }

  /** @param event what happened: the same again within one window counts once. Absent: it always counts. */
  count(address: string | undefined, event?: string): void {
    const group = this.#groupOf(address);
    const window = this.#windowOf(group) ?? this.#begin(group);
    if (window.count >= this.limit) return;
    if (event !== undefined) {
      window.known ??= new Set();
      if (window.known.has(event)) return;
      window.known.add(event);
    }
    window.count += 1;
  }

  #windowOf(group: string): Window | undefined {
    const window = this.#windows.get(group);
    if (!window) return undefined;
    const ageMs = this.#now() - window.startMs;
    // A clock that was set back must not block anybody for longer than a window.
    return ageMs >= 0 && ageMs < this.windowMs ? window : undefined;
  }

  #begin(group: string): Window {
    // Anew, so that it stands last.
    this.#windows.delete(group);
    if (this.#windows.size >= MAX_WINDOWS) this.#windows.delete(this.#oldest.next().value as string);
    const window: Window = { startMs: this.#now(), count: 0, known: undefined };
    this.#windows.set(group, window);
    return window;
  }
}
