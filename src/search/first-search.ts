/** One engine for the first search of a rollout and another for all later ones: how a policy takes a bad start. */
import type { SearchEngine, SearchRequest, SearchResult } from "./search-engine.ts";

export class FirstSearch implements SearchEngine {
  readonly name: string;
  readonly #first: SearchEngine;
  readonly #later: SearchEngine;

  constructor(first: SearchEngine, later: SearchEngine) {
    this.name = `${first.name}, then ${later.name}`;
    this.#first = first;
    this.#later = later;
  }

  search(request: SearchRequest): Promise<SearchResult> {
    return (request.turn === 0 ? this.#first : this.#later).search(request);
  }

  async close(): Promise<void> {
    await this.#first.close();
    await this.#later.close();
  }
}
