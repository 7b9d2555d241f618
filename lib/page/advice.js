import { backendTitle } from './format.js';

/**
 * What a job's error means, and what can be done about it.
 *
 * @param {import('./api.js').Job} job a failed one
 * @returns {{ title: string, advice: string }}
 */
export function adviceFor({ backend, error, output_paths: outputs }) {
  const name = backendTitle(backend);
  const kept = outputs.length > 0 ? ' What was whole by then has been kept, and is shown here.' : '';
  switch (error?.code) {
    case 'backend':
      return {
        title: `${name} ${error.status ? `answered with ${error.status}` : 'did not finish'}`,
        advice: backendAdvice(error, name) + kept,
      };
    case 'unreachable':
      return {
        title: `${name} could not be reached`,
        advice: `See whether ${name} runs${backend === 'a1111' ? ', and was started with --api' : ''}; the health in Settings tells when it is back. Then retry.`,
      };
    case 'interrupted':
      return {
        title: 'The gateway was stopped while this ran',
        advice: `Nothing was wrong with the request: retry it.${kept}`,
      };
    case 'cancelled':
      return { title: 'Somebody cancelled this', advice: `Retry it if that was a mistake.${kept}` };
    case 'timeout':
      return {
        title: 'It ran for too long',
        advice: `See whether ${name} hangs. If such jobs take that long, raise the gateway's jobTimeout.${kept}`,
      };
    case 'not_stored':
      return {
        title: 'The pictures were made, but could not be kept',
        advice: `Most often the disk is full: see the disk in Settings and purge old jobs, or make room. Then retry.${kept}`,
      };
    case 'empty':
      return {
        title: `${name} answered without a picture`,
        advice:
          'That happens when a run is interrupted or skipped, or a script keeps its pictures to itself. Retry it.',
      };
    default:
      return { title: 'It failed', advice: `Retry it.${kept}` };
  }
}

/** @param {{ message: string, status?: number }} error @param {string} name */
function backendAdvice({ message, status }, name) {
  if (/out ?of ?memory|OutOfMemory/i.test(message)) {
    return 'It ran out of memory: make the picture smaller or fewer at a time, or close what else uses the graphics card.';
  }
  if (status === 401 || status === 403)
    return `${name} wants a login that the gateway or the client did not give.`;
  if (status === 404) return `${name} does not know the address: was it started with --api?`;
  if (status === 400 || status === 422)
    return 'Something in the request does not suit it; the message says what. Change that and send it again.';
  if (status === undefined)
    return `The connection broke off in the middle of the answer. See whether ${name} still runs, then retry.`;
  return `The log of ${name} tells more. If the request is sound, retry it.`;
}
