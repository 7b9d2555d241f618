const MAX_NAME_LENGTH = 256;
const MAX_PASSWORD_LENGTH = 1024;

/** Control characters, and the sign that stands where bytes were no UTF-8. */
const NOT_IN_NAMES = /[\p{Cc}\uFFFD]/u;

/** What keeps a text from being anybody's name, as the end of a sentence; undefined where it may be one. */
export function nameFault(name: string): string | undefined {
  if (name.length > MAX_NAME_LENGTH) return `a name of more than ${MAX_NAME_LENGTH} characters`;
  return NOT_IN_NAMES.test(name) ? 'a name with a control character, or not in UTF-8' : undefined;
}

/** The same for a password. HTTP Basic can pass on no line break (as the `basic-auth` package reads it). */
export function passwordFault(password: string): string | undefined {
  if (password.length > MAX_PASSWORD_LENGTH) {
    return `a password of more than ${MAX_PASSWORD_LENGTH} characters`;
  }
  return /[\n\r\u2028\u2029]/.test(password) ? 'a password with a line break' : undefined;
}
