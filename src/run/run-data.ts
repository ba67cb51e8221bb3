/** The questions of a run, all read and checked before anything is computed or written. */
import type { Config } from "../config/index.ts";
import { loadQuestions } from "../data/questions.ts";
import type { Question } from "../rl/trajectory.ts";
import { ConfigError } from "../util/errors.ts";

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

async function some(file: string | null, count: number): Promise<Question[]> {
  if (file === null) return [];
  const questions = await loadQuestions(file);
  return count === 0 ? questions : questions.slice(0, count);
}
