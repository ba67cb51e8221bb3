/** Counts the questions whose answers the corpus does not hold, once for a folder. */
import { existsSync, readFileSync } from "node:fs";
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { writeFileAtomic } from "../../checkpoint/atomic.ts";
import { hashFile } from "../../checkpoint/run-state.ts";
import type { Config } from "../../config/index.ts";
import { measureCoverage, type SetCoverage } from "../../evaluation/coverage.ts";
import { gridFiles } from "../../evaluation/folder.ts";
import { Progress } from "../../log/progress.ts";
import type { Question } from "../../rl/trajectory.ts";
import { readPassages } from "../../search/passages.ts";
import { scoreRules } from "../../setup/open-agents.ts";
import { attempt } from "../../util/errors.ts";
import { say } from "../program.ts";
import { hashOf } from "./identity.ts";

interface Kept {
  readonly corpus: string;
  readonly questions: string;
  readonly sets: readonly SetCoverage[];
}

const MIB = 2 ** 20;

/** Null where no engine searches `data.corpus`. @throws as `readPassages` */
export async function coverageOf(
  config: Config,
  engines: readonly string[],
  questions: readonly Question[],
  { out, signal }: { readonly out: string | undefined; readonly signal: AbortSignal },
): Promise<readonly SetCoverage[] | null> {
  const { corpus } = config.data;
  const searching = engines.filter((name) => name === "bm25" || name === "dense");
  if (searching.length === 0) return null;
  if (corpus === null) {
    say("data.corpus is not given: whether the index of it holds the answers is not looked at");
    return null;
  }
  const rules = scoreRules(config);
  const file = out === undefined ? null : join(out, gridFiles.coverage);
  const key =
    file === null
      ? null
      : {
          corpus: await hashFile(corpus),
          questions: hashOf([rules, questions.map(({ dataSource, goldenAnswers }) => [dataSource, goldenAnswers])]),
        };
  if (file !== null && existsSync(file)) {
    const kept = attempt<Kept | null>(() => JSON.parse(readFileSync(file, "utf8")) as Kept, null);
    if (kept !== null && kept.corpus === key?.corpus && kept.questions === key.questions) return kept.sets;
  }
  const total = (await stat(corpus)).size / MIB;
  const progress = new Progress({ label: "looking for the answers in data.corpus, MiB", total, unit: "MiB", plainInterval: 15_000 });
  try {
    const passages = readPassages(corpus, (bytes) => progress.update(Math.min(total, bytes / MIB)));
    const sets = await measureCoverage(passages, questions, { rules, signal });
    if (file !== null) await writeFileAtomic(file, `${JSON.stringify({ ...key, sets })}\n`);
    return sets;
  } finally {
    progress.finish();
  }
}
