/** Judges every document of the collected searches, by a rule or by asking a model. */
import type { SearchDocument } from "../rl/trajectory.ts";
import type { ScoreRules } from "../util/normalise-answer.ts";
import type { CollectedRollout, JudgedRollout, Label } from "./collected.ts";
import { excerpt } from "./excerpt.ts";
import { judgeByRule, judgedText } from "./rule-judge.ts";

/** Asks a model about one document; `n` numbers the questions to it. */
export type AskJudge = (query: string, document: SearchDocument, n: number) => Promise<Label>;

/** The labels by the rule. */
export function judgeAllByRule(rollouts: readonly CollectedRollout[], maxWords: number, rules: ScoreRules): JudgedRollout[] {
  return rollouts.map((one) => ({
    index: one.index,
    rollout: one.rollout,
    labels: one.searches.map(({ query, documents }, s) =>
      judgeByRule(
        one,
        s,
        documents.map((document) => excerpt(document, query, maxWords)),
        rules,
      ),
    ),
  }));
}

/** Asks about each document once, however often it was found for the query; in the order of the rollouts, which `onJudged` is told each of as soon as it is done. */
export async function judgeAllByModel(
  rollouts: readonly CollectedRollout[],
  maxWords: number,
  ask: AskJudge,
  onJudged: (judged: JudgedRollout) => void,
): Promise<void> {
  const asked = new Map<string, Promise<Label>>();
  const label = (query: string, document: SearchDocument): Promise<Label> => {
    const key = JSON.stringify([query, judgedText(document)]);
    const known = asked.get(key) ?? ask(query, document, asked.size);
    asked.set(key, known);
    return known;
  };
  const all = rollouts.map(async ({ index, rollout, searches }) => {
    const labels = await Promise.all(
      searches.map(({ query, documents }) => Promise.all(documents.map((document) => label(query, excerpt(document, query, maxWords))))),
    );
    onJudged({ index, rollout, labels });
  });
  // Whoever asks ends the rest where one fails; what is judged by then was told.
  const failed = (await Promise.allSettled(all)).find((one) => one.status === "rejected");
  if (failed !== undefined) throw failed.reason;
}
