/** Seconds by phase of a step. */
export class PhaseClock {
  #phase: string | null = null;
  #since = 0;
  #seconds: Record<string, number> = {};

  /** Ends the phase before and starts this one. */
  start(phase: string): void {
    this.stop();
    this.#phase = phase;
    this.#since = performance.now();
  }

  stop(): void {
    if (this.#phase !== null) this.#seconds[this.#phase] = (this.#seconds[this.#phase] ?? 0) + (performance.now() - this.#since) / 1000;
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
