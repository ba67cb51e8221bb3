/** The preset of the released code in a run of its own: what its records must show, checked against each other. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openTraining, packagedConfig, type SearchTrajectory } from "../../src/index.ts";
import { settingsFor, shortRun } from "../helpers/program.ts";
import { tinyQuickstart } from "../helpers/tiny-quickstart.ts";

let folder: string;
let settings: string[];

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "zerosearch-compat-"));
  settings = [...shortRun, ...settingsFor(await tinyQuickstart(), folder), "data.test=null", "device.kind=cpu", "train.steps=2"];
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Rollouts of each step, and the reward and the learning rate of its last update. */
async function run(name: string, ...more: string[]) {
  const training = await openTraining({
    config: packagedConfig("quickstart"),
    settings: [...settings, `name=${name}`, ...more],
    progress: false,
  });
  const eos = training.run.policy.tokenizer.eosIds;
  const steps: { trajectories: SearchTrajectory[]; metrics: Readonly<Record<string, number>> }[] = [];
  try {
    for await (const { scored, metrics } of training.steps())
      steps.push({ trajectories: scored.map(({ trajectory }) => trajectory), metrics });
  } finally {
    await training.close();
  }
  return { steps, eos };
}

/** Ids of the questions that searches of a turn were told, and of those that stand at their places. */
function pairs(trajectories: readonly SearchTrajectory[]): [string, string][] {
  return [0, 1, 2, 3, 4].flatMap((turn) =>
    trajectories
      .flatMap(({ searches, question }) =>
        searches.filter((one) => one.turn === turn).map(({ toldQuestion = question.id }) => toldQuestion),
      )
      .map((told, place): [string, string] => [told, (trajectories[place] as SearchTrajectory).question.id]),
  );
}

describe("algorithm.name=zerosearch-compat", () => {
  it("pairs searches with questions by place (without it, each with its own), and never learns an end of sequence", async () => {
    const [compat, own] = [await run("compat", "algorithm.name=zerosearch-compat"), await run("own")];
    for (const { trajectories } of compat.steps) for (const [told, atPlace] of pairs(trajectories)) expect(told).toBe(atPlace);
    const told = ({ steps }: typeof own) =>
      steps.flatMap(({ trajectories }) =>
        trajectories.flatMap(({ searches }) => searches.flatMap(({ toldQuestion }) => toldQuestion ?? [])),
      );
    expect(told(compat).length).toBeGreaterThan(0);
    expect(told(own)).toEqual([]);
    const ends = ({ steps, eos }: typeof own): number[] =>
      steps.flatMap(({ trajectories }) =>
        trajectories.flatMap(({ ids, lossMask }) => ids.flatMap((id, t) => (eos.includes(id) ? [lossMask[t] as number] : []))),
      );
    expect(ends(compat)).not.toContain(1);
    // Two steps of two updates: .95 of 4 is 3.
    expect(compat.steps.map(({ metrics }) => metrics["policy/lr"])).toEqual(
      [(2 / 3) * 1e-3, 1e-3].map((rate) => expect.closeTo(rate, 12) as number),
    );
  });
});
