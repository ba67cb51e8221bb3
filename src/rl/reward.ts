/**
 * Scores of an answer against its golden answers: F1 (the paper's reward), exact match, and containment, each under its own name.
 * An answer is what the policy itself wrote inside its answer tag (`SearchTrajectory.answer`); text of the prompt or of documents never gets here.
 *
 * Source: ZeroSearch (arXiv 2505.04588) 3.4; Rajpurkar et al. 2016. The released ZeroSearch code calls containment "EM".
 */
import { ConfigError, DataError } from "../util/errors.ts";
import { normaliseAnswer } from "../util/normalise-answer.ts";
import type { SearchTrajectory } from "./trajectory.ts";

export const rewardNames = ["f1", "em", "subem"] as const;
export type RewardName = (typeof rewardNames)[number];
/** Each in [0, 1]; the best over all golden answers. */
export type Scores = Readonly<Record<RewardName, number>>;

/**
 * Word-level F1 of two texts: 2 n / (P + R) with n the words they share (as multisets), P and R their word counts; 0 when n is 0.
 */
export function f1(prediction: string, golden: string): number {
  const predicted = words(prediction),
    wanted = words(golden);
  const left = new Map<string, number>();
  for (const word of wanted) left.set(word, (left.get(word) ?? 0) + 1);
  let same = 0;
  for (const word of predicted) {
    const count = left.get(word) ?? 0;
    if (count === 0) continue;
    left.set(word, count - 1);
    same++;
  }
  return same === 0 ? 0 : (2 * same) / (predicted.length + wanted.length);
}

function words(text: string): string[] {
  const normal = normaliseAnswer(text);
  return normal === "" ? [] : normal.split(" ");
}

/** Whether both have the same normal form. */
export function exactMatch(prediction: string, golden: string): boolean {
  return normaliseAnswer(prediction) === normaliseAnswer(golden);
}

/** Whether the golden answer's normal form is a substring, of characters, of the prediction's ("art" is in "party"). An empty one only equals an empty one. */
export function subExactMatch(prediction: string, golden: string): boolean {
  const wanted = normaliseAnswer(golden);
  return wanted === "" ? normaliseAnswer(prediction) === "" : normaliseAnswer(prediction).includes(wanted);
}

/**
 * All three scores of one answer; all 0 when there is none.
 * @throws DataError without golden answers.
 */
export function scoreAnswer(answer: string | null, goldenAnswers: readonly string[]): Scores {
  if (goldenAnswers.length === 0)
    throw new DataError({ where: "reward", what: "a question has no golden answer", expected: "at least one", got: "none" });
  if (answer === null) return { f1: 0, em: 0, subem: 0 };
  return {
    f1: Math.max(...goldenAnswers.map((golden) => f1(answer, golden))),
    em: goldenAnswers.some((golden) => exactMatch(answer, golden)) ? 1 : 0,
    subem: goldenAnswers.some((golden) => subExactMatch(answer, golden)) ? 1 : 0,
  };
}

/** The reward of one rollout. @throws ConfigError for an unknown name, DataError without golden answers. */
export function reward(trajectory: SearchTrajectory, name: RewardName = "f1"): number {
  if (!rewardNames.includes(name))
    throw new ConfigError({ where: "reward", what: "unknown reward", expected: rewardNames.join(", "), got: JSON.stringify(name) });
  return scoreAnswer(trajectory.answer, trajectory.question.goldenAnswers)[name];
}
