/** What search services ask for, as their descriptions in `configs/engines/` state it, and a budget that searches are paid from. */
import { ZeroSearchError } from "../util/errors.ts";
import { counted } from "../util/plural.ts";
import { readHttpApi } from "./http-api.ts";
import type { SearchEngine, SearchRequest, SearchResult } from "./search-engine.ts";
import { apiNames, type HttpSettings, type McpSettings } from "./settings.ts";

export interface Price {
  readonly perThousand: number;
  /** As in the description: USD, CNY. */
  readonly currency: string;
}

/** Engines whose searches are paid for. */
export const paidEngines = ["http", "mcp"] as const;

export function isPaid(name: string): boolean {
  return (paidEngines as readonly string[]).includes(name);
}

/** What a search by an engine costs, as its settings, or the file they name, say; null where nothing does. */
export function priceOf({ http, mcp, cost }: Priced, name: string): Price | null {
  if (name === "http") return (http.api === null ? undefined : readHttpApi(http.api).price) ?? null;
  return name === "mcp" && mcp.price > 0 ? { perThousand: mcp.price, currency: cost.currency } : null;
}

/** Of a configuration, what prices stand in. */
interface Priced {
  readonly http: Pick<HttpSettings, "api">;
  readonly mcp: Pick<McpSettings, "price">;
  readonly cost: { readonly currency: string };
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

/** What is left to be done where a budget ends, in a run. */
const ofRun = "A run is saved as after its last step; it goes on with --resume and a larger search.budget.";

/** Money that searches are paid from. What was spent by an earlier program of the same run counts. */
export class Budget {
  readonly #limit: number;
  readonly #hint: string;
  #searches = 0;
  /** Of a thousandth of the currency. */
  #spent = 0;

  /** @param hint - what its error says can be done; that of a run unless given */
  constructor(limit: number, hint: string = ofRun) {
    this.#limit = limit;
    this.#hint = hint;
  }

  /** Goes on after so many searches at that price. */
  resume(searches: number, { perThousand }: Price): void {
    this.#searches += searches;
    this.#spent += searches * perThousand;
  }

  /** An engine whose every search is paid. It ends before a search that would exceed the budget, with a BudgetError. */
  over(engine: SearchEngine, { perThousand, currency }: Price): SearchEngine {
    const search = async (request: SearchRequest): Promise<SearchResult> => {
      if ((this.#spent + perThousand) / 1000 > this.#limit)
        throw new BudgetError({
          where: `search.budget=${this.#limit}`,
          what: `one more search by ${engine.name} would exceed it`,
          expected: `at most ${this.#limit} ${currency} for searches at ${perThousand} ${currency} per 1,000`,
          got: `${counted(this.#searches, "search", "searches")} so far`,
          hint: this.#hint,
        });
      this.#searches++;
      this.#spent += perThousand;
      return engine.search(request);
    };
    return { name: engine.name, search, close: () => engine.close() };
  }
}
