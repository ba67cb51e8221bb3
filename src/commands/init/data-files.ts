/** The data of a new project: one's own questions shared out, or examples that show the form. */
import { loadQuestions } from "../../data/questions.ts";
import { makeRandom } from "../../data/random.ts";
import type { Question } from "../../rl/trajectory.ts";
import { readPassages } from "../../search/passages.ts";
import { DataError } from "../../util/errors.ts";

export const parts = ["train", "validation", "test"] as const;
export type Parts = Readonly<Record<(typeof parts)[number], readonly Question[]>>;

/** Most questions of a part that are kept from training: more would make every judgement slower, and little surer. */
const most = { validation: 100, test: 300 };

/**
 * Shares questions out: a tenth to validation, a fifth to test, the rest to training. Rows that ask the same go to the same part; which, is
 * the same for the same rows.
 * @throws DataError for fewer than three different questions.
 */
export function shareOut(questions: readonly Question[], source: string): Parts {
  const groups = new Map<string, Question[]>();
  for (const one of questions) {
    const text = one.question.trim().toLowerCase();
    groups.set(text, [...(groups.get(text) ?? []), one]);
  }
  const all = [...groups.values()];
  if (all.length < parts.length)
    throw new DataError({
      where: source,
      what: "too few questions to train on some, to choose by others, and to test on others again",
      expected: "at least 3 that differ",
      got: String(all.length),
    });
  const order = makeRandom("init/questions").shuffle(all);
  const validation = Math.min(most.validation, Math.max(1, Math.round(all.length / 10)));
  const test = validation + Math.min(most.test, Math.max(1, Math.round(all.length / 5)));
  return { validation: order.slice(0, validation).flat(), test: order.slice(validation, test).flat(), train: order.slice(test).flat() };
}

/** @throws as `loadQuestions` and `shareOut` */
export async function ownQuestions(file: string): Promise<Parts> {
  return shareOut(await loadQuestions(file), file);
}

/** Passages of a corpus, every row of which is looked at. @throws as `readPassages`; DataError where there are none. */
export async function countPassages(file: string): Promise<number> {
  let count = 0;
  for (const rows = readPassages(file); (await rows.next()).done !== true;) count++;
  if (count === 0) throw new DataError({ where: file, what: "the corpus is empty", expected: "at least one passage", got: "none" });
  return count;
}

/** Rows of a question file. */
export function questionRows(questions: readonly Question[]): string {
  return jsonLines(
    questions.map(({ id, question, goldenAnswers, dataSource, metadata }) => ({
      id,
      question,
      golden_answers: goldenAnswers,
      data_source: dataSource,
      ...(metadata === undefined ? {} : { metadata }),
    })),
  );
}

const jsonLines = (rows: readonly object[]): string => rows.map((row) => `${JSON.stringify(row)}\n`).join("");

/** An invented museum: what no model can know, so that it must be searched for. Fact: question, answers, passage. */
const facts: Readonly<Record<(typeof parts)[number], readonly (readonly [string, readonly string[], string])[]>> = {
  train: [
    [
      "In which year did the Lindholm Rope Museum open?",
      ["1931"],
      "The Lindholm Rope Museum opened in 1931, in the last rope factory of the town.",
    ],
    [
      "Who directs the Lindholm Rope Museum?",
      ["Ada Brenner"],
      "Ada Brenner has directed the Lindholm Rope Museum since 2014. She was a sailmaker before.",
    ],
    [
      "On which day of the week is the Lindholm Rope Museum closed?",
      ["Monday", "on Mondays"],
      "The Lindholm Rope Museum is open from ten to five. It is closed on Mondays and in January.",
    ],
  ],
  validation: [
    [
      "What does a ticket for the Lindholm Rope Museum cost?",
      ["6 euros", "six euros"],
      "A ticket for the Lindholm Rope Museum costs 6 euros; children pay nothing.",
    ],
    [
      "How long is the ropewalk of the Lindholm Rope Museum?",
      ["320 metres", "320 m"],
      "The ropewalk of the Lindholm Rope Museum is 320 metres long, and visitors may walk all of it.",
    ],
    [
      "Which tram stops at the Lindholm Rope Museum?",
      ["tram 4", "4", "number 4"],
      "Tram 4 stops in front of the Lindholm Rope Museum; from the station it takes eight minutes.",
    ],
  ],
  test: [
    [
      "What is the oldest object in the Lindholm Rope Museum?",
      ["an anchor cable", "anchor cable"],
      "The oldest object in the Lindholm Rope Museum is an anchor cable of hemp, made about 1690.",
    ],
    [
      "Who founded the rope factory of Lindholm?",
      ["Jonas Weil"],
      "The rope factory of Lindholm was founded in 1848 by Jonas Weil, and made rope until 1929.",
    ],
    [
      "What is served in the café of the Lindholm Rope Museum?",
      ["cinnamon buns", "cinnamon knots"],
      "The café of the Lindholm Rope Museum serves cinnamon buns that are tied like knots.",
    ],
  ],
};

/** Three rows a part. */
export function exampleQuestions(): Parts {
  const of = (part: (typeof parts)[number]): Question[] =>
    facts[part].map(([question, goldenAnswers], i) => ({ id: `${part}-${i + 1}`, question, goldenAnswers, dataSource: "example" }));
  return { train: of("train"), validation: of("validation"), test: of("test") };
}

/** The passages that answer all of them. */
export function exampleCorpus(): string {
  const passages = parts.flatMap((part) => facts[part].map(([, , text]) => text));
  return jsonLines(passages.map((text, i) => ({ id: String(i + 1), title: "Lindholm Rope Museum", text })));
}
