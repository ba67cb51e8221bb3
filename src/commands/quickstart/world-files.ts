/** The files of the quickstart's world: questions, corpus, and where the facts come from. */
import { join } from "node:path";
import { makeFolder, writeFileAtomic } from "../../checkpoint/atomic.ts";
import { worldAttribution } from "../../data/quickstart/countries.ts";
import {
  commonestAnswers,
  commonestAnswerScore,
  evaluationQuestions,
  trainingQuestions,
  validationQuestions,
} from "../../data/quickstart/question-sets.ts";
import type { QuickstartQuestion, World } from "../../data/quickstart/world.ts";
import { formatTable } from "../../log/table.ts";
import { scoreAnswer } from "../../rl/reward.ts";

const jsonLines = (rows: readonly object[]): string => rows.map((row) => `${JSON.stringify(row)}\n`).join("");

/** Writes `train.jsonl`, `validation.jsonl`, `test.jsonl`, `corpus.jsonl` and a README with the licence of the facts into `folder`. */
export async function writeWorld(world: World, folder: string): Promise<void> {
  await makeFolder(folder);
  const sets = {
    train: trainingQuestions(world),
    validation: alternate(validationQuestions(world)),
    test: alternate(evaluationQuestions(world)),
  };
  for (const [name, questions] of Object.entries(sets)) await writeFileAtomic(join(folder, `${name}.jsonl`), jsonLines(questions));
  await writeFileAtomic(join(folder, "corpus.jsonl"), jsonLines(world.passages));
  await writeFileAtomic(join(folder, "README.md"), readme(world, sets));
}

/** One-hop and two-hop questions in turns, each kind in its own order: the first n of a file are as balanced as all. */
export function alternate(questions: readonly QuickstartQuestion[]): QuickstartQuestion[] {
  const [one, two] = ([1, 2] as const).map((hops) => questions.filter(({ metadata }) => metadata.hops === hops)) as [
    QuickstartQuestion[],
    QuickstartQuestion[],
  ];
  return Array.from({ length: Math.max(one.length, two.length) }, (_, i) => [...one.slice(i, i + 1), ...two.slice(i, i + 1)]).flat();
}

/** The share of each relation, its commonest answer, and what blind guessing would score: the floor under every result. */
function guessingTable(questions: readonly QuickstartQuestion[]): string {
  const rows = commonestAnswers(questions);
  const table = formatTable(
    [
      { title: "relation", value: (row) => row.relation },
      { title: "of questions", value: (row) => `${(100 * row.questionShare).toFixed(1)} %` },
      { title: "commonest answer", value: (row) => row.answer },
      { title: "right in", value: (row) => `${(100 * row.answerShare).toFixed(1)} %` },
    ],
    rows,
  );
  const f1 = commonestAnswerScore(questions, (prediction, golds) => scoreAnswer(prediction, golds).f1);
  return `${table}\nAlways giving a relation's commonest answer: F1 ${f1.toFixed(3)}`;
}

function readme(world: World, sets: Readonly<Record<string, readonly QuickstartQuestion[]>>): string {
  const rows = Object.entries(sets).map(([name, questions]) => {
    const single = questions.filter(({ metadata }) => metadata.hops === 1).length;
    return `| ${name}.jsonl | ${questions.length} questions: ${single} one-hop, ${questions.length - single} two-hop |`;
  });
  return `# The quickstart's world

Made by \`npx zerosearch quickstart build\`. ${worldAttribution}

| file | content |
|---|---|
${rows.join("\n")}
| corpus.jsonl | ${world.passages.length} passages, one sentence each |

Countries of the validation and test questions occur in nothing that policy or simulator was trained on; the corpus, which the real search engine
searches, tells about all.

\`\`\`
${guessingTable(sets["test"] ?? [])}
\`\`\`
`;
}
