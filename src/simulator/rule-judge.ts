/** Judges documents by what they hold, without a model. */
import type { SearchDocument } from "../rl/trajectory.ts";
import { containsAnswer, type ScoreRules } from "../util/normalise-answer.ts";
import { renderDocuments } from "../search/documents.ts";
import type { CollectedRollout, Label } from "./collected.ts";

/** What a document is judged by. */
export function judgedText(document: SearchDocument): string {
  return renderDocuments({ documents: [document] }).slice("Doc 1: ".length);
}

/**
 * The labels of a search's documents. One is useful where it holds what the query asks for: `answers`, where they are known; else a right answer of the
 * question, or, in a rollout that answered right, all that the next query has in it and neither the question nor any query before had, as that was read in it.
 */
export function judgeByRule(
  { question, f1, searches }: Pick<CollectedRollout, "question" | "f1" | "searches">,
  search: number,
  documents: readonly SearchDocument[],
  rules: ScoreRules,
): Label[] {
  const { answers, query } = searches[search] as CollectedRollout["searches"][number];
  if (answers !== undefined) return documents.map((one) => containsAnswer(judgedText(one), answers, rules));
  const read =
    f1 === 1 ? newWords(searches[search + 1]?.query, [question.question, ...searches.slice(0, search).map((one) => one.query), query]) : [];
  return documents.map((one) => {
    const text = judgedText(one);
    if (containsAnswer(text, question.goldenAnswers, rules)) return true;
    const words = new Set(wordsOf(text));
    return read.length > 0 && read.every((word) => words.has(word));
  });
}

function wordsOf(text: string): string[] {
  return (
    text
      .normalize("NFKC")
      .toLowerCase()
      .match(/[\p{L}\p{N}]+/gu) ?? []
  );
}

/** Words of a query that are names or numbers, and were not known before it. */
function newWords(query: string | undefined, before: readonly string[]): string[] {
  const known = new Set(before.flatMap(wordsOf));
  const named = (query ?? "").match(/\p{N}[\p{L}\p{N}]*|\p{Lu}[\p{L}\p{N}]*/gu) ?? [];
  return named.flatMap(wordsOf).filter((word) => !known.has(word));
}
