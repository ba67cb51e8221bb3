/** The questions of a run, all read and checked before anything is computed or written. */
import type { Config } from "../config/index.ts";
import { loadQuestions } from "../data/questions.ts";
import type { Question } from "../rl/trajectory.ts";
import { ConfigError } from "../util/errors.ts";
import { normaliseAnswer } from "../util/normalise-answer.ts";

export interface RunData {
  readonly train: readonly Question[];
  /** Empty where there are none. */
  readonly validation: readonly Question[];
  readonly test: readonly Question[];
}

/**
 * Reads the question files.
 * @throws FileError, DataError: a file that is missing, empty or wrong, with its line.
 */
export async function openData(config: Config): Promise<RunData> {
  const { data, evaluation, train } = config;
  return {
    train: data.train === null ? [] : await loadQuestions(data.train),
    validation: train.validateEvery === 0 ? [] : await some(data.validation, evaluation.validationQuestions),
    test: await some(data.test, evaluation.questions),
  };
}

/** What a policy is judged by without training: the test questions. @throws as `openData`, and ConfigError */
export async function openTest(config: Config): Promise<readonly Question[]> {
  const questions = await some(config.data.test, config.evaluation.questions);
  if (questions.length === 0)
    throw new ConfigError({ where: "data.test", what: "there is nothing to judge by", expected: "a file of questions", got: "null" });
  return questions;
}

/** What a person should know of how answers are compared: how many golden answers the `squad` normalizer treats wrongly. */
export function normalizerNotes({ reward }: Pick<Config, "reward">, questions: readonly Question[]): string[] {
  if (reward.normalizer !== "squad") return [];
  const answers = questions.flatMap(({ goldenAnswers }) => goldenAnswers);
  const wrong = answers.filter((answer) => normaliseAnswer(answer, "squad") !== normaliseAnswer(answer, "unicode"));
  const [example = ""] = wrong;
  const shown = JSON.stringify(example.length > 40 ? `${example.slice(0, 40)}...` : example);
  if (wrong.length === 0) return [];
  return [
    `note: ${wrong.length} of ${answers.length} golden answers hold what SQuAD's normal form takes wrongly, such as ${shown}; reward.normalizer=unicode takes them right (docs/scores.md)`,
  ];
}

async function some(file: string | null, count: number): Promise<Question[]> {
  if (file === null) return [];
  const questions = await loadQuestions(file);
  return count === 0 ? questions : questions.slice(0, count);
}
