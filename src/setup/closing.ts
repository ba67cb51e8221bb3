/** What has been opened so far, to be closed in reverse: at the end, or when opening the rest fails. */
export class Closing {
  readonly #closers: (() => unknown)[] = [];

  /** Remembers how to close `thing`, and returns it. */
  add<T>(thing: T, close: (thing: T) => unknown): T {
    this.#closers.push(() => close(thing));
    return thing;
  }

  /** Closes everything, also where some of it fails; a second call does nothing. @throws what failed last. */
  async close(): Promise<void> {
    const close = this.#closers.pop();
    if (close === undefined) return;
    try {
      await close();
    } finally {
      await this.close();
    }
  }

  /** Closes everything after `error`. @throws that error, whatever closing throws. */
  async failed(error: unknown): Promise<never> {
    await this.close().catch(() => undefined);
    throw error;
  }

  /** Does `work`, then closes everything. @throws what `work` throws, else what closing does. */
  async after<T>(work: () => Promise<T>): Promise<T> {
    const result = await work().catch((error: unknown) => this.failed(error));
    await this.close();
    return result;
  }
}
