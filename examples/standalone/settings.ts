import { isIP } from 'node:net';

/** What the environment says, checked. */
export interface Settings {
  /** Where Automatic1111 runs; undefined where only ComfyUI does. */
  readonly a1111Url: URL | undefined;
  readonly comfyuiUrl: URL | undefined;
  readonly host: string;
  readonly port: number;
  readonly dir: string | undefined;
  /** Whether people have to log in. Who may is read by the tracker itself, like the other `TRACKER_*` variables. */
  readonly hasLogin: boolean;
  /** Express's `trust proxy`. */
  readonly trustProxy: boolean | number | string;
  readonly hosts: readonly string[];
  readonly corsOrigins: string[] | '*' | undefined;
}

/**
 * Reads the settings. An empty variable counts as absent.
 *
 * @throws an Error that names the variable, what was expected and what came.
 */
export function readSettings(env: NodeJS.ProcessEnv): Settings {
  const value = (name: string) => env[name]?.trim() || undefined;
  const host = withoutBrackets(value('HOST') ?? '127.0.0.1');
  const open = value('TRACKER_OPEN');
  if (open !== undefined && open !== '1' && open !== '0') throw invalid('TRACKER_OPEN', '1 or 0', open);
  const hasLogin = value('TRACKER_AUTH') !== undefined;
  if (!isLoopback(host) && !hasLogin && open !== '1') {
    throw new Error(
      `HOST=${host} lets everybody on the network generate and see all pictures: ` +
        'set TRACKER_AUTH=name:password, or TRACKER_OPEN=1 if that is wanted',
    );
  }
  const comfyui = value('COMFYUI_URL');
  const a1111 = value('A1111_URL') ?? (comfyui === undefined ? 'http://127.0.0.1:7860' : undefined);
  return {
    a1111Url: a1111 === undefined ? undefined : backendUrl('A1111_URL', a1111, 7860),
    comfyuiUrl: comfyui === undefined ? undefined : backendUrl('COMFYUI_URL', comfyui, 8188),
    host,
    port: wholeNumber('PORT', value('PORT'), 0, 65_535) ?? 8080,
    dir: value('TRACKER_DIR'),
    hasLogin,
    trustProxy: trustProxy('TRACKER_TRUST_PROXY', value('TRACKER_TRUST_PROXY')),
    hosts: hostNames('TRACKER_HOSTS', value('TRACKER_HOSTS')),
    corsOrigins: corsOrigins('TRACKER_CORS', value('TRACKER_CORS')),
  };
}

function isLoopback(host: string): boolean {
  return (
    host.toLowerCase() === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'))
  );
}

function withoutBrackets(host: string): string {
  return host.replace(/^\[(.*)\]$/, '$1');
}

function backendUrl(name: string, text: string, port: number): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (!url || !/^https?:$/.test(url.protocol) || url.search || url.hash) {
    // It may hold a password.
    throw invalid(name, `an address such as "http://127.0.0.1:${port}"`, text.replace(/\/\/[^/]*@/, '//…@'));
  }
  return url;
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

function trustProxy(name: string, text: string | undefined): boolean | number | string {
  if (text === undefined || text === 'false') return false;
  if (text === 'true') return true;
  if (/^\d{1,3}$/.test(text)) return Number(text);
  const wrong = list(text).find((part) => !isAddressRange(part));
  if (wrong !== undefined) {
    throw invalid(name, 'true, false, a number of hops, or addresses such as "loopback, 10.0.0.0/8"', wrong);
  }
  return list(text).join(', ');
}

function isAddressRange(text: string): boolean {
  if (/^(loopback|linklocal|uniquelocal)$/.test(text)) return true;
  const [, address = '', bits] = /^([^/]*)(?:\/(\d{1,3}))?$/.exec(text) ?? [];
  const version = isIP(address);
  return (
    version !== 0 && (bits === undefined || (Number(bits) >= 1 && Number(bits) <= (version === 4 ? 32 : 128)))
  );
}

function hostNames(name: string, text: string | undefined): string[] {
  const names = list(text).map(withoutBrackets);
  const wrong = names.find((one) => isIP(one) === 0 && !/^[\w.-]+$/.test(one));
  if (wrong !== undefined)
    throw invalid(name, 'names without a port, such as "pictures.lan, 10.0.0.5"', wrong);
  return names;
}

function corsOrigins(name: string, text: string | undefined): string[] | '*' | undefined {
  if (text === undefined || text === '*') return text;
  const origins = list(text);
  const wrong = origins.find((origin) => !URL.canParse(origin) || new URL(origin).origin !== origin);
  if (wrong !== undefined) throw invalid(name, 'origins such as "https://app.example.com", or "*"', wrong);
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
