/** Searching for questions without a policy in this process: whoever asks, the engine is asked as in a rollout, and the searches are kept. */
import { askEngine, type SearchContext } from "../agent/ask-engine.ts";
import type { TrajectoryKey } from "../generate/types.ts";
import type { Question, SearchDocument, SearchRecord } from "../rl/trajectory.ts";
import { scoreAnswer } from "../rl/reward.ts";
import { ConfigError } from "../util/errors.ts";
import { callOwn, kindOf } from "../util/own-code.ts";
import { Slots } from "../util/slots.ts";
import { Stopping } from "../util/stopping.ts";
import type { CollectedRollout, CollectedSearch } from "./collected.ts";

/** Searches for a question. `about.answers` is what the query itself asks for, where that is known: the rule judges by it. @throws whatever the engine throws */
export type AskedSearch = (query: string, about?: { readonly answers?: readonly string[] }) => Promise<Found>;

export interface Found {
  readonly documents: readonly SearchDocument[];
  /** As a policy would be shown them. */
  readonly text: string;
}

export interface AskerContext {
  readonly key: TrajectoryKey;
  readonly signal: AbortSignal;
}

/** Who searches: calls `search` as often as it likes. @returns the answer, or null for none */
export type Asker = (question: Question, search: AskedSearch, context: AskerContext) => Promise<string | null | undefined>;

export interface AskTask {
  readonly question: Question;
  readonly index: number;
  readonly rollout: number;
}

export interface AskAllOptions extends Required<Omit<SearchContext, "key" | "signal" | "toldQuestion">> {
  readonly asker: Asker;
  /** Of whoever asks, for errors. */
  readonly name: string;
  /** Questions under way at a time. */
  readonly concurrency: number;
  readonly tags: readonly string[];
  readonly signal: AbortSignal;
  /** Once it is true nothing more is begun. */
  readonly isOver: () => boolean;
  readonly onFinished: (rollout: CollectedRollout) => void;
}

/** Every task once. If one fails the others are given up, and its error is thrown. What had ended before was told. */
export async function askAll(tasks: readonly AskTask[], options: AskAllOptions): Promise<void> {
  const { concurrency, isOver, signal } = options;
  const slots = new Slots(concurrency);
  const stopping = new Stopping(signal);
  const all = tasks.map((task) =>
    slots.run(async () => {
      if (!isOver()) await stopping.run((own) => askOne(task, own, options));
    }),
  );
  const failed = (await Promise.allSettled(all)).find((one) => one.status === "rejected");
  if (failed !== undefined) throw failed.reason;
}

async function askOne({ question, index, rollout }: AskTask, signal: AbortSignal, options: AskAllOptions): Promise<void> {
  const { asker, name, tags, onFinished, engine, settings, rules, onSearchFailure } = options;
  const key = { step: 0, question: index, rollout };
  const searches: CollectedSearch[] = [];
  let turn = 0;
  const search: AskedSearch = async (query, about) => {
    if (typeof query !== "string" || (about?.answers !== undefined && !isTexts(about.answers)))
      throw new ConfigError({
        where: name,
        what: "searches with something else",
        expected: "search(query, { answers: [text, ...] })",
        got: `search(${kindOf(query)}, ${kindOf(about)})`,
      });
    const record = await askEngine(query, turn++, question, { tags }, { engine, settings, rules, onSearchFailure, key, signal });
    searches.push({ ...searchOf(record), ...(about?.answers === undefined ? {} : { answers: about.answers }) });
    return { documents: record.documents, text: record.text };
  };
  const answer = await callOwn(`${name} on question ${question.id}`, () => asker(question, search, { key, signal }), { signal });
  if (typeof answer !== "string" && answer !== null && answer !== undefined)
    throw new ConfigError({ where: name, what: "returns something else", expected: "an answer, or null", got: kindOf(answer) });
  const said = answer ?? null;
  searches.sort((a, b) => a.turn - b.turn);
  const { f1 } = scoreAnswer(said, question.goldenAnswers, rules);
  onFinished({ index, rollout, question: keptQuestion(question), answer: said, f1, searches });
}

/** What is kept of a search. */
export function searchOf({ turn, query, documents, failure }: SearchRecord): CollectedSearch {
  const kept = documents.map(({ title, text, url, id }) => ({
    ...(title === undefined ? {} : { title }),
    text,
    ...(url === undefined ? {} : { url }),
    ...(id === undefined ? {} : { id }),
  }));
  return { turn, query, documents: kept, ...(failure === undefined ? {} : { failure }) };
}

export function keptQuestion({ id, question, goldenAnswers, dataSource }: Question): CollectedRollout["question"] {
  return { id, question, goldenAnswers, dataSource };
}

function isTexts(value: unknown): boolean {
  return Array.isArray(value) && value.every((one) => typeof one === "string");
}
