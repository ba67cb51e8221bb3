/** The committed weights of the quickstart's further formats speak them: with every configuration, nearly every rollout is valid, and what should search does. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { JudgedRow } from "../../src/evaluation/judge.ts";
import { isValid } from "../../src/rl/metrics.ts";
import { buildIfStale, readRows, start } from "../helpers/program.ts";
import { root } from "../helpers/tiny-quickstart.ts";

let folder: string;
beforeAll(() => {
  buildIfStale();
  folder = mkdtempSync(join(tmpdir(), "zerosearch-formats-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

it.each([
  { name: "cot", searches: false },
  { name: "r1", searches: false },
  { name: "search-r1", searches: true },
  { name: "ra-agent", searches: true },
  { name: "search-o1", searches: true, secondPass: true },
  { name: "tools", searches: true },
  { name: "chat-zerosearch", searches: true },
  { name: "chat-r1", searches: false },
  { name: "chat-search-r1", searches: true },
])("by quickstart-$name", async ({ name, searches, secondPass = false }) => {
  const config = join(root, "configs", "methods", `quickstart-${name}.yaml`);
  const settings = ["evaluation.baselines=false", "evaluation.robustness=false", "evaluation.questions=60", "device.kind=cpu"];
  const args = ["evaluate", "--config", config, ...settings, "--out", name];
  const { code } = await start(process.execPath, [join(root, "bin", "zerosearch.js"), ...args], { cwd: folder });
  expect(code).toBe(0);
  const rows = readRows(join(folder, name, "judged.jsonl")) as unknown as JudgedRow[];
  expect(rows).toHaveLength(60);
  // .973 to 1 of all 300 questions (checkpoints/quickstart/README.md).
  expect(rows.filter(isValid).length).toBeGreaterThanOrEqual(54);
  const searched = rows.filter((row) => row.searches.length > 0);
  if (searches) expect(searched.length).toBeGreaterThanOrEqual(9);
  else expect(searched).toEqual([]);
  if (secondPass) for (const row of searched) expect(row.asides).toHaveLength(row.searches.length);
  // Names are copied into queries: what is asked for is found.
  if (searches) expect(searched.some((row) => row.searches.some(({ containsGold }) => containsGold))).toBe(true);
});
