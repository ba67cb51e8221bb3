/** What a simulator is asked for a report. */
import { z } from "zod";
import { readRows } from "../data/rows.ts";
import type { Question } from "../rl/trajectory.ts";
import { DataError, show } from "../util/errors.ts";
import type { ReportQuery } from "./report.ts";

/** The questions' own, or the first search of each question in a file of rollouts. */
export type QuerySource = "questions" | { readonly file: string };

const searched = z.looseObject({
  question: z.looseObject({ question: z.string() }),
  searches: z.array(z.looseObject({ query: z.string() })),
});
const first = z.looseObject({ queries: z.array(z.union([z.string(), z.looseObject({ query: z.string() })])).min(1) });

/** A query for each question that has one. @throws FileError, DataError: a file that cannot be read, a row that is no rollout; none that fits. */
export async function queriesOf(questions: readonly Question[], source: QuerySource): Promise<ReportQuery[]> {
  if (source === "questions")
    return questions.map((question) => {
      const [own] = first.safeParse(question.metadata).data?.queries ?? [];
      return { question, query: own === undefined ? question.question : typeof own === "string" ? own : own.query };
    });
  const queries = new Map<string, string>();
  for await (const { value, where } of readRows(source.file, { what: "file of rollouts" })) {
    const read = searched.safeParse(value);
    if (!read.success)
      throw new DataError({ where, what: "is no rollout", expected: "{question: {question}, searches: [{query}]}", got: show(value) });
    const [search] = read.data.searches;
    const text = read.data.question.question;
    if (search !== undefined && search.query.trim() !== "" && !queries.has(text)) queries.set(text, search.query);
  }
  const found = questions.flatMap((question): ReportQuery[] => {
    const query = queries.get(question.question);
    return query === undefined ? [] : [{ question, query }];
  });
  if (found.length === 0)
    throw new DataError({
      where: source.file,
      what: "holds no search for a question of data.test",
      expected: "rollouts of these questions",
      got: `${queries.size} others`,
    });
  return found;
}
