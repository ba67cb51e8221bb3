/** The questions of a run, all read and checked before anything is computed or written. */
import type { Config } from "../config/index.ts";
import { filesOf, type DataFiles } from "../data/data-files.ts";
import { loadQuestions } from "../data/questions.ts";
import { refuseSameFile, sharedQuestions } from "../data/shared-questions.ts";
import type { Question } from "../rl/trajectory.ts";
import { ConfigError } from "../util/errors.ts";
import { normaliseAnswer } from "../util/normalise-answer.ts";

export interface RunData {
  readonly train: readonly Question[];
  /** Empty where there are none. */
  readonly validation: readonly Question[];
  readonly test: readonly Question[];
  /** What a person should know of them: what was left out of the files, and questions that two of the sets share. */
  readonly notes: readonly string[];
}

/**
 * Reads the question files.
 * @param config - with paths in place of the Hub's addresses
 * @throws FileError, DataError: a file that is missing, empty or wrong, with its line. ConfigError: one file that is in two sets.
 */
export async function openData({ data, evaluation, train, reward }: Config): Promise<RunData> {
  const validation = train.validateEvery === 0 ? null : data.validation;
  if (!data.allowSameFile) refuseSameFile({ "data.train": data.train, "data.validation": validation, "data.test": data.test });
  const notes: string[] = [];
  const onNote = (note: string): number => notes.push(note);
  const sets = {
    train: await some(data.train, 0, onNote),
    validation: await some(validation, evaluation.validationQuestions, onNote),
    test: await some(data.test, evaluation.questions, onNote),
  };
  const shared = sharedQuestions({ "data.train": sets.train, "data.validation": sets.validation, "data.test": sets.test });
  const answers = normalizerNotes(reward.normalizer, [...sets.train, ...sets.validation, ...sets.test]);
  return { ...sets, notes: [...notes, ...shared, ...answers] };
}

/** What a policy is judged by without training: the test questions. @throws as `openData`, and ConfigError */
export async function openTest(config: Config, onNote: (note: string) => void): Promise<readonly Question[]> {
  const questions = await some(config.data.test, config.evaluation.questions, onNote);
  if (questions.length === 0)
    throw new ConfigError({ where: "data.test", what: "there is nothing to judge by", expected: "a file of questions", got: "null" });
  for (const note of normalizerNotes(config.reward.normalizer, questions)) onNote(note);
  return questions;
}

/** What a person should know of how answers are compared: how many golden answers the `squad` normalizer treats wrongly. @internal */
export function normalizerNotes(normalizer: Config["reward"]["normalizer"], questions: readonly Question[]): string[] {
  if (normalizer !== "squad") return [];
  const answers = questions.flatMap(({ goldenAnswers }) => goldenAnswers);
  const wrong = answers.filter((answer) => normaliseAnswer(answer, "squad") !== normaliseAnswer(answer, "unicode"));
  const [example = ""] = wrong;
  const shown = JSON.stringify(example.length > 40 ? `${example.slice(0, 40)}...` : example);
  if (wrong.length === 0) return [];
  return [
    `note: ${wrong.length} of ${answers.length} golden answers hold what SQuAD's normal form takes wrongly, such as ${shown}; reward.normalizer=unicode takes them right (docs/scores.md)`,
  ];
}

async function some(files: DataFiles, count: number, onNote: (note: string) => void): Promise<Question[]> {
  const questions = await loadQuestions(filesOf(files), { onNote });
  return count === 0 ? questions : questions.slice(0, count);
}
