/** Documents as an agent meets them that fetches pages: with ids like those of the corpus, some of them longer than what a search shows of them. */
import type { Random } from "../random.ts";
import type { Hop } from "./documents.ts";
import { relations } from "./relations.ts";
import type { SearchPlanner } from "./search-plan.ts";
import { containsAny } from "./words.ts";

interface Told {
  readonly id: string;
  readonly text: string;
}

/** Characters that are surely more than a search shows of a page. */
const longPageLength = 330;

/** An id like those of the corpus: a country, a relation, a number. */
export function inventedId(random: Random): string {
  const letters = Array.from({ length: 3 }, () => String.fromCharCode(65 + random.below(26))).join("");
  return `${letters}-${random.pick(relations).key}-0`;
}

/** The documents with what tells the hop's value at the end of a long page, and that page's address. */
export function longPage(
  documents: readonly Told[],
  hop: Hop,
  { documents: maker }: Pick<SearchPlanner, "documents">,
): { readonly documents: Told[]; readonly page: string } {
  const tells = documents.filter(({ text }) => text.includes(hop.value));
  const gold = tells[0] as Told;
  let before = "";
  while (before.length < longPageLength)
    before += `${maker.noisy(hop, { foreign: 1, sameRelation: 0, sameCountry: 0, mixed: 0 }).join(" ")} `;
  const page = { id: gold.id, text: before + gold.text };
  // No other document tells it.
  const others = documents.filter((one) => one !== gold && !containsAny(one.text, [hop.value]));
  return { documents: [page, ...others], page: gold.id };
}
