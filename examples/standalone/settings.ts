/** What the environment says, checked. */
export interface Settings {
  readonly a1111Url: string;
  readonly host: string;
  readonly port: number;
  readonly dir: string | undefined;
  readonly concurrency: number | undefined;
  /** Express's `trust proxy`. */
  readonly trustProxy: boolean | number | string;
  readonly hosts: readonly string[];
  readonly corsOrigins: string[] | '*' | undefined;
}

/** Variables whose function is not there yet. They are refused, because to ignore them could be dangerous. */
const NOT_YET = ['COMFYUI_URL', 'TRACKER_AUTH', 'TRACKER_ADMINS', 'TRACKER_ENABLED', 'TRACKER_RETENTION'];
const LOOPBACK = ['localhost', '127.0.0.1', '::1'];

/**
 * Reads the settings. An empty variable counts as absent.
 *
 * @throws an Error that names the variable, what was expected and what came.
 */
export function readSettings(env: NodeJS.ProcessEnv): Settings {
  const value = (name: string) => env[name]?.trim() || undefined;
  const refused = NOT_YET.find((name) => value(name) !== undefined);
  if (refused)
    throw new Error(`${refused} is set, but this version does not have its function yet: unset it`);

  const host = value('HOST') ?? '127.0.0.1';
  const open = value('TRACKER_OPEN');
  if (open !== undefined && open !== '1' && open !== '0') throw invalid('TRACKER_OPEN', '1 or 0', open);
  if (!LOOPBACK.includes(host) && open !== '1') {
    throw new Error(
      `HOST=${host} lets everybody on the network generate and see all pictures: set TRACKER_OPEN=1 if that is wanted`,
    );
  }
  return {
    a1111Url: value('A1111_URL') ?? 'http://127.0.0.1:7860',
    host,
    port: wholeNumber('PORT', value('PORT'), 0, 65_535) ?? 8080,
    dir: value('TRACKER_DIR'),
    concurrency: wholeNumber('TRACKER_CONCURRENCY', value('TRACKER_CONCURRENCY'), 1, 1_000),
    trustProxy: trustProxy(value('TRACKER_TRUST_PROXY')),
    hosts: list(value('TRACKER_HOSTS')),
    corsOrigins: corsOrigins(value('TRACKER_CORS')),
  };
}

function wholeNumber(
  name: string,
  text: string | undefined,
  least: number,
  most: number,
): number | undefined {
  if (text === undefined) return undefined;
  const number = /^\d{1,6}$/.test(text) ? Number(text) : Number.NaN;
  if (!(number >= least && number <= most))
    throw invalid(name, `a whole number from ${least} to ${most}`, text);
  return number;
}

function trustProxy(text: string | undefined): boolean | number | string {
  if (text === undefined || text === 'false') return false;
  if (text === 'true') return true;
  return /^\d+$/.test(text) ? Number(text) : text;
}

function corsOrigins(text: string | undefined): string[] | '*' | undefined {
  if (text === undefined || text === '*') return text;
  const origins = list(text);
  const wrong = origins.find((origin) => !URL.canParse(origin) || new URL(origin).origin !== origin);
  if (wrong !== undefined)
    throw invalid('TRACKER_CORS', 'origins such as "https://app.example.com", or "*"', wrong);
  return origins;
}

function list(text: string | undefined): string[] {
  return (text ?? '')
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '');
}

function invalid(name: string, expected: string, got: string): Error {
  return new Error(`Expected ${name} to be ${expected}, got "${got}"`);
}
