/** Training as a program does it: `openTraining` and its steps leave what `node train.js` leaves, take one's own parts, and resume. */
import { createHash } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import {
  lossTokens,
  methods,
  openTraining,
  packagedConfig,
  rewardTerm,
  trainStep,
  type Method,
  type Reward,
  type StepReport,
  type Training,
} from "../../src/index.ts";
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

  it("leave out the rollouts whose reward fails: counted, said, logged without a reward, and learnt nothing from", async () => {
    /** Fails for all but one of the first question's rollouts, and for one of the second's. */
    const fragile: Reward = async function fragile({ key: { step, rollout }, ids, question }) {
      const at = first.get(step)?.indexOf(question.id) ?? -1;
      if ((at === 0 && rollout > 0) || (at === 1 && rollout === 0)) throw new Error("no luck");
      return Promise.resolve(1 / ids.length);
    };
    const first = new Map<number, readonly string[]>();
    const said: string[] = [];
    const training = await openTraining({ config, settings: [...settings, "name=fragile", "data.validation=null"], reward: fragile });
    const saying = vi.spyOn(training.journal, "say").mockImplementation((text) => void said.push(text));
    try {
      for (const step of [1, 2])
        first.set(
          step,
          training.run.questions.step(step).map(({ question }) => question.id),
        );
      const { questionsPerStep, groupSize } = training.run.config.train;
      for await (const { step, scored, unpaid, updates, metrics } of training.steps()) {
        expect([scored.length, unpaid.length]).toEqual([questionsPerStep * groupSize - groupSize, groupSize]);
        expect(metrics).toMatchObject({ "reward/failed": groupSize, "reward/dropped_groups": 1 });
        expect(metrics["rollout/logprob_mismatch_max"]).toBe(0);
        const groups = new Map<string, typeof scored>();
        for (const row of scored) {
          const { id } = row.trajectory.question;
          groups.set(id, [...(groups.get(id) ?? []), row]);
        }
        for (const group of groups.values()) {
          const mean = group.reduce((sum, { reward }) => sum + reward, 0) / group.length;
          for (const { reward, advantage } of group)
            if (Math.abs(reward - mean) > 1e-9) expect(Math.sign(advantage as number)).toBe(Math.sign(reward - mean));
        }
        // The one that is alone is out: its tokens are no part of the mean.
        const learnt = [...groups.values()].filter(({ length }) => length > 1).flat();
        expect(learnt).toHaveLength(scored.length - 1);
        expect(updates.reduce((sum, { tokens }) => sum + tokens, 0)).toBe(lossTokens(learnt));
        expect(groups.get(first.get(step)?.[0] ?? "")?.map(({ advantage }) => advantage)).toEqual([0]);
        expect(groups.get(first.get(step)?.[1] ?? "")).toHaveLength(groupSize - 1);
        if (step === 2) break;
      }
      const warnings = said.filter((line) => line.includes("rewards failed"));
      expect(warnings).toHaveLength(2);
      const where = String.raw`reward fragile of rollout 1/\d+/\d: fails: no luck`;
      const counts = `${groupSize} of ${questionsPerStep * groupSize} rewards failed, and their rollouts were left out`;
      expect(warnings[0]).toMatch(new RegExp(`^warning: step 1: ${counts}, which leaves 1 group without a comparison: ${where}$`));
      const failed = log("fragile", "rollouts.jsonl").filter(({ reward }) => reward === null);
      expect(failed).toHaveLength(2 * groupSize);
      expect(failed[0]).toMatchObject({
        reward: null,
        advantage: 0,
        rewardFailure: expect.stringMatching(new RegExp(`^${where}$`)) as string,
      });
      expect(log("fragile", "rollouts.jsonl").filter((row) => "rewardFailure" in row)).toEqual(failed);
    } finally {
      saying.mockRestore();
      await training.close();
    }
  });

  it("train on where one rollout of a step is paid, which teaches nothing", async () => {
    const training = await openTraining({ config, settings: [...settings, "name=lonely"] });
    try {
      let paid = 0;
      const once: Reward = () => (paid++ === 0 ? 1 : NaN);
      const { scored, updates, metrics } = await trainStep(training.run, 1, { reward: once });
      expect([scored.length, scored[0]?.advantage, updates.length, updates[0]?.gradNorm]).toEqual([1, 0, 1, 0]);
      expect(metrics).toMatchObject({ "reward/mean": 1, "reward/failed": 15, "reward/dropped_groups": 4 });
    } finally {
      await training.close();
    }
  });

  it("are paid by a sum that a configuration names, which a resume keeps", async () => {
    const own = [...settings, "name=summed", "data.validation=null", "reward.kind=f1+0.2*format-.1*retrieval"];
    await finish(await openTraining({ config, settings: own }), ({ scored, step }) => {
      for (const { trajectory, reward } of scored) {
        const terms = (["f1", "format", "retrieval"] as const).map((name) => rewardTerm(trajectory, name));
        expect(reward).toBeCloseTo((terms[0] ?? 0) + 0.2 * (terms[1] ?? 0) - 0.1 * (terms[2] ?? 0), 15);
      }
      return step === 1;
    });
    expect(receipt("summed")["made"]).toMatchObject({ reward: "f1 + 0.2*format - 0.1*retrieval" });
    const again = { settings: settings.filter((one) => one.startsWith("output.")), resume: "summed" };
    await (await openTraining(again)).close();
    const other = openTraining({ ...again, settings: [...again.settings, "reward.kind=f1 + 0.3*format"] });
    await expect(other).rejects.toThrow(
      /trained with another reward; expected f1 \+ 0\.2\*format - 0\.1\*retrieval, got f1 \+ 0\.3\*format/,
    );
  });

  it("are refused where a reward is no number for any rollout, naming the first", async () => {
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

describe("what is given wrongly", () => {
  class Mine {
    search = 1;
  }

  it.each<[string, unknown, RegExp]>([
    ["nothing", undefined, /^openTraining: wrong options; expected an object with some of .*settings.*, got undefined/],
    ["an option that there is not", { rewards: 1 }, /^openTraining: wrong options; .*got an object with rewards/],
    [
      "settings as one text",
      { settings: "seed=1" },
      /^openTraining\(\{ settings \}\): is something else; expected a list of key=value, got "seed=1"/,
    ],
    [
      "a method without run",
      { method: { name: "x" } },
      /^openTraining\(\{ method \}\): .*expected a method: \{ name, run.*got an object with name/,
    ],
    ["a method without a name", { method: { run: () => 1 } }, /^openTraining\(\{ method \}\): .*got an object with run/],
    ["a class of engines", { engine: Mine }, /^openTraining\(\{ engine \}\): .*got the class Mine, not an object of it/],
    ["a reward that is an object", { reward: { name: "x" } }, /^openTraining\(\{ reward \}\): .*expected a function/],
    ["a signal that is a controller", { signal: new AbortController() }, /^openTraining\(\{ signal \}\): .*expected an AbortSignal/],
  ])("to openTraining, %s, is one error", async (_, given, message) => {
    await expect(openTraining(given as never)).rejects.toThrow(message);
  });

  it("to trainStep is one error, and so is a second loop over the steps; neither costs the run anything", async () => {
    const training = await openTraining({ config, settings: [...settings, "name=wrong", "data.validation=null"] });
    const step = (...given: unknown[]) => trainStep(...(given as Parameters<typeof trainStep>));
    const zero = methods.zerosearch;
    try {
      await expect(step(training, 1)).rejects.toThrow(
        /^trainStep: its first argument is no run; expected the `run` of what openTraining opens/,
      );
      await expect(step(training.run, 1, { engine: { name: "x", search() {} } })).rejects.toThrow(/^trainStep\(\{ engine \}\): /);
      await expect(step(training.run, 1, { method: zero.run })).rejects.toThrow(/^trainStep\(\{ method \}\): .*got a function/);
      const swapped: Method = {
        name: "swapped",
        run: (question, context) => zero.run(question, { ...context, key: { ...context.key, rollout: 0 } }),
      };
      await expect(step(training.run, 1, { method: swapped })).rejects.toThrow(
        /^method swapped of rollout 1\/\d+\/[123]: returns the trajectory of another rollout/,
      );
      const simulator = {
        name: "mine",
        simulate: async () => ({ documents: [], kind: "noisy" as const }),
        noiseProbability: () => NaN,
        close: async () => undefined,
      };
      await expect(step(training.run, 1, { engine: simulator })).rejects.toThrow(
        /^search engine mine: its noiseProbability is none; expected a probability, got NaN/,
      );
      expect(training.run.optimizer.step).toBe(0);
      const [first, second] = [training.steps(), training.steps()];
      const begun = first.next();
      await expect(second.next()).rejects.toThrow(/^training\.steps: another loop over the steps of this training is under way/);
      expect((await begun).value).toMatchObject({ step: 1 });
      await first.return(undefined);
      expect((await training.steps().next()).value).toMatchObject({ step: 2 });
    } finally {
      await training.close();
    }
  });
});

describe("a saved state", () => {
  const places = () => settings.filter((one) => one.startsWith("output."));

  it("of a program that kept no receipt, parts or inputs goes on to the same bits, and says that no receipt is left", async () => {
    await finish(await openTraining({ config, settings: [...settings, "name=old"] }), ({ step }) => step === 2);
    rmSync(join(folder, "runs", "old", "receipt.json"));
    const at = join(folder, "checkpoints", "old", "step-000002");
    const read = (name: string) => JSON.parse(readFileSync(join(at, name), "utf8")) as Record<string, Record<string, unknown>>;
    const state = read("state.json");
    const later = ["receipt", "made", "inputs", "moments"];
    state["extra"] = Object.fromEntries(Object.entries(state["extra"]!).filter(([name]) => !later.includes(name)));
    const text = JSON.stringify(state);
    writeFileSync(join(at, "state.json"), text);
    const manifest = read("manifest.json");
    manifest["files"]!["state.json"] = { bytes: text.length, sha256: createHash("sha256").update(text).digest("hex") };
    writeFileSync(join(at, "manifest.json"), JSON.stringify(manifest));
    const said = vi.spyOn(process.stdout, "write");
    const training = await openTraining({ settings: places(), resume: "old" });
    expect(said.mock.calls.join("")).toContain("note: this run leaves no receipt");
    said.mockRestore();
    await finish(training);
    expect(log("old", "rollouts.jsonl")).toEqual(log("loop", "rollouts.jsonl"));
    expect(existsSync(join(folder, "runs", "old", "receipt.json"))).toBe(false);
  });

  it("is not gone on from with a reward whose file has changed, also where there are test questions; all stays as it was", async () => {
    const file = join(folder, "my-reward.mjs");
    writeFileSync(file, "export default function mine() {\n  return 1;\n}\n");
    const test = settingsFor(await tinyQuickstart(), folder).filter((one) => one.startsWith("data.test="));
    const own = [...settings, ...test, "name=changed", "data.validation=null", `reward.kind=${file}`];
    await finish(await openTraining({ config, settings: own }), ({ step }) => step === 1);
    const logged = readFileSync(join(folder, "runs", "changed", "rollouts.jsonl"));
    writeFileSync(file, "export default function mine() {\n  return 2;\n}\n");
    await expect(openTraining({ settings: places(), resume: "changed" })).rejects.toThrow(
      /^reward\.kind: the file of this run's reward has changed since the state was saved; expected SHA-256 \w+, got \w+/,
    );
    expect(readFileSync(join(folder, "runs", "changed", "rollouts.jsonl"))).toEqual(logged);
    expect(existsSync(join(folder, "runs", "changed", "judged.jsonl"))).toBe(false);
  });
});
