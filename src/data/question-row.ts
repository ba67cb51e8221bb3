/**
 * A question from a row of a data set, by the columns that data sets of this field have: those of FlashRAG, Search-R1 and ZeroSearch (`question`,
 * `golden_answers`), of NQ-open (`answer`), and of verl (`reward_model.ground_truth.target`, and the question in `extra_info` or in a prompt).
 */
import type { Question } from "../rl/trajectory.ts";
import { DataError, show } from "../util/errors.ts";

/** What a row leaves out. */
export interface RowDefaults {
  readonly id: string;
  readonly dataSource: string;
}

export interface ReadQuestion {
  readonly question: Question;
  /** Answers that are none: empty, no text, or too long. */
  readonly badAnswers: readonly unknown[];
  /** Whether it had metadata too large to be kept. */
  readonly metadataLeftOut: boolean;
}

/** Bytes of a question, and of an answer: longer ones are no questions, and would stall a tokenizer. */
const LONGEST_TEXT = 2 ** 20;
/** Characters of metadata, as JSON, that are kept: some data sets have whole documents in it. */
const LONGEST_METADATA = 4096;

/** Where answers may be, the first that has any counts. */
const answerColumns: readonly string[] = [
  "golden_answers",
  "answers",
  "answer",
  "reward_model.ground_truth.target",
  "reward_model.ground_truth",
];

/** @throws DataError for a row without a question or without any good answer, and for columns of the wrong type. */
export function readQuestionRow(row: unknown, where: string, defaults: RowDefaults): ReadQuestion {
  if (!isObject(row)) throw new DataError({ where, what: "not a question row", expected: "an object", got: show(row) });
  const { id = null, data_source: dataSource = null, metadata = null } = row;
  if (id !== null && (typeof id !== "string" || id === "") && typeof id !== "number")
    throw new DataError({ where, what: "wrong id", expected: "a text or a number", got: show(id) });
  if (dataSource !== null && typeof dataSource !== "string")
    throw new DataError({ where, what: "wrong data_source", expected: "a text", got: show(dataSource) });
  if (metadata !== null && !isObject(metadata))
    throw new DataError({ where, what: "wrong metadata", expected: "an object", got: show(metadata) });
  const { goldenAnswers, badAnswers } = answersOf(row, where);
  const keepsMetadata = metadata !== null && isShort(metadata);
  return {
    question: {
      id: id === null ? defaults.id : String(id),
      question: questionOf(row, where),
      goldenAnswers,
      dataSource: dataSource ?? defaults.dataSource,
      ...(keepsMetadata ? { metadata } : {}),
    },
    badAnswers,
    metadataLeftOut: metadata !== null && !keepsMetadata,
  };
}

/** The columns of a parquet file that a question is read from; a prompt only where nothing else has the question, metadata where it is small. */
export function questionColumns(names: readonly string[], meanBytes: (name: string) => number, where: string): string[] {
  const question = ["question", "extra_info", "prompt"].filter((name) => names.includes(name));
  const answers = [...new Set(answerColumns.map((column) => column.split(".")[0] ?? ""))].filter((name) => names.includes(name));
  if (question.length === 0 || answers.length === 0)
    throw new DataError({
      where,
      what: `has no column of ${question.length === 0 ? "questions" : "answers"}`,
      expected: question.length === 0 ? "question, or a prompt" : answerColumns.slice(0, 4).join(", "),
      got: names.slice(0, 20).join(", "),
    });
  const others = ["id", "data_source", "metadata"].filter((name) => names.includes(name));
  const kept = others.filter((name) => name !== "metadata" || meanBytes(name) <= LONGEST_METADATA);
  return [...(question[0] === "question" ? ["question"] : question), ...answers, ...kept];
}

function questionOf(row: Row, where: string): string {
  const given = row["question"] ?? at(row, "extra_info.question");
  const question = given ?? promptQuestion(row["prompt"], where);
  if (typeof question !== "string" || question.trim() === "")
    throw new DataError({ where, what: "wrong question", expected: "a text", got: show(question ?? undefined) });
  if (Buffer.byteLength(question) > LONGEST_TEXT)
    throw new DataError({
      where,
      what: "the question is too long",
      expected: `at most ${LONGEST_TEXT} bytes`,
      got: `${Buffer.byteLength(question)}`,
    });
  return question;
}

const MARK = "Question:";

/** The question in a prompt as Search-R1 and verl write it: what follows `Question:` in the user's message. Undefined without a prompt. */
function promptQuestion(prompt: unknown, where: string): string | undefined {
  if (prompt === undefined || prompt === null) return undefined;
  const messages = Array.isArray(prompt) ? (prompt as unknown[]).filter(isObject) : [];
  const content = typeof prompt === "string" ? prompt : messages.filter(({ role }) => role === "user").at(-1)?.["content"];
  const parts = typeof content === "string" ? content.split(MARK) : [];
  if (parts.length === 2) return parts[1]?.trim();
  throw new DataError({
    where,
    what: "the row has no question, and none can be told from its prompt",
    expected: `question, extra_info.question, or one "${MARK}" in the user's message`,
    got: parts.length === 0 ? show(prompt) : `${parts.length - 1} of them`,
  });
}

function answersOf(row: Row, where: string): { goldenAnswers: string[]; badAnswers: unknown[] } {
  const given = answerColumns
    .map((column) => [column, at(row, column)] as const)
    .filter(([, value]) => value !== undefined && value !== null);
  for (const [column, value] of given) {
    // MuSiQue keeps the other forms of its one answer beside it.
    const all = [
      ...listOf(value, column, where),
      ...(column === "answer" ? listOf(row["answer_aliases"] ?? [], "answer_aliases", where) : []),
    ];
    const goldenAnswers = all.filter(isAnswer);
    if (goldenAnswers.length > 0) return { goldenAnswers, badAnswers: all.filter((answer) => !isAnswer(answer)) };
  }
  throw new DataError({
    where,
    what: "a row without answers",
    expected: `golden_answers: a list of at least one text (or ${answerColumns.slice(1, 4).join(", ")})`,
    got: show(given[0]?.[1]),
  });
}

/** A text is one answer; a list written as a text would be one that nobody can give. */
function listOf(value: unknown, column: string, where: string): readonly unknown[] {
  if (Array.isArray(value)) return value as unknown[];
  if (typeof value === "string" && /^\s*\[.*\]\s*$/s.test(value))
    throw new DataError({ where, what: `${column} is a list written as a text`, expected: "a list of texts", got: show(value) });
  return [value];
}

function isAnswer(answer: unknown): answer is string {
  return typeof answer === "string" && answer.trim() !== "" && Buffer.byteLength(answer) <= LONGEST_TEXT;
}

function isShort(metadata: Row): boolean {
  try {
    return JSON.stringify(metadata).length <= LONGEST_METADATA;
  } catch {
    // Nested deeper than it can be written again.
    return false;
  }
}

type Row = Readonly<Record<string, unknown>>;

function isObject(value: unknown): value is Row {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !ArrayBuffer.isView(value);
}

/** A value by a dotted path. */
function at(row: Row, path: string): unknown {
  return path.split(".").reduce<unknown>((inner, name) => (isObject(inner) ? inner[name] : undefined), row);
}
