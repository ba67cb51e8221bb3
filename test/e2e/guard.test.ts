/** Runs of the quickstart's models that are made to collapse: what the guard does then. */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { buildIfStale, readRows, train } from "../helpers/program.ts";
import { hasQuickstart } from "../helpers/tiny-quickstart.ts";

let folder: string;
const hot = [
  ...["optimizer.learningRate=1e-3", "algorithm.clipLow=1", "algorithm.clipHigh=1000", "train.steps=12", "train.updatesPerStep=2"],
  ...[
    "train.questionsPerStep=8",
    "train.validateEvery=2",
    "evaluation.validationQuestions=20",
    "train.saveEvery=1",
    "train.keepCheckpoints=99",
  ],
  "data.test=null",
];
const run = (name: string, ...more: string[]) =>
  train([...hot, ...more, `name=${name}`, `output.runs=${join(folder, "runs")}`, `output.checkpoints=${join(folder, "checkpoints")}`]);
const steps = (name: string): number[] => readRows(join(folder, "runs", name, "metrics.jsonl")).map((row) => row["step"] as number);

beforeAll(() => {
  buildIfStale();
  folder = mkdtempSync(join(tmpdir(), "zerosearch-guard-"));
});
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

describe.skipIf(!hasQuickstart)("a run that collapses", () => {
  it("ends where it is asked to: the step is saved, the reason is said, exit code 1", async () => {
    const { code, stdout, stderr } = await run("stops", "guard.action=stop");
    expect(code).toBe(1);
    const [, at] = /step (\d+): training is about to collapse: (.+)/.exec(stderr) ?? [];
    expect(Number(at)).toBeLessThan(12);
    expect(stdout).toContain(`Stopped after step ${at} of 12; saved in`);
    expect(stdout).toMatch(new RegExp(`warning: step ${at}: \\S+`));
    expect(steps("stops").at(-1)).toBe(Number(at));
  });

  it("goes back to a good state where it is asked to, with half the learning rate, and deletes what came after it", async () => {
    const { stdout } = await run("returns", "guard.action=rollback");
    const said = /^(?:Back to the state of step (\d+), with (0\.\d+) of|Step (\d+) is the best so far: on from it with (0\.\d+) of)/gm;
    const turns = [...stdout.matchAll(said)].map(([, back, slow, stay, on]) => ({ to: Number(back ?? stay), rate: Number(slow ?? on) }));
    expect(turns.length).toBeGreaterThan(0);
    expect(turns.map(({ rate }) => rate)).toEqual(turns.map((_, i) => 0.5 ** (i + 1)));
    // One row a step, in order, whatever was thrown away.
    const done = steps("returns");
    expect(done).toEqual(done.map((_, i) => i + 1));
    const last = turns.at(-1)!;
    const rows = readRows(join(folder, "runs", "returns", "metrics.jsonl"));
    const rate = 1e-3 * last.rate;
    for (const row of rows.filter((one) => (one["step"] as number) > Math.max(3, last.to))) expect(row["policy/lr"]).toBeCloseTo(rate, 9);
    if (stdout.includes("Back to the state")) expect(existsSync(join(folder, "runs", "returns", "receipt.json"))).toBe(false);
    const saved = readdirSync(join(folder, "checkpoints", "returns")).filter((name) => name.startsWith("step-"));
    const newest = JSON.parse(readFileSync(join(folder, "checkpoints", "returns", saved.sort().at(-1)!, "state.json"), "utf8")) as {
      step: number;
      extra: { memory: { rollbacks: { to: number; from: number; signs: string[] }[] } };
    };
    expect(newest.step).toBe(done.at(-1));
    expect(newest.extra.memory.rollbacks.map(({ to }) => to)).toEqual(turns.map(({ to }) => to));
    expect(newest.extra.memory.rollbacks.every(({ signs }) => signs.length > 0)).toBe(true);
  });
});
