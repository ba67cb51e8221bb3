/** What search services ask for, as their descriptions in `configs/engines/` state it, and a budget that searches are paid from. */
import { ZeroSearchError } from "../util/errors.ts";
import { readHttpApi } from "./http-api.ts";
import type { SearchEngine, SearchRequest, SearchResult } from "./search-engine.ts";
import { apiNames } from "./settings.ts";

export interface Price {
  readonly perThousand: number;
  /** As in the description: USD, CNY. */
  readonly currency: string;
}

/** The services of this package whose price is known, by name, the cheapest of each currency first. */
export function knownPrices(): { readonly name: string; readonly price: Price }[] {
  return apiNames
    .flatMap((name) => {
      const { price } = readHttpApi(name);
      return price === undefined ? [] : [{ name, price }];
    })
    .sort((a, b) => b.price.currency.localeCompare(a.price.currency) || a.price.perThousand - b.price.perThousand);
}

/** One more search would exceed the budget. */
export class BudgetError extends ZeroSearchError {}

/** Money that searches are paid from. What was spent by an earlier program of the same run counts. */
export class Budget {
  readonly #limit: number;
  readonly #price: Price;
  #searches = 0;

  constructor(limit: number, price: Price) {
    this.#limit = limit;
    this.#price = price;
  }

  /** Goes on after so many paid searches. */
  resume(searches: number): void {
    this.#searches = searches;
  }

  /** An engine whose every search is paid. It ends before a search that would exceed the budget, with a BudgetError. */
  over(engine: SearchEngine): SearchEngine {
    const search = async (request: SearchRequest): Promise<SearchResult> => {
      const { perThousand, currency } = this.#price;
      if (((this.#searches + 1) * perThousand) / 1000 > this.#limit)
        throw new BudgetError({
          where: `search.budget=${this.#limit}`,
          what: `one more search by ${engine.name} would exceed it`,
          expected: `at most ${this.#limit} ${currency} for searches at ${perThousand} ${currency} per 1,000`,
          got: `${this.#searches} searches so far`,
          hint: "A run is saved as after its last step; it goes on with --resume and a larger search.budget.",
        });
      this.#searches++;
      return engine.search(request);
    };
    return { name: engine.name, search, close: () => engine.close() };
  }
}
