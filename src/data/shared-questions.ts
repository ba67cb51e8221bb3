/** Whether what a policy is judged by was kept from its training. */
import { realpathSync } from "node:fs";
import type { Question } from "../rl/trajectory.ts";
import { ConfigError } from "../util/errors.ts";
import { filesOf, type DataFiles } from "./data-files.ts";

/** By the setting that named them: `data.train`. */
export type QuestionSets = Readonly<Record<string, readonly Question[]>>;

/** One line for each two sets that share questions: how many, and one of them. Case, spaces and the mark at the end do not count. */
export function sharedQuestions(sets: QuestionSets): string[] {
  const texts = Object.entries(sets).map(([name, questions]) => ({
    name,
    questions: new Map(questions.map((one) => [plainQuestion(one), one])),
  }));
  return texts.flatMap(({ name, questions }, i) =>
    texts.slice(i + 1).flatMap((other) => {
      const shared = [...other.questions].filter(([text]) => questions.has(text));
      const [first] = shared;
      if (first === undefined) return [];
      const count = `${shared.length} of the ${other.questions.size} questions of ${other.name}`;
      return [
        `${count} ${shared.length === 1 ? "is" : "are"} in ${name} as well, such as ${JSON.stringify(first[1].question.slice(0, 80))}`,
      ];
    }),
  );
}

/** A question as it is compared with others: case, spaces and the mark at the end do not count. */
export function plainQuestion({ question }: Pick<Question, "question">): string {
  return question
    .normalize("NFKC")
    .toLowerCase()
    .replaceAll(/\s+/g, " ")
    .replace(/[\s?.!？。！]+$/u, "")
    .trim();
}

/** @throws ConfigError where one file is in two of the sets. */
export function refuseSameFile(sets: Readonly<Record<string, DataFiles>>): void {
  const owners = new Map<string, string>();
  for (const [name, files] of Object.entries(sets))
    for (const file of new Set(filesOf(files).map(placeOf))) {
      const owner = owners.get(file);
      if (owner !== undefined)
        throw new ConfigError({
          where: name,
          what: `has the same file as ${owner}`,
          expected: "other questions than those",
          got: file,
          hint: "data.allowSameFile=true allows it; what is measured is then how well questions are remembered.",
        });
      owners.set(file, name);
    }
}

function placeOf(file: string): string {
  try {
    return realpathSync(file);
  } catch {
    // Whoever reads it says what is wrong.
    return file;
  }
}
