/**
 * What a run would cost, for `--dry-run`: its searches are counted from the configuration, the simulator's prompts from those of some of the questions, by a
 * tokenizer that is not the model's own. An estimate, and a bound: docs/costs.md says how.
 */
import { existsSync } from "node:fs";
import { enginesUsed, type Config } from "../config/index.ts";
import { promptSet } from "../data/prompt-set.ts";
import { formatTable } from "../log/table.ts";
import type { Question } from "../rl/trajectory.ts";
import { engineTitle, money, ofSearches, own, shownPrice, thousands, type UnitPrice } from "../run/priced-line.ts";
import { tokenCounter } from "../search/estimate-tokens.ts";
import { readPassages } from "../search/passages.ts";
import { isPaid } from "../search/prices.ts";
import { simulatorPrompt, simulatorTemplateOf } from "../search/simulator-prompt.ts";
import { promptText } from "../text/prompt.ts";
import { isModuleFile } from "../util/fields.ts";
import { counted } from "../util/plural.ts";

/** The questions of a run that are here; `validation` and `test` cut to those that are judged by. */
export interface ForecastQuestions {
  readonly train: readonly Question[];
  readonly validation: readonly Question[];
  readonly test: readonly Question[];
}

/** Searches by an engine. */
export interface ForecastSearches {
  readonly engine: string;
  /** Where every rollout searches once. */
  readonly once: number;
  /** Where every rollout searches as often as it may. */
  readonly most: number;
}

/** Questions whose prompts are counted, evenly spread. */
const sampled = 100;

/** The searches of training and of judging, by engine; `purpose` as in `enginesUsed`. */
export function forecastSearches(config: Config, questions: ForecastQuestions, purpose: "train" | "evaluate"): ForecastSearches[] {
  const { train, rollout, evaluation, search, simulator } = config;
  const used = enginesUsed(config, purpose);
  // RAG shows documents once; what a method of one's own does is not known.
  const turns = rollout.method === "direct" ? 0 : rollout.method === "rag" ? 1 : rollout.maxTurns;
  const searches = Math.min(1, turns);
  const all = new Map<string, { once: number; most: number }>();
  const add = (engine: string | null, rollouts: number, each = { once: searches, most: turns }): void => {
    if (engine === null || !used.includes(engine) || rollouts * each.most === 0) return;
    const { once, most } = all.get(engine) ?? { once: 0, most: 0 };
    all.set(engine, { once: once + rollouts * each.once, most: most + rollouts * each.most });
  };
  const trains = purpose === "train";
  const { steps, validateEvery } = train;
  if (trains) add(search.engine, steps * train.questionsPerStep * train.groupSize);
  if (trains && validateEvery > 0) add(evaluation.engine, Math.ceil(steps / validateEvery) * questions.validation.length);
  const times = trains ? 2 : 1;
  add(evaluation.engine, times * questions.test.length);
  if (evaluation.baselines && rollout.method !== "rag") add(evaluation.engine, times * questions.test.length, { once: 1, most: 1 });
  if (evaluation.robustness && (simulator.path !== null || simulator.endpoint !== null)) {
    const single = questions.test.filter(({ metadata }) => (metadata?.["hops"] ?? 1) === 1);
    // Once after useless documents and once after useful ones.
    add("simulated", 2 * times * single.length);
  }
  return [...all].map(([engine, counts]) => ({ engine, ...counts }));
}

/** Tokens of the simulator's prompt, the mean over some of the questions, each asked as its own query, useful and noisy alike. */
export async function simulatorPromptTokens(config: Config, questions: readonly Question[]): Promise<number> {
  const template = simulatorTemplateOf(config.simulator.prompt, promptSet);
  const count = await tokenCounter();
  const step = Math.max(1, Math.ceil(questions.length / sampled));
  const some = questions.filter((_, i) => i % step === 0);
  const asked = some.length === 0 ? [{ question: "", goldenAnswers: [""] }] : some;
  const lengths = asked.flatMap(({ question, goldenAnswers: [answer = ""] }) =>
    (["useful", "noisy"] as const).map((kind) => count(promptText(simulatorPrompt(template, kind, { question, answer, query: question })))),
  );
  return lengths.reduce((sum, length) => sum + length, 0) / lengths.length;
}

interface Line {
  readonly what: string;
  readonly each: UnitPrice | null;
  readonly perUnit: number;
  readonly once: number;
  readonly most: number;
}

/** The table, or "" where nothing that is asked has a price or is an endpoint. */
export async function forecastText(config: Config, questions: ForecastQuestions, purpose: "train" | "evaluate"): Promise<string> {
  const searches = forecastSearches(config, questions, purpose);
  const lines = searches.filter(({ engine }) => isPaid(engine)).map((one) => searchLine(config, one));
  const simulated = searches.find(({ engine }) => engine === "simulated");
  if (simulated !== undefined && config.simulator.endpoint !== null)
    lines.push(...(await tokenLines(config, questions, purpose, simulated)));
  const embeds = searches.find(({ engine }) => engine === "dense");
  if (embeds !== undefined && config.dense.endpoint !== null) lines.push(await embeddingLine(config, questions, embeds));
  if (lines.length === 0) return "";
  const amount = (value: number, { each, perUnit }: Line): string =>
    `${thousands(value)}${each === null ? "" : ` = ${money((value / perUnit) * each.price, each.currency)}`}`;
  const table = formatTable<Line>(
    [
      { title: "what it would cost, estimated", value: ({ what }) => what },
      { title: "price", value: ({ each }) => (each === null ? null : shownPrice(each)) },
      { title: "at one search a rollout", value: (line) => amount(line.once, line) },
      { title: "at most", value: (line) => amount(line.most, line) },
    ],
    lines,
  );
  return [table, ...sums(lines), ...budgetNote(config, searches), ...unknown(config, questions, purpose)].join("\n");
}

function searchLine(config: Config, { engine, once, most }: ForecastSearches): Line {
  return { what: `searches by ${engineTitle(config, engine)}`, each: ofSearches(config, engine), perUnit: 1000, once, most };
}

async function tokenLines(
  config: Config,
  questions: ForecastQuestions,
  purpose: string,
  { once, most }: ForecastSearches,
): Promise<Line[]> {
  const { curriculum, simulator, cost } = config;
  const prompt = await simulatorPromptTokens(config, purpose === "train" && questions.train.length > 0 ? questions.train : questions.test);
  // A set whose documents are drawn one by one is taken from two texts; a noisy one may be written anew.
  const texts = (curriculum.unit === "document" ? 2 : 1) * (1 + simulator.redraws);
  const line = (what: string, each: number, price: number): Line => ({
    what,
    each: own(config, price, "million"),
    perUnit: 1e6,
    once: once * each,
    most: most * texts * each,
  });
  return [
    line(`tokens read by the endpoint (${prompt.toFixed(0)} a text)`, prompt, cost.promptMillion),
    line(`tokens written by it (${simulator.maxNewTokens} a text at most)`, simulator.maxNewTokens, cost.completionMillion),
  ];
}

/** What `dense.endpoint` reads: the queries and, without an index, the corpus. */
async function embeddingLine({ data, dense, cost }: Config, questions: ForecastQuestions, { once, most }: ForecastSearches): Promise<Line> {
  const count = await tokenCounter();
  const asked = [...questions.train, ...questions.test].slice(0, sampled);
  const query =
    asked.length === 0 ? 0 : asked.reduce((sum, { question }) => sum + count(`${dense.instruction}\n${question}`), 0) / asked.length;
  const corpus = dense.index === null && data.corpus !== null && existsSync(data.corpus) ? await corpusTokens(data.corpus, count) : 0;
  return {
    what: `tokens embedded by the endpoint${corpus === 0 ? "" : " (the corpus, and queries)"}`,
    each: own({ cost }, cost.embeddingMillion, "million"),
    perUnit: 1e6,
    once: corpus + once * query,
    most: corpus + most * query,
  };
}

/** Of all passages, by those of the first thousand. */
async function corpusTokens(file: string, count: (text: string) => number): Promise<number> {
  let [passages, tokens, some] = [0, 0, 0];
  for await (const { title = "", text } of readPassages(file)) {
    if (passages++ >= 1000) continue;
    tokens += count(`${title} ${text}`);
    some++;
  }
  return some === 0 ? 0 : (tokens / some) * passages;
}

/** Everything with a price together, by currency. */
function sums(lines: readonly Line[]): string[] {
  const currencies = [...new Set(lines.flatMap(({ each }) => (each === null ? [] : [each.currency])))];
  return currencies.map((currency) => {
    const of = (value: (line: Line) => number): string =>
      money(
        lines.reduce((sum, line) => sum + (line.each?.currency === currency ? (value(line) / line.perUnit) * line.each.price : 0), 0),
        currency,
      );
    return `Together about ${of(({ once }) => once)} at one search a rollout, ${of(({ most }) => most)} at most. This is an estimate (docs/costs.md).`;
  });
}

function budgetNote(config: Config, searches: readonly ForecastSearches[]): string[] {
  const { budget } = config.search;
  const [price] = searches.flatMap(({ engine }) => ofSearches(config, engine) ?? []);
  if (budget === null || price === undefined) return [];
  return [`search.budget=${budget} is enough for ${counted(Math.floor((1000 * budget) / price.price + 1e-9), "search", "searches")}.`];
}

/** What the numbers leave out. */
function unknown({ data, rollout, train }: Config, questions: ForecastQuestions, purpose: string): string[] {
  const trains = purpose === "train";
  const lacks = [
    ...(trains && train.validateEvery > 0 && data.validation !== null && questions.validation.length === 0 ? ["data.validation"] : []),
    ...(data.test !== null && questions.test.length === 0 ? ["data.test"] : []),
  ];
  const notes = lacks.map((key) => `${key} is not here: the searches of its questions are not in it.`);
  if (isModuleFile(rollout.method)) notes.push(`How often ${rollout.method} searches is its own affair: rollout.maxTurns is taken.`);
  return notes;
}
