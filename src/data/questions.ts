/** Question sets from files: rows of JSON or parquet (`rows.ts`), by the columns that data sets have (`question-row.ts`). */
import type { Question } from "../rl/trajectory.ts";
import { DataError, show } from "../util/errors.ts";
import { counted } from "../util/plural.ts";
import { dataSetOf, filesOf, rowId } from "./data-files.ts";
import { questionColumns, readQuestionRow } from "./question-row.ts";
import { readRows } from "./rows.ts";
import { SeenIds } from "./seen-ids.ts";

export interface LoadQuestionsOptions {
  /** Told, in a line each, of what was left out of a file. */
  readonly onNote?: ((note: string) => void) | undefined;
}

/**
 * Reads questions from a file or several, one after the other: JSON Lines, JSON lists or parquet, plain or packed by gzip or zstd.
 * A row without id is called by its file and number, one without data_source by its file's data set; ids are unique in their data_source.
 * @throws FileError where a file cannot be read or is of another kind; DataError (file:line, expected, got) for the first wrong row.
 */
export async function loadQuestions(source: string | readonly string[], { onNote }: LoadQuestionsOptions = {}): Promise<Question[]> {
  const questions: Question[] = [];
  const ids = new SeenIds();
  for (const file of filesOf(source)) {
    const leftOut = new LeftOut();
    const before = questions.length;
    const dataSource = dataSetOf(file);
    const columns = (names: readonly string[], meanBytes: (name: string) => number) => {
      const chosen = questionColumns(names, meanBytes, file);
      if (names.includes("metadata") && !chosen.includes("metadata")) leftOut.metadata = "all rows";
      return chosen;
    };
    for await (const { value, row, where } of readRows(file, { what: "question file", columns })) {
      const read = readQuestionRow(value, where, { id: rowId(file, row), dataSource });
      leftOut.add(read.badAnswers, read.metadataLeftOut, where);
      ids.add(`${read.question.dataSource}\n${read.question.id}`, where, where, read.question.id);
      questions.push(read.question);
    }
    if (questions.length === before)
      throw new DataError({ where: file, what: "the question file is empty", expected: "at least one row", got: "none" });
    for (const note of leftOut.notes()) onNote?.(`${file}: ${note}`);
  }
  return questions;
}

/** What of a file was not taken. */
class LeftOut {
  metadata: number | "all rows" = 0;
  #answers = 0;
  #first = "";

  add(badAnswers: readonly unknown[], metadata: boolean, where: string): void {
    if (badAnswers.length > 0 && this.#answers === 0) this.#first = `${where}: ${show(badAnswers[0])}`;
    this.#answers += badAnswers.length;
    if (metadata && typeof this.metadata === "number") this.metadata++;
  }

  notes(): string[] {
    const notes: string[] = [];
    if (this.#answers > 0)
      notes.push(
        `${this.#answers} golden ${this.#answers === 1 ? "answer is" : "answers are"} empty or no text, and left out (${this.#first})`,
      );
    if (this.metadata !== 0)
      notes.push(
        `metadata of ${this.metadata === "all rows" ? "all rows" : counted(this.metadata, "row")} is larger than 4 KiB, and left out`,
      );
    return notes;
  }
}
