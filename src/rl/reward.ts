/**
 * Scores of an answer against its golden answers: F1 (the paper's reward), exact match, and containment, each under its own name.
 * An answer is what the policy itself wrote inside its answer tag (`SearchTrajectory.answer`); text of the prompt or of documents never gets here.
 *
 * Two texts are compared in their normal form (`ScoreRules.normalizer`). Where the golden answer's is empty ("A", "+"), lower case and white
 * space are all that is normalised; SQuAD's script compares nothing then: its F1 never pays "A", and its exact match pays an empty answer.
 *
 * Source: ZeroSearch (arXiv 2505.04588) 3.4; Rajpurkar et al. 2016. The released ZeroSearch code calls containment "EM"
 * (`ScoreRules.containmentAsEm`), and reads answers in the prompt (`SearchTrajectory.lastAnswer`).
 */
import { ConfigError, DataError } from "../util/errors.ts";
import { normaliseAnswer, plainAnswer, usualRules, type ScoreRules } from "../util/normalise-answer.ts";
import type { SearchTrajectory } from "./trajectory.ts";

export { usualRules, type ScoreRules };

export const rewardNames = ["f1", "em", "subem"] as const;
export type RewardName = (typeof rewardNames)[number];
/** Each in [0, 1]; the best over all golden answers. */
export type Scores = Readonly<Record<RewardName, number>>;

/** Two texts in the form in which they are compared. */
interface Compared {
  readonly prediction: string;
  readonly golden: string;
  /** The golden answer has no normal form. */
  readonly plain: boolean;
}

function compared(prediction: string, golden: string, { normalizer, emptyAnswersAsSquad }: ScoreRules): Compared {
  const normal = normaliseAnswer(golden, normalizer);
  if (normal !== "" || emptyAnswersAsSquad) return { prediction: normaliseAnswer(prediction, normalizer), golden: normal, plain: false };
  return { prediction: plainAnswer(prediction), golden: plainAnswer(golden), plain: true };
}

/**
 * Word-level F1 of two texts: 2 n / (P + R) with n the words they share (as multisets), P and R their word counts; 0 when n is 0.
 */
export function f1(prediction: string, golden: string, rules: ScoreRules = usualRules): number {
  const texts = compared(prediction, golden, rules);
  const predicted = words(texts.prediction),
    wanted = words(texts.golden);
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
  return text === "" ? [] : text.split(" ");
}

/** Whether both have the same normal form. */
export function exactMatch(prediction: string, golden: string, rules: ScoreRules = usualRules): boolean {
  const texts = compared(prediction, golden, rules);
  return texts.prediction === texts.golden;
}

/**
 * Whether the golden answer's normal form is a substring, of characters, of the prediction's ("art" is in "party"). Without a normal form it
 * is looked for among the words of the prediction: "a" is in most texts.
 */
export function subExactMatch(prediction: string, golden: string, rules: ScoreRules = usualRules): boolean {
  const texts = compared(prediction, golden, rules);
  if (texts.plain) return ` ${texts.prediction} `.includes(` ${texts.golden} `);
  return texts.golden === "" ? texts.prediction === "" : texts.prediction.includes(texts.golden);
}

/**
 * All three scores of one answer; all 0 when there is none.
 * @throws DataError without golden answers, or where they are no list.
 */
export function scoreAnswer(answer: string | null, goldenAnswers: readonly string[], rules: ScoreRules = usualRules): Scores {
  const list: unknown = goldenAnswers;
  if (!Array.isArray(list))
    throw new DataError({
      where: "reward",
      what: "golden answers are no list",
      expected: "a list of texts",
      got: JSON.stringify(goldenAnswers),
    });
  if (goldenAnswers.length === 0)
    throw new DataError({ where: "reward", what: "a question has no golden answer", expected: "at least one", got: "none" });
  if (answer === null) return { f1: 0, em: 0, subem: 0 };
  const subem = goldenAnswers.some((golden) => subExactMatch(answer, golden, rules)) ? 1 : 0;
  return {
    f1: Math.max(...goldenAnswers.map((golden) => f1(answer, golden, rules))),
    em: rules.containmentAsEm === true ? subem : goldenAnswers.some((golden) => exactMatch(answer, golden, rules)) ? 1 : 0,
    subem,
  };
}

/** The answer of a rollout that is scored: its own, unless the run reads answers as the released code does. */
export function scoredAnswer({ answer, lastAnswer }: Pick<SearchTrajectory, "answer" | "lastAnswer">): string | null {
  return lastAnswer ?? answer;
}

/** The reward of one rollout. @throws ConfigError for an unknown name, DataError without golden answers. */
export function reward(trajectory: SearchTrajectory, name: RewardName = "f1", rules: ScoreRules = usualRules): number {
  if (!rewardNames.includes(name))
    throw new ConfigError({ where: "reward", what: "unknown reward", expected: rewardNames.join(", "), got: JSON.stringify(name) });
  return scoreAnswer(scoredAnswer(trajectory), trajectory.question.goldenAnswers, rules)[name];
}
