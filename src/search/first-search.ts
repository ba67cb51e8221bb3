/** One engine for the first search of a rollout and another for all later ones: how a policy takes a bad start. */
import { ask, type Engine, type SearchResult, type Simulator, type SimulatorRequest } from "./search-engine.ts";

/** A simulator, so that those of its engines that are get what they are told; the others are not told it. */
export class FirstSearch implements Simulator {
  readonly name: string;
  readonly #first: Engine;
  readonly #later: Engine;

  constructor(first: Engine, later: Engine) {
    this.name = `${first.name}, then ${later.name}`;
    this.#first = first;
    this.#later = later;
  }

  simulate(request: SimulatorRequest): Promise<SearchResult> {
    return ask(request.turn === 0 ? this.#first : this.#later, request);
  }

  /** Of later searches. */
  noiseProbability(step: number): number {
    return "simulate" in this.#later ? this.#later.noiseProbability(step) : 0;
  }

  async close(): Promise<void> {
    await this.#first.close();
    await this.#later.close();
  }
}
