/** What a simulator is worth: whether its sets hold what they should and keep back what they should, beside those of a real engine on the same queries. */
import { makeRandom } from "../data/random.ts";
import type { Question, SearchDocument } from "../rl/trajectory.ts";
import { parseDocuments, renderDocuments } from "../search/documents.ts";
import { ask, type Engine, type SearchResult, type Simulator } from "../search/search-engine.ts";
import { containsAnswer, normaliseAnswer, usualRules, type ScoreRules } from "../util/normalise-answer.ts";
import { mean, shareInterval } from "../util/stats.ts";
import { Stopping } from "../util/stopping.ts";

/** A query about a question. */
export interface ReportQuery {
  readonly question: Question;
  readonly query: string;
}

export const setKinds = ["useful", "noisy", "sloppy", "real"] as const;
export type SetKind = (typeof setKinds)[number];

/** Sets of one kind; shares are from 0 to 1. */
export interface SetRow {
  /** Asked to be useful or noisy; sloppy: useful ones for a query about something else; real: of a real engine. */
  readonly set: SetKind;
  readonly n: number;
  /** Share of the sets that hold a right answer of the question: of noisy and sloppy ones the leak. With its 95 % interval. */
  readonly holdsAnswer: number;
  readonly low: number;
  readonly high: number;
  /** Share of the sets that have as many documents as asked for, none empty. */
  readonly wellFormed: number;
  /** Words of a document, on average. */
  readonly words: number;
  /** Different words, and pairs of words, as a share of all in the sets together: low where a simulator repeats itself. */
  readonly distinct1: number;
  readonly distinct2: number;
  /** Share of the queries for which this set and the real engine's both hold the answer, or neither; null without a real engine, and of its own row. */
  readonly agreement: number | null;
  /** F1 of the words of this set and of the real engine's, on average over queries; null as above. */
  readonly overlap: number | null;
}

export interface ReportOptions {
  readonly simulators: { readonly useful: Simulator; readonly noisy: Simulator };
  /** Null: none to compare with. */
  readonly engine: Engine | null;
  /** Documents of a set, of the simulator and of the engine's. */
  readonly documents: number;
  readonly rules?: ScoreRules;
  readonly seed: number;
  readonly signal?: AbortSignal;
  /** Told of every set that is there. */
  readonly onSet?: (done: number, kind: SetKind) => void;
}

/** For each question the query of another one, no answer of which is right here: drawn from the seed. Those for which there is none are left out. */
export function sloppyQueries(queries: readonly ReportQuery[], seed: number, rules: ScoreRules = usualRules): ReportQuery[] {
  const random = makeRandom(`${seed}/simulator/sloppy`);
  return queries.flatMap(({ question }) => {
    for (let tries = 0; tries < 50; tries++) {
      const other = random.pick(queries);
      const text = [other.question.question, other.query, ...other.question.goldenAnswers].join("\n");
      if (other.question.id !== question.id && !containsAnswer(text, question.goldenAnswers, rules))
        return [{ question, query: other.query }];
    }
    return [];
  });
}

/** Asks for every set and judges it. @throws whatever an engine throws, and the signal's reason */
export async function reportOn(queries: readonly ReportQuery[], options: ReportOptions): Promise<SetRow[]> {
  const { simulators, engine, documents, rules = usualRules, seed, signal, onSet } = options;
  let done = 0;
  const stopping = new Stopping(signal);
  const setsOf = (kind: SetKind, from: Engine, asked: readonly ReportQuery[]): Promise<Judged[]> =>
    Promise.all(
      asked.map(async ({ question, query }, index) => {
        const request = { query, question: question.question, goldenAnswers: question.goldenAnswers };
        const key = { step: 0, question: index, rollout: setKinds.indexOf(kind) };
        const result = await stopping.run((own) => ask(from, { ...request, key, turn: 0, signal: own }));
        onSet?.(++done, kind);
        return judged(result, question, documents, rules);
      }),
    );
  const [useful, noisy, sloppy, real] = await Promise.all([
    setsOf("useful", simulators.useful, queries),
    setsOf("noisy", simulators.noisy, queries),
    setsOf("sloppy", simulators.useful, sloppyQueries(queries, seed, rules)),
    engine === null ? null : setsOf("real", engine, queries),
  ]);
  return [
    rowOf("useful", useful, real, documents),
    rowOf("noisy", noisy, real, documents),
    rowOf("sloppy", sloppy, null, documents),
    ...(real === null ? [] : [rowOf("real", real, null, documents)]),
  ];
}

interface Judged {
  readonly documents: readonly SearchDocument[];
  readonly holdsAnswer: boolean;
  readonly words: readonly string[];
}

function judged(result: SearchResult, { goldenAnswers }: Question, most: number, rules: ScoreRules): Judged {
  const documents = (result.text === undefined ? result.documents : parseDocuments(result.text)).slice(0, most);
  const text = documents.length === 0 ? "" : renderDocuments({ documents });
  const bodies = documents.map(({ title, text: body }) => `${title ?? ""} ${body}`).join(" ");
  return { documents, holdsAnswer: containsAnswer(text, goldenAnswers, rules), words: wordsOf(bodies) };
}

function wordsOf(text: string): string[] {
  return normaliseAnswer(text, "unicode")
    .split(" ")
    .filter((word) => word !== "");
}

function rowOf(set: SetKind, sets: readonly Judged[], real: readonly Judged[] | null, documents: number): SetRow {
  const held = sets.map(({ holdsAnswer }) => (holdsAnswer ? 1 : 0));
  const { low, high } = shareInterval(
    held.reduce<number>((sum, one) => sum + one, 0),
    held.length,
  );
  const isWhole = (one: Judged): boolean => one.documents.length === documents && one.documents.every(({ text }) => text.trim() !== "");
  const count = sets.reduce((sum, one) => sum + one.documents.length, 0);
  const compared = real === null ? null : sets.map((one, i) => [one, real[i] as Judged] as const);
  return {
    set,
    n: sets.length,
    holdsAnswer: mean(held),
    low,
    high,
    wellFormed: mean(sets.map((one) => (isWhole(one) ? 1 : 0))),
    words: sets.reduce((sum, { words }) => sum + words.length, 0) / count,
    distinct1: distinct(sets, 1),
    distinct2: distinct(sets, 2),
    agreement: compared === null ? null : mean(compared.map(([one, other]) => (one.holdsAnswer === other.holdsAnswer ? 1 : 0))),
    overlap: compared === null ? null : mean(compared.map(([one, other]) => wordF1(one.words, other.words))),
  };
}

/** Source: distinct-n of Li et al. 2016 (arXiv 1510.03055): different n-grams over all of them. */
function distinct(sets: readonly Judged[], n: number): number {
  const seen = new Set<string>();
  let all = 0;
  for (const { words } of sets) for (let i = 0; i + n <= words.length; i++, all++) seen.add(words.slice(i, i + n).join(" "));
  return seen.size / all;
}

function wordF1(one: readonly string[], other: readonly string[]): number {
  if (one.length === 0 || other.length === 0) return one.length === other.length ? 1 : 0;
  const counts = new Map<string, number>();
  for (const word of other) counts.set(word, (counts.get(word) ?? 0) + 1);
  let shared = 0;
  for (const word of one) {
    const left = counts.get(word) ?? 0;
    if (left === 0) continue;
    counts.set(word, left - 1);
    shared++;
  }
  return (2 * shared) / (one.length + other.length);
}
