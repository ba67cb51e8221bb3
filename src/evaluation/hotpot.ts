/**
 * HotpotQA's own rule for questions that are answered by yes or no: where one of both normalised texts is "yes", "no" or "noanswer" and they differ, F1 is 0,
 * however many words they share ("yes it is" against "yes"). Exact match and containment are as ever.
 *
 * Source: hotpot_evaluate_v1.py of HotpotQA (Yang et al. 2018), `f1_score`.
 */
import { namedSet } from "../data/named-sets.ts";
import { f1, scoreAnswer, usualRules, type ScoreRules, type Scores } from "../rl/reward.ts";
import type { Question } from "../rl/trajectory.ts";
import { normaliseAnswer } from "../util/normalise-answer.ts";

/** What tables say where the rule holds. */
export const hotpotNote = "F1 of HotpotQA by its own script's rule for yes and no (evaluation.hotpotYesNo).";

const closed = ["yes", "no", "noanswer"];

export function isHotpot({ dataSource }: Pick<Question, "dataSource">): boolean {
  return namedSet(dataSource)?.name === "hotpotqa";
}

/** As `scoreAnswer`, with that rule. */
export function hotpotScores(answer: string | null, goldenAnswers: readonly string[], rules: ScoreRules = usualRules): Scores {
  const scores = scoreAnswer(answer, goldenAnswers, rules);
  if (answer === null) return scores;
  const given = normaliseAnswer(answer, rules.normalizer);
  const each = goldenAnswers.map((golden) => {
    const wanted = normaliseAnswer(golden, rules.normalizer);
    return given !== wanted && (closed.includes(given) || closed.includes(wanted)) ? 0 : f1(answer, golden, rules);
  });
  return { ...scores, f1: Math.max(...each) };
}
