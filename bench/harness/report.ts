import { type Spread, spreadOf } from './statistics.js';

/** What an issue asks of a number. */
export interface Target {
  readonly is: 'at least' | 'at most';
  readonly value: number;
}

interface Line {
  readonly what: string;
  readonly spread: Spread;
  readonly unit: string;
  readonly target: Target | undefined;
}

/** Collects what was measured and prints it: minimum, median and maximum of the rounds, and whether the median is enough. */
export class Report {
  readonly #lines: Line[] = [];

  /** A number of its own, or a ratio to a peer (no unit). One value for each round. */
  add(
    what: string,
    values: readonly number[],
    { unit = '', target }: { unit?: string; target?: Target } = {},
  ) {
    const line = { what, spread: spreadOf(values), unit, target };
    this.#lines.push(line);
    console.log(textOf(line));
  }

  /** A sentence between the numbers. */
  say(text: string): void {
    console.log(text);
  }

  /** How many targets were missed. */
  get missed(): number {
    return this.#lines.filter((line) => line.target && !isMet(line.spread, line.target)).length;
  }

  get targets(): number {
    return this.#lines.filter((line) => line.target).length;
  }
}

function textOf({ what, spread, unit, target }: Line): string {
  const { min, median, max } = spread;
  const numbers = [min, median, max].map((value) => digits(value).padStart(8)).join(' ');
  const verdict = target
    ? `${target.is} ${target.value}${unit && ` ${unit}`}: ${isMet(spread, target) ? 'reached' : 'MISSED'}`
    : '';
  return `  ${what.padEnd(58)} ${numbers} ${unit.padEnd(8)} ${verdict}`.trimEnd();
}

function isMet({ median }: Spread, { is, value }: Target): boolean {
  return is === 'at least' ? median >= value : median <= value;
}

function digits(value: number): string {
  if (!Number.isFinite(value)) return String(value);
  if (Math.abs(value) >= 100) return value.toFixed(0);
  return value.toFixed(Math.abs(value) >= 10 ? 1 : 2);
}
