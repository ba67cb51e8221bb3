/** Seconds by phase of a step. */
import type { Clock } from "./progress.ts";

/** Milliseconds that only ever rise. */
export const steadyClock: Clock = () => performance.now();

export class PhaseClock {
  readonly #now: Clock;
  #phase: string | null = null;
  #since = 0;
  #seconds: Record<string, number> = {};

  /** @internal */
  constructor(now: Clock = steadyClock) {
    this.#now = now;
  }

  /** Ends the phase before and starts this one. */
  start(phase: string): void {
    this.stop();
    this.#phase = phase;
    this.#since = this.#now();
  }

  stop(): void {
    if (this.#phase !== null) this.#seconds[this.#phase] = (this.#seconds[this.#phase] ?? 0) + (this.#now() - this.#since) / 1000;
    this.#phase = null;
  }

  /** Seconds since the last call, by phase. */
  take(): Readonly<Record<string, number>> {
    this.stop();
    const taken = this.#seconds;
    this.#seconds = {};
    return taken;
  }
}
