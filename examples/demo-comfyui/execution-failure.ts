/** Somebody asked for the end of what runs. */
export class Interrupted extends Error {
  override readonly name = 'Interrupted';
}

/** A node failed; told as ComfyUI tells an exception of Python. */
export class NodeFailure extends Error {
  override readonly name = 'NodeFailure';
  readonly exceptionType: string;

  constructor(exceptionType: string, message: string) {
    super(message);
    this.exceptionType = exceptionType;
  }
}
