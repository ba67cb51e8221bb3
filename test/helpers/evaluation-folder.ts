/** A folder with a tiny policy and simulator, two question sets and a corpus, for programs that evaluate. */
import { cpSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildIfStale, readRows } from "./program.ts";
import { tinyQuickstart } from "./tiny-quickstart.ts";

/** What a whole evaluation of it is asked for: five rows of 22 questions. */
export const wholeTable: readonly string[] = [
  ...["--config", "judge.yaml", "--methods", "zerosearch,rag,direct"],
  ...["--sets", "nq,my=mine.jsonl", "--engines", "bm25,simulated:useful"],
];

export async function evaluationFolder(): Promise<string> {
  buildIfStale();
  const models = await tinyQuickstart();
  const folder = mkdtempSync(join(tmpdir(), "zerosearch-table-"));
  for (const name of ["policy", "simulator"]) cpSync(join(models, name), join(folder, name), { recursive: true });
  for (const name of ["test", "corpus"]) cpSync(join(models, "world", `${name}.jsonl`), join(folder, `${name}.jsonl`));
  // A set of one's own, and one of the table.
  const rows = readRows(join(folder, "test.jsonl"));
  const part = (from: number, to: number, source?: string): string =>
    rows
      .slice(from, to)
      .map((row) => `${JSON.stringify({ ...row, data_source: source })}\n`)
      .join("");
  writeFileSync(join(folder, "mine.jsonl"), part(0, 12));
  writeFileSync(join(folder, "nq_test.jsonl"), part(12, 22, "nq"));
  writeFileSync(
    join(folder, "judge.yaml"),
    "model: { policy: policy }\ndata: { test: test.jsonl, corpus: corpus.jsonl }\n" +
      "simulator: { path: simulator, prompt: quickstart, documents: 3, maxNewTokens: 60, temperature: 0.2 }\n" +
      "rollout: { prompt: quickstart, maxTurns: 3, maxNewTokens: 40, maxObservationTokens: 110, maxContextTokens: 560 }\n" +
      "bm25: { documents: 3 }\nevaluation: { setsFolder: ., bootstrapSamples: 200 }\n",
  );
  return folder;
}
