/** No search engine, for methods that answer without one. */
import { ConfigError } from "../util/errors.ts";
import type { SearchEngine } from "./search-engine.ts";

/** An engine that may be held but not asked. */
export const noSearch: SearchEngine = {
  name: "none",
  search: (request) =>
    Promise.reject(
      new ConfigError({
        where: "search",
        what: `no search engine is configured, but a query was made: ${JSON.stringify(request.query)}`,
        hint: "Give the method a search engine, or let it do 0 searches (rollout.maxTurns = 0).",
      }),
    ),
  close: () => Promise.resolve(),
};
