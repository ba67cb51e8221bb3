/** Training as a program does it: `openTraining` and its steps leave what `node train.js` leaves, take one's own parts, and resume. */
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openTraining, packagedConfig, trainStep, type Reward, type StepReport, type Training } from "../../src/index.ts";
import type { Recorded } from "../../src/run/journal.ts";
import type { StepResult } from "../../src/run/run.ts";
import { buildIfStale, readRows, settingsFor, shortRun, train } from "../helpers/program.ts";
import { tinyQuickstart } from "../helpers/tiny-quickstart.ts";

let folder: string;
let settings: string[];

beforeAll(async () => {
  buildIfStale();
  folder = mkdtempSync(join(tmpdir(), "zerosearch-api-"));
  settings = [...shortRun, ...settingsFor(await tinyQuickstart(), folder), "data.test=null", "device.kind=cpu"];
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const config = packagedConfig("quickstart");
const log = (name: string, file: string): Record<string, unknown>[] =>
  readRows(join(folder, "runs", name, file)).map((row) =>
    Object.fromEntries(Object.entries(row).filter(([key]) => !key.startsWith("time/"))),
  );
const receipt = (name: string): Record<string, unknown> =>
  JSON.parse(readFileSync(join(folder, "runs", name, "receipt.json"), "utf8")) as Record<string, unknown>;

/** Takes steps until there are no more, or `stop` says so. */
async function finish(training: Training, stop: (report: StepReport) => boolean = () => false): Promise<void> {
  try {
    for await (const report of training.steps()) if (stop(report)) break;
  } finally {
    await training.close();
  }
}

describe("a program's loop over steps", () => {
  it("logs, validates and saves what node train.js does", async () => {
    expect((await train([...settings, "name=program"])).code).toBe(0);
    await finish(await openTraining({ config, settings: [...settings, "name=loop"] }));
    for (const file of ["metrics.jsonl", "rollouts.jsonl"]) {
      expect(log("loop", file).length).toBeGreaterThan(0);
      expect(log("loop", file)).toEqual(log("program", file));
    }
    expect(readdirSync(join(folder, "checkpoints", "loop")).sort()).toEqual(
      readdirSync(join(folder, "checkpoints", "program"))
        .filter((name) => name !== "policy")
        .sort(),
    );
    for (const part of ["steps", "saves"]) expect(receipt("loop")[part]).toEqual(receipt("program")[part]);
  });

  it("goes on where it was left, and ends in the same bits", async () => {
    await finish(await openTraining({ config, settings: [...settings, "name=left"] }), ({ step }) => step === 3);
    const resumed = await openTraining({ settings: settings.filter((one) => one.startsWith("output.")), resume: "left" });
    expect(resumed.journal.done).toBe(3);
    await finish(resumed);
    expect(log("left", "rollouts.jsonl")).toEqual(log("loop", "rollouts.jsonl"));
    expect(receipt("left")["saves"]).toEqual(receipt("loop")["saves"]);
  });

  it("is left by a signal with nothing lost: save keeps the last step", async () => {
    const stop = new AbortController();
    const training = await openTraining({
      config,
      settings: [...settings, "name=signalled", "train.saveEvery=0", "data.validation=null"],
      signal: stop.signal,
    });
    try {
      await expect(async () => {
        for await (const { step } of training.steps()) if (step === 2) stop.abort(new Error("enough"));
      }).rejects.toThrow("enough");
      expect(existsSync(join(folder, "checkpoints", "signalled", "step-000002"))).toBe(false);
      await training.save();
      expect(existsSync(join(folder, "checkpoints", "signalled", "step-000002"))).toBe(true);
    } finally {
      await training.close();
    }
  });
});

describe("parts of one's own", () => {
  const shortAnswers: Reward = async function shortAnswers({ answer }) {
    await Promise.resolve();
    return answer === null ? 0 : 1 / answer.length;
  };

  it("pay what the reward says, and a resume without it is an error that names it", async () => {
    const own = [...settings, "name=own", "data.validation=null"];
    await finish(await openTraining({ config, settings: own, reward: shortAnswers }), ({ scored, step }) => {
      for (const { trajectory, reward } of scored) expect(reward).toBe(trajectory.answer === null ? 0 : 1 / trajectory.answer.length);
      return step === 2;
    });
    const again = { settings: settings.filter((one) => one.startsWith("output.")), resume: "own" };
    await expect(openTraining(again)).rejects.toThrow(/trained with another reward; expected shortAnswers, got f1/);
    const resumed = await openTraining({ ...again, reward: shortAnswers });
    expect(resumed.journal.done).toBe(2);
    await resumed.close();
  });

  it("are refused where a reward is no number, naming the rollout", async () => {
    const training = await openTraining({ config, settings: [...settings, "name=broken"] });
    try {
      await expect(trainStep(training.run, 1, { reward: () => NaN })).rejects.toThrow(
        /^reward .* of rollout 1\/\d+\/0: is not a number; expected a finite number, got NaN/,
      );
    } finally {
      await training.close();
    }
  });
});

describe("a step by hand", () => {
  it("that is not recorded cannot be saved in silence, and a step is recorded once", async () => {
    const training = await openTraining({ config, settings: [...settings, "name=unrecorded", "data.validation=null"] });
    try {
      await training.save(); // nothing has been done
      await expect(trainStep(training.run, 0)).rejects.toThrow(/^trainStep: wrong step; expected an integer from 1, got 0/);
      const result = await trainStep(training.run, 1);
      await expect(training.save()).rejects.toThrow(/^training\.save: a step was trained that is not recorded; expected 0 updates, got 2/);
      training.journal.record(result);
      await training.save();
      expect(existsSync(join(folder, "checkpoints", "unrecorded", "step-000001"))).toBe(true);
      expect(() => training.journal.record(result)).toThrow(/^journal\.record: not the next step; expected 2, got 1/);
    } finally {
      await training.close();
    }
  });

  it("is recorded, then saved; what was recorded before the weights moved on is refused", async () => {
    const training = await openTraining({ config, settings: [...settings, "name=hand", "data.validation=null"] });
    const { run, journal, states } = training;
    try {
      const first = journal.record(await trainStep(run, 1));
      const second = journal.record(await trainStep(run, 2));
      await expect(states.save(first)).rejects.toThrow(/the policy has been updated since that step was recorded/);
      expect(await states.save(second)).toMatchObject({ step: 2 });
      expect(await states.save(second)).toBeNull();
      expect(existsSync(join(folder, "checkpoints", "hand", "step-000002"))).toBe(true);
    } finally {
      await training.close();
    }
  });

  it("cannot be saved before it is recorded, nor recorded before it is trained: neither compiles", () => {
    // Never called: the compiler is the judge.
    const order = async ({ run, journal, states }: Training): Promise<void> => {
      const result: StepResult = await trainStep(run, 1);
      // @ts-expect-error a step's result is not a recorded step
      await states.save(result);
      // @ts-expect-error a number is no step
      journal.record(1);
      const recorded: Recorded = journal.record(result);
      // @ts-expect-error only a saved state is noted
      await journal.noteSaved(recorded);
      const saved = await states.save(recorded);
      if (saved !== null) await journal.noteSaved(saved);
      // @ts-expect-error a run that is only opened has no steps
      for await (const step of run.steps()) expect(step);
    };
    expect(order).toBeTypeOf("function");
  });
});
