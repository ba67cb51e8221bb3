/** Balanced samples of the world's questions, and what blind guessing would score on them. */
import { ConfigError } from "../../util/errors.ts";
import { makeRandom } from "../random.ts";
import { relations, type RelationKey } from "./relations.ts";
import type { QuickstartQuestion, World } from "./world.ts";

/**
 * Draws `count` questions so that relations are as equal as they can be and countries recur as late as they can.
 * Deterministic in `purpose`; throws ConfigError when there are too few.
 */
export function balancedSample(questions: readonly QuickstartQuestion[], count: number, purpose: string): QuickstartQuestion[] {
  if (questions.length < count)
    throw new ConfigError({
      where: `quickstart questions ${purpose}`,
      what: "too few to sample",
      expected: String(count),
      got: String(questions.length),
    });
  const random = makeRandom(purpose);
  const queues = relations.map(({ key }) => random.shuffle(questions.filter((question) => question.metadata.relation === key)));
  const uses = new Map<string, number>();
  const sample: QuickstartQuestion[] = [];
  while (sample.length < count) {
    for (const queue of queues) {
      if (queue.length === 0 || sample.length === count) continue;
      let best = 0;
      const usesOf = (question: QuickstartQuestion): number => uses.get(question.metadata.country) ?? 0;
      for (let i = 1; i < queue.length; i++) {
        if (usesOf(queue[i] as QuickstartQuestion) < usesOf(queue[best] as QuickstartQuestion)) best = i;
      }
      const [taken] = queue.splice(best, 1) as [QuickstartQuestion];
      uses.set(taken.metadata.country, usesOf(taken) + 1);
      sample.push(taken);
    }
  }
  return sample;
}

function half(world: World, split: "validation" | "test", count: number): QuickstartQuestion[] {
  return ([1, 2] as const).flatMap((hops) => {
    const pool = world.questions[split].filter((question) => question.metadata.hops === hops);
    return balancedSample(pool, count / 2, `${world.seed}/quickstart/${split}/${hops}`);
  });
}

/** The held-out questions that judge a run: half one hop, half two. */
export function evaluationQuestions(world: World, count = 300): QuickstartQuestion[] {
  return half(world, "test", count);
}

/** The questions on validation countries that choose the saved best state. */
export function validationQuestions(world: World, count = 120): QuickstartQuestion[] {
  return half(world, "validation", count);
}

/** Every one-hop training question, and as many two-hop ones, balanced over relations. */
export function trainingQuestions(world: World): QuickstartQuestion[] {
  const single = world.questions.train.filter((question) => question.metadata.hops === 1);
  const two = world.questions.train.filter((question) => question.metadata.hops === 2);
  return [...single, ...balancedSample(two, Math.min(single.length, two.length), `${world.seed}/quickstart/train/2`)];
}

/** What one answer, always given, would score on the questions of its relation. */
export interface CommonestAnswer {
  readonly relation: RelationKey;
  readonly answer: string;
  /** Questions of the relation, as a share of all. */
  readonly questionShare: number;
  /** Share of the relation's questions for which the answer is right. */
  readonly answerShare: number;
}

/** The commonest answer of each relation. */
export function commonestAnswers(questions: readonly QuickstartQuestion[]): CommonestAnswer[] {
  return relations.flatMap(({ key }) => {
    const asked = questions.filter((question) => question.metadata.relation === key);
    const counts = new Map<string, number>();
    for (const question of asked) for (const answer of new Set(question.golden_answers)) counts.set(answer, (counts.get(answer) ?? 0) + 1);
    const best = [...counts].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1))[0];
    if (best === undefined) return [];
    return [{ relation: key, answer: best[0], questionShare: asked.length / questions.length, answerShare: best[1] / asked.length }];
  });
}

/**
 * The mean score of always giving a relation's commonest answer.
 * @param score - F1 or exact match of a prediction against the golden answers
 * @param known - questions from which the commonest answers are learnt; by default the judged ones themselves, the most that guessing could reach
 */
export function commonestAnswerScore(
  questions: readonly QuickstartQuestion[],
  score: (prediction: string, goldenAnswers: readonly string[]) => number,
  known: readonly QuickstartQuestion[] = questions,
): number {
  const answers = new Map(commonestAnswers(known).map((entry) => [entry.relation, entry.answer]));
  let sum = 0;
  for (const question of questions) sum += score(answers.get(question.metadata.relation) ?? "", question.golden_answers);
  return questions.length === 0 ? 0 : sum / questions.length;
}
