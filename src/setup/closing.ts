/** What has been opened so far, to be closed in reverse: at the end, or when opening the rest fails. */
export class Closing {
  readonly #closers: (() => unknown)[] = [];

  /** Remembers how to close `thing`, and returns it. */
  add<T>(thing: T, close: (thing: T) => unknown): T {
    this.#closers.push(() => close(thing));
    return thing;
  }

  /** Closes everything; a second call does nothing. */
  async close(): Promise<void> {
    for (let close = this.#closers.pop(); close !== undefined; close = this.#closers.pop()) await close();
  }
}
