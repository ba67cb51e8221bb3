/** Many things under way that end together. */
import { abortReason } from "./abort.ts";

/**
 * Ends all that is under way where one fails, or at the signal: each has a signal of its own, as one that many listen to warns about more than ten listeners.
 */
export class Stopping {
  readonly #underWay = new Set<AbortController>();
  #stopped: { readonly reason: unknown } | null = null;

  constructor(signal?: AbortSignal) {
    if (signal?.aborted === true) this.#stop(abortReason(signal));
    signal?.addEventListener("abort", () => this.#stop(abortReason(signal)), { once: true });
  }

  /** @throws what `act` throws; why it was stopped */
  async run<T>(act: (signal: AbortSignal) => Promise<T>): Promise<T> {
    if (this.#stopped !== null) throw this.#stopped.reason;
    const own = new AbortController();
    this.#underWay.add(own);
    try {
      return await act(own.signal);
    } catch (error) {
      this.#stop(error);
      throw error;
    } finally {
      this.#underWay.delete(own);
    }
  }

  #stop(reason: unknown): void {
    if (this.#stopped !== null) return;
    this.#stopped = { reason };
    for (const one of this.#underWay) one.abort(reason);
  }
}
