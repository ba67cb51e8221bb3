/**
 * Question sets as JSON Lines: `{"id", "question", "golden_answers": [...], "data_source"?, "metadata"?}`, one row a line.
 * These are the fields of ZeroSearch's and Search-R1's data sets; further ones are ignored.
 */
import { readFile } from "node:fs/promises";
import type { Question } from "../rl/trajectory.ts";
import { DataError, FileError, show } from "../util/errors.ts";

/**
 * Reads a question file.
 * @throws FileError when it cannot be read, DataError (file:line, expected, got) for the first wrong row.
 */
export async function loadQuestions(path: string): Promise<Question[]> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    throw new FileError({ where: path, what: "cannot read the question file", got: (error as Error).message }, { cause: error });
  }
  return parseQuestions(text, path);
}

/**
 * Parses the text of a question file; blank lines are skipped.
 * @param source - named in errors, usually the path
 * @throws DataError for an empty file, broken JSON, a row without question or answers, a duplicate id.
 */
export function parseQuestions(text: string, source: string): Question[] {
  const questions: Question[] = [];
  const lineOfId = new Map<string, number>();
  text
    .replace(/^\ufeff/, "")
    .split("\n")
    .forEach((line, index) => {
      if (line.trim() === "") return;
      const where = `${source}:${index + 1}`;
      const question = parseRow(line, where);
      const first = lineOfId.get(question.id);
      if (first !== undefined)
        throw new DataError({
          where,
          what: "duplicate id",
          expected: "an id that occurs once",
          got: `${JSON.stringify(question.id)}, also on line ${first}`,
        });
      lineOfId.set(question.id, index + 1);
      questions.push(question);
    });
  if (questions.length === 0)
    throw new DataError({ where: source, what: "the question file is empty", expected: "at least one row", got: "none" });
  return questions;
}

function parseRow(line: string, where: string): Question {
  let row: unknown;
  try {
    row = JSON.parse(line);
  } catch (error) {
    throw new DataError({ where, what: "not JSON", expected: "one object a line", got: (error as Error).message }, { cause: error });
  }
  if (!isObject(row)) throw new DataError({ where, what: "not a question row", expected: "an object", got: show(row) });
  const { id, question, golden_answers: answers, data_source: dataSource = "unknown", metadata } = row;
  if ((typeof id !== "string" || id === "") && typeof id !== "number")
    throw new DataError({ where, what: "wrong id", expected: "a text or a number", got: show(id) });
  if (typeof question !== "string" || question.trim() === "")
    throw new DataError({ where, what: "wrong question", expected: "a text", got: show(question) });
  if (!Array.isArray(answers) || answers.length === 0) {
    throw new DataError({
      where,
      what: "a row without answers",
      expected: "golden_answers: a list of at least one text",
      got: show(answers),
    });
  }
  for (const answer of answers as unknown[]) {
    if (typeof answer !== "string" || answer.trim() === "")
      throw new DataError({ where, what: "wrong golden answer", expected: "a text", got: show(answer) });
  }
  if (typeof dataSource !== "string") throw new DataError({ where, what: "wrong data_source", expected: "a text", got: show(dataSource) });
  // Data sets exported from parquet write an absent map as null.
  if (metadata !== undefined && metadata !== null && !isObject(metadata))
    throw new DataError({ where, what: "wrong metadata", expected: "an object", got: show(metadata) });
  return { id: String(id), question, goldenAnswers: [...(answers as string[])], dataSource, ...(isObject(metadata) ? { metadata } : {}) };
}

type Row = {
  readonly id?: unknown;
  readonly question?: unknown;
  readonly golden_answers?: unknown;
  readonly data_source?: unknown;
  readonly metadata?: unknown;
} & Readonly<Record<string, unknown>>;

function isObject(value: unknown): value is Row {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
