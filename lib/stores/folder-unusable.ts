import { JobTrackerError, messageOf, systemCodeOf } from '../errors.js';

const REASONS: Readonly<Record<string, string>> = {
  EACCES: 'this process has no right to do that',
  EPERM: 'the system does not allow that',
  EROFS: 'its filesystem is read-only',
  EEXIST: 'there is a file of that name',
  ENOTDIR: 'a part of its path is a file',
};

/** The error for a folder that the system does not let us use. */
export function folderUnusable(folder: string, cause: unknown): JobTrackerError {
  if (cause instanceof JobTrackerError) return cause;
  const code = systemCodeOf(cause) ?? '';
  const reason = REASONS[code];
  // The system's own message may name a path that is ours alone and another one each time.
  const because = reason === undefined ? messageOf(cause) : `${reason} (${code})`;
  return new JobTrackerError(
    'FOLDER_UNUSABLE',
    `Expected ${folder} to be a folder that can be created, read and written, but ${because}.`,
    { cause },
  );
}
