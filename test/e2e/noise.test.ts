/** Whole runs with noise that the paper does not have. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { compareRuns, killAndResume } from "../../scripts/kill-resume.js";
import { drawKind } from "../../src/search/curriculum.ts";
import { buildIfStale, readRows, settingsFor, shortRun, train } from "../helpers/program.ts";
import { tinyQuickstart } from "../helpers/tiny-quickstart.ts";

let folder: string;
let models: string;
beforeAll(async () => {
  buildIfStale();
  models = await tinyQuickstart();
  folder = mkdtempSync(join(tmpdir(), "zerosearch-noise-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const short = (): string[] => [...shortRun, "train.steps=3", ...settingsFor(models, folder), "data.test=null"];
const metrics = (name: string): Record<string, number>[] =>
  readRows(join(folder, "runs", name, "metrics.jsonl")) as Record<string, number>[];

describe("noise", () => {
  it("that answers to the policy goes on from its saved level after SIGKILL", async () => {
    const band = [
      "curriculum.form=adaptive",
      "curriculum.start=0.1",
      "curriculum.end=0.9",
      "curriculum.rewardLow=0",
      "curriculum.rewardHigh=0",
    ];
    const args = [...short(), ...band, "curriculum.change=0.2"].filter((one) => !one.startsWith("output."));
    await killAndResume({ args, kills: 1, folder, seed: 2 });
    compareRuns(folder, "whole", "killed-1");
    const rows = metrics("whole");
    const levels = rows.map((row) => row["curriculum/noise_probability"]!);
    expect(levels[0]).toBe(0.1);
    // More by .2 after each step that earned anything.
    for (const [i, row] of rows.slice(0, -1).entries())
      expect(levels[i + 1]).toBeCloseTo(levels[i]! + (row["reward/mean"]! > 0 ? 0.2 : 0), 12);
    expect(levels.at(-1)).toBeGreaterThan(0.1);
  });

  it("is drawn for each document, and sets that give answers away are written anew", async () => {
    const wished = ["curriculum.unit=document", "curriculum.start=0.5", "simulator.redraws=3", "train.steps=1", "name=documents"];
    expect(await train([...short(), ...wished])).toMatchObject({ code: 0, stderr: "" });
    const rollouts = readRows(join(folder, "runs", "documents", "rollouts.jsonl")) as unknown as {
      key: { step: number; question: number; rollout: number };
      searches: { turn: number; kind: string; noiseProbability: number; documents: unknown[] }[];
    }[];
    const searches = rollouts.flatMap(({ key, searches }) => searches.map((one) => ({ ...one, key })));
    expect(searches.length).toBeGreaterThan(5);
    for (const { key, turn, kind, noiseProbability } of searches) {
      const kinds = [0, 1, 2].map((document) => drawKind(1, key, turn, noiseProbability, document));
      expect(kind).toBe(kinds.includes("useful") ? "useful" : "noisy");
    }
    expect(metrics("documents")[0]).toHaveProperty("time/simulator_redraws");
  });

  it("refuses a band of rewards that is none", async () => {
    const { code, stderr } = await train([...short(), "curriculum.form=adaptive", "curriculum.rewardLow=0.9"]);
    expect(code).toBe(1);
    expect(stderr).toContain("curriculum.rewardHigh is below curriculum.rewardLow; expected at least 0.9, got 0.6");
  });
});
