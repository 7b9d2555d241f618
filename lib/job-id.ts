import { customAlphabet } from 'nanoid';

const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789';

/** Makes a job id: 8 characters of A-Z, a-z, 0-9. */
export const generateJobId: () => string = customAlphabet(ALPHABET, 8);

/** True for what can be a job id. The A1111 extension makes ids of 10 characters when it finds no free one of 8. */
export function isJobId(text: string): boolean {
  return /^[A-Za-z0-9]{8,10}$/.test(text);
}
