/** `zerosearch collect --dry-run`: how many searches there are, and what they would cost. */
import type { Config } from "../../config/index.ts";
import { formatCount } from "../../log/progress.ts";
import { formatTable } from "../../log/table.ts";
import type { Question } from "../../rl/trajectory.ts";
import { engineTitle, money, ofSearches, own, shownPrice, type UnitPrice } from "../../run/priced-line.ts";
import { tokenCounter } from "../../search/estimate-tokens.ts";
import { judgePrompt, usualJudgePrompt } from "../../simulator/model-judge.ts";
import { promptText } from "../../text/prompt.ts";
import { counted } from "../../util/plural.ts";

interface Line {
  readonly what: string;
  readonly each: UnitPrice | null;
  readonly once: number;
  readonly most: number;
  /** What the price counts in. */
  readonly unit: number;
}

/** What is asked at one search a rollout, and at most. */
export async function collectForecast(config: Config, questions: readonly Question[]): Promise<string> {
  const { collect, judge, rollout, evaluation, cost } = config;
  const rollouts = questions.length * collect.rollouts;
  const [once, most] = searchesOf(config, questions);
  const lines: Line[] = [
    { what: `searches by ${engineTitle(config, evaluation.engine)}`, each: ofSearches(config, evaluation.engine), once, most, unit: 1000 },
  ];
  if (judge.kind === "endpoint") {
    const documents = engineDocuments(config);
    const words = Array.from({ length: collect.maxWords === 0 ? 100 : collect.maxWords }, () => "word").join(" ");
    const count = await tokenCounter();
    const read = count(promptText(judgePrompt(usualJudgePrompt, questions[0]?.question ?? "", { text: words })));
    const tokens = (what: string, each: number, price: number): Line => ({
      ...{ what: `tokens ${what} by the judge`, each: own(config, price, "million"), unit: 1e6 },
      ...{ once: once * documents * each, most: most * documents * each },
    });
    lines.push(tokens("read", read, cost.judgePromptMillion), tokens("written, at most,", judge.maxNewTokens, cost.judgeCompletionMillion));
  }
  const shown = (count: number, { each, unit }: Line): string =>
    `${formatCount(count)}${each === null ? "" : ` = ${money((count / unit) * each.price, each.currency)}`}`;
  const table = formatTable<Line>(
    [
      { title: "what would be asked, estimated", value: ({ what }) => what },
      { title: "price", value: ({ each }) => (each === null ? null : shownPrice(each)) },
      { title: collect.policy === "queries" ? "in all" : "at one search a rollout", value: (line) => shown(line.once, line) },
      { title: "at most", value: (line) => shown(line.most, line) },
    ],
    lines,
  );
  const turns =
    collect.policy === "queries" ? "with the queries of each" : `of at most ${counted(rollout.maxTurns, "search", "searches")} each`;
  return `${counted(rollouts, "rollout")} ${turns}.\n\n${table}\n\nThis is an estimate (docs/costs.md). search.budget bounds what searches take.`;
}

function searchesOf({ collect, rollout }: Config, questions: readonly Question[]): [once: number, most: number] {
  const rollouts = questions.length * collect.rollouts;
  if (collect.policy !== "queries") return [rollouts, rollouts * rollout.maxTurns];
  const queries = questions.reduce((sum, { metadata }) => sum + [metadata?.["queries"] ?? []].flat().length, 0) * collect.rollouts;
  return [queries, queries];
}

/** Documents of a search that are judged. */
function engineDocuments({ evaluation, collect, bm25, http, mcp, dense }: Config): number {
  const known: Readonly<Record<string, number>> = {
    bm25: bm25.documents,
    http: http.documents,
    mcp: mcp.documents,
    dense: dense.documents,
  };
  return known[evaluation.engine] ?? collect.documents;
}
