/** Whole runs of the trainer on a GPU: repeated, killed and resumed, they end in the same bits. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { killAndResume } from "../../../scripts/kill-resume.js";
import { buildIfStale, readRows, settingsFor, shortRun, train } from "../../helpers/program.ts";
import { tinyQuickstart } from "../../helpers/tiny-quickstart.ts";

let folder: string;
let args: readonly string[];

beforeAll(async () => {
  buildIfStale();
  folder = mkdtempSync(join(tmpdir(), "zerosearch-webgpu-"));
  args = [
    ...shortRun,
    ...settingsFor(await tinyQuickstart(), folder),
    "device.kind=webgpu",
    "train.steps=3",
    "train.questionsPerStep=2",
    "evaluation.questions=4",
    "evaluation.validationQuestions=4",
  ];
}, 600_000);
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

it("a run on webgpu that is killed and resumed ends in the bits of one that was left alone", async () => {
  const kills = await killAndResume({
    args: args.filter((one) => !one.startsWith("output.")),
    kills: 1,
    folder: join(folder, "killed"),
    seed: 3,
  });
  expect(kills).toHaveLength(1);
}, 900_000);

it("a run in f16 says so, names the adapter first, and reports mismatch 0 and the loss scale in every step", async () => {
  const { stdout, code } = await train([...args, "device.precision=f16", "model.cacheDtype=f16", "name=half", "train.validateEvery=0"]);
  expect(code).toBe(0);
  expect(stdout).toMatch(/^device: webgpu: .*f16/m);
  const rows = readRows(join(folder, "runs", "half", "metrics.jsonl"));
  expect(rows.map((row) => row["rollout/logprob_mismatch_max"])).toEqual([0, 0, 0]);
  expect(rows.every((row) => Number(row["train/loss_scale"]) >= 1)).toBe(true);
}, 900_000);
