import { join } from 'node:path';
import { replaceFile } from './disk/durable-fs.js';
import { putAside, readJsonObject } from './disk/json-object-file.js';
import { JobTrackerError, messageOf } from './errors.js';
import type { Logger } from './logger.js';
import { boolean, DAY_MS, daysMs, invalid, MAX_RETENTION_DAYS, unexpected } from './option-checks.js';
import { isObject, kindOf } from './value-kind.js';

const KEYS = ['tracking_enabled', 'retention_days'] as const;
const VARIABLES = { tracking_enabled: 'TRACKER_ENABLED', retention_days: 'TRACKER_RETENTION' } as const;
/** Nobody has that much to set. */
const MAX_FILE_BYTES = 64 * 1024;

export type SettingKey = (typeof KEYS)[number];

/** A setting, and whether the environment has decided it for good. */
export interface GivenSetting<T> {
  readonly value: T;
  readonly fixed: boolean;
}

/** The settings as people see and change them. The names are the A1111 extension's. */
export interface SettingsDescription {
  readonly tracking_enabled: boolean;
  /** 0: for ever. */
  readonly retention_days: number;
  readonly fixed_by_environment: readonly SettingKey[];
  /** What is wrong with config.json, while it is. */
  readonly problem?: string;
}

export interface SettingsOptions {
  /** Holds config.json. Made with the first change where it is missing. */
  readonly folder: string;
  readonly enabled: GivenSetting<boolean>;
  /** 0: for ever. */
  readonly retentionMs: GivenSetting<number>;
  readonly logger: Logger;
}

/** What config.json says. */
interface Config {
  /** All that is in the file; undefined where it cannot be understood. */
  readonly members: Readonly<Record<string, unknown>> | undefined;
  readonly enabled: boolean | undefined;
  readonly retentionMs: number | undefined;
  readonly problem: string | undefined;
}

/**
 * The settings that can be changed at run time. What the environment says goes before `config.json`, which goes before
 * the options. A config.json that makes no sense never makes jobs go: they are kept for ever until it is mended.
 */
export class Settings {
  readonly #path: string;
  readonly #enabled: GivenSetting<boolean>;
  readonly #retentionMs: GivenSetting<number>;
  readonly #logger: Logger;
  #config: Config = { members: {}, enabled: undefined, retentionMs: undefined, problem: undefined };
  #last: Promise<unknown> = Promise.resolve();

  constructor({ folder, enabled, retentionMs, logger }: SettingsOptions) {
    this.#path = join(folder, 'config.json');
    this.#enabled = enabled;
    this.#retentionMs = retentionMs;
    this.#logger = logger;
  }

  get trackingEnabled(): boolean {
    const { value, fixed } = this.#enabled;
    return fixed ? value : (this.#config.enabled ?? value);
  }

  /** How long jobs are kept once they have ended. 0: for ever. */
  get retentionMs(): number {
    const { value, fixed } = this.#retentionMs;
    return fixed ? value : (this.#config.retentionMs ?? value);
  }

  /** What is wrong with config.json, and what follows; undefined while nothing is. */
  get problem(): string | undefined {
    return this.#config.problem;
  }

  /** Reads config.json. Never rejects: what is wrong with it is logged, and is the `problem`. */
  open(): Promise<void> {
    return this.#inOrder(async () => this.#adopt(await this.#read()));
  }

  describe(): SettingsDescription {
    return {
      tracking_enabled: this.trackingEnabled,
      retention_days: this.retentionMs / DAY_MS,
      fixed_by_environment: KEYS.filter((key) => this.#isFixed(key)),
      ...(this.problem !== undefined && { problem: this.problem }),
    };
  }

  /**
   * Changes settings, durably: `{tracking_enabled?: boolean, retention_days?: number}`. All of it counts once this has
   * resolved, and nothing of it where it rejects, with `INVALID_PARAMETER`, `FIXED_BY_ENVIRONMENT` or `NOT_STORED`.
   * What else is in config.json stays there; one that cannot be understood is put aside.
   */
  async change(patch: unknown): Promise<void> {
    const changes = checkedPatch(patch);
    for (const key of KEYS) {
      if (changes[key] === undefined || !this.#isFixed(key)) continue;
      const message = `Expected \`${key}\` to be left out, because ${VARIABLES[key]} has decided it, got ${changes[key]}`;
      throw new JobTrackerError('FIXED_BY_ENVIRONMENT', message);
    }
    await this.#inOrder(async () => {
      // Somebody may have edited it meanwhile.
      const { members } = await this.#read();
      const changed = { ...(members ?? this.#deviations()), ...changes };
      await this.#write(changed, members === undefined);
      this.#adopt(this.#understand(changed));
    });
  }

  #isFixed(key: SettingKey): boolean {
    return (key === 'tracking_enabled' ? this.#enabled : this.#retentionMs).fixed;
  }

  /** What is in force and would no longer be if config.json said nothing: a change is to change nothing else. */
  #deviations(): Record<string, unknown> {
    const { trackingEnabled, retentionMs } = this;
    return {
      ...(trackingEnabled !== this.#enabled.value && { tracking_enabled: trackingEnabled }),
      ...(retentionMs !== this.#retentionMs.value && { retention_days: retentionMs / DAY_MS }),
    };
  }

  #adopt(config: Config): void {
    if (config.problem !== undefined && config.problem !== this.problem) this.#logger.error(config.problem);
    this.#config = config;
  }

  async #read(): Promise<Config> {
    try {
      return this.#understand((await readJsonObject(this.#path, MAX_FILE_BYTES)) ?? {});
    } catch (error) {
      const problem = `${messageOf(error)}: ${this.#consequences(KEYS)}`;
      return { members: undefined, enabled: undefined, retentionMs: 0, problem };
    }
  }

  #understand(members: Readonly<Record<string, unknown>>): Config {
    const problems: string[] = [];
    const read = <T>(key: SettingKey, check: (name: string, value: unknown) => T, instead: T | undefined) => {
      if (!Object.hasOwn(members, key)) return undefined;
      try {
        return check(key, members[key]);
      } catch (error) {
        problems.push(`${this.#path}: ${messageOf(error)}: ${this.#consequences([key])}`);
        return instead;
      }
    };
    const enabled = read('tracking_enabled', boolean, undefined);
    const retentionMs = read('retention_days', days, 0);
    return { members, enabled, retentionMs, problem: problems.length > 0 ? problems.join('; ') : undefined };
  }

  /** What follows from these keys making no sense. */
  #consequences(keys: readonly SettingKey[]): string {
    const instead = {
      tracking_enabled: `tracking is ${this.#enabled.value ? 'on' : 'off'}, as the options say`,
      retention_days: 'jobs are kept for ever',
    };
    const all = keys.map((key) => (this.#isFixed(key) ? `${VARIABLES[key]} counts` : instead[key]));
    return `${all.join(' and ')} until that is mended`;
  }

  async #write(members: Record<string, unknown>, isBroken: boolean): Promise<void> {
    try {
      const text = `${JSON.stringify(members, null, 2)}\n`;
      await replaceFile(this.#path, text, isBroken ? () => this.#putAside() : undefined);
    } catch (error) {
      const message = `The settings could not be written to ${this.#path}: ${messageOf(error)}`;
      throw new JobTrackerError('NOT_STORED', message, { cause: error });
    }
  }

  async #putAside(): Promise<void> {
    const aside = await putAside(this.#path);
    this.#logger.warn(`${this.#path} could not be understood and is now ${aside}`);
  }

  #inOrder<T>(step: () => Promise<T>): Promise<T> {
    const result = this.#last.then(step);
    // Whoever asked for this step hears of its failure.
    this.#last = result.catch(() => {});
    return result;
  }
}

function checkedPatch(patch: unknown): Partial<Record<SettingKey, boolean | number>> {
  const expected = `an object with ${KEYS.join(' or ')}, or both`;
  if (!isObject(patch)) throw refused(unexpected('settings', expected, kindOf(patch)));
  const keys = Object.keys(patch);
  const stranger = keys.find((key) => !KEYS.includes(key as SettingKey));
  if (stranger !== undefined || keys.length === 0) {
    const got =
      stranger === undefined ? 'an empty one' : `one with ${JSON.stringify(stranger.slice(0, 100))}`;
    throw refused(unexpected('settings', expected, got));
  }
  try {
    if ('tracking_enabled' in patch) boolean('tracking_enabled', patch.tracking_enabled);
    if ('retention_days' in patch) days('retention_days', patch.retention_days);
  } catch (error) {
    throw refused(error as JobTrackerError);
  }
  return { ...patch };
}

function refused(error: JobTrackerError): JobTrackerError {
  return new JobTrackerError('INVALID_PARAMETER', error.message);
}

/** A number of days in milliseconds. */
function days(name: string, value: unknown): number {
  const timeMs = daysMs(value);
  if (timeMs === undefined)
    throw invalid(name, `a number of days from 0 (keep for ever) to ${MAX_RETENTION_DAYS}`, value);
  return timeMs;
}
