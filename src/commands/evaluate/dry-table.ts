/** `zerosearch evaluate --dry-run` with several methods, engines or sets: how many searches, and what they would cost. */
import { checkEngines, type Config } from "../../config/index.ts";
import { formatTable } from "../../log/table.ts";
import { openTest } from "../../run/run-data.ts";
import { money, ofSearches, thousands } from "../../run/priced-line.ts";
import { isPaid } from "../../search/prices.ts";
import { openedAs } from "../../setup/evaluated-engines.ts";
import { openSets } from "../../setup/open-sets.ts";
import { say } from "../program.ts";
import { openMethods, type TableWish } from "./wish.ts";

/** @throws as opening methods and sets does; sets that are not here are fetched, as their questions are what is counted */
export async function dryTable(config: Config, wish: TableWish): Promise<void> {
  const { methods } = await openMethods(wish, config);
  const names = wish.engines ?? [config.evaluation.engine];
  const { subset, limit } = wish;
  const sets = wish.sets === null ? null : await openSets(wish.sets, config, { subset, limit, say });
  const questions = sets === null ? (await openTest(config, say)).length : sets.reduce((sum, set) => sum + set.questions.length, 0);
  const searching = methods.filter(({ searches }) => searches !== false);
  // RAG shows documents once; what a method of one's own does is not known.
  const most = searching.reduce((sum, { name }) => sum + (name === "rag" ? 1 : config.rollout.maxTurns), 0);
  say(`${thousands(questions)} ${questions === 1 ? "question" : "questions"} by ${methods.map(({ name }) => name).join(", ")}`);
  if (searching.length === 0) return;
  checkEngines(config, [...new Set(names.map(openedAs))]);
  const rows = names.map((name) => ({ name, once: questions * searching.length, most: questions * most }));
  const amount = (name: string, searches: number): string => {
    const price = isPaid(name) ? ofSearches(config, name) : null;
    return price === null ? thousands(searches) : `${thousands(searches)} = ${money((searches / 1000) * price.price, price.currency)}`;
  };
  say(
    formatTable(
      [
        { title: "searches by", value: (row: (typeof rows)[number]) => row.name },
        { title: "at one search a rollout", value: (row: (typeof rows)[number]) => amount(row.name, row.once) },
        { title: "at most", value: (row: (typeof rows)[number]) => amount(row.name, row.most) },
      ],
      rows,
    ),
  );
}
