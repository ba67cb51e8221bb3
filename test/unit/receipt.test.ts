/** Receipts: what their digests see, how large they get, and how what differs is named. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  digestStep,
  foldSteps,
  makeReceipt,
  readReceipt,
  ReceiptCheck,
  stepsOf,
  type ReceiptRows,
  type StepDigest,
} from "../../src/run/receipt.ts";
import { packageFolder, portable, readOverride, resolveConfig } from "../../src/config/index.ts";
import { scoredOf } from "../helpers/trajectories.ts";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "zerosearch-receipt-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const hex = (text: string): string => Buffer.from(text).toString("hex").padEnd(64, "0").slice(0, 64);
const digest = (n: number): StepDigest => ({
  ids: `${n}`.padStart(12, "a"),
  rewards: `${n}`.padStart(12, "b"),
  gradNorm: `${n}`.padStart(12, "c"),
});
const rows = (steps: number, saves: ReceiptRows["saves"] = {}): ReceiptRows => ({
  steps: Array.from({ length: steps }, (_, i) => digest(i)),
  saves,
});
const head = { run: "r", device: { kind: "cpu", description: "cpu" }, config: { seed: 1 }, inputs: { "data.train": hex("t") } };

describe("a step's digest", () => {
  const rollouts = [scoredOf({ ids: [1, 2, 3, 4], mask: "0011" }, 1, 1), scoredOf({ ids: [1, 2, 5], mask: "001", rollout: 1 }, -1, 0)];
  const plain = digestStep(rollouts, [0.5]);

  it.each([
    ["one id", [scoredOf({ ids: [1, 2, 3, 6], mask: "0011" }, 1, 1), rollouts[1]!], [0.5], "ids"],
    ["one bit of the mask", [scoredOf({ ids: [1, 2, 3, 4], mask: "0001" }, 1, 1), rollouts[1]!], [0.5], "ids"],
    ["the order of rollouts", [rollouts[1]!, rollouts[0]!], [0.5], "ids"],
    ["the last bit of a reward", [{ ...rollouts[0]!, reward: 1 + Number.EPSILON }, rollouts[1]!], [0.5], "rewards"],
    ["the last bit of a gradient norm", rollouts, [0.5 + Number.EPSILON / 2], "gradNorm"],
  ] as const)("sees %s", (_, changed, norms, name) => {
    const other = digestStep(changed, norms);
    expect(other[name]).not.toBe(plain[name]);
    expect(name === "gradNorm" ? other.rewards : other.gradNorm).toBe(name === "gradNorm" ? plain.rewards : plain.gradNorm);
  });

  it("is the same for the same step", () => {
    expect(digestStep(rollouts, [0.5])).toEqual(plain);
  });
});

describe("a receipt", () => {
  it("stays within 64 kB for thousands of steps and saves of many shards", () => {
    const shards = Object.fromEntries(
      Array.from({ length: 30 }, (_, i) => [`policy/model-${String(i).padStart(5, "0")}-of-00030.safetensors`, hex(`${i}`)]),
    );
    const saves = Object.fromEntries(Array.from({ length: 5000 }, (_, step) => [step, shards]));
    const inputs = Object.fromEntries(Array.from({ length: 90 }, (_, i) => [`model.policy/model-${i}.safetensors`, hex(`${i}`)]));
    for (const steps of [24, 512, 513, 5000]) {
      const receipt = makeReceipt({ ...head, inputs }, rows(steps, saves));
      expect(JSON.stringify(receipt, null, 1).length).toBeLessThanOrEqual(65536);
    }
  });

  it("covers every step: one that differs changes its row, alone or in a block", () => {
    for (const blockSteps of [1, 4]) {
      const before = foldSteps(rows(16).steps, blockSteps);
      const changed = foldSteps(
        rows(16).steps.map((step, i) => (i === 9 ? digest(99) : step)),
        blockSteps,
      );
      expect(before.flatMap((row, i) => (row === changed[i] ? [] : [i]))).toEqual([Math.floor(9 / blockSteps)]);
    }
  });

  it("comes back from its file as it was written, and is refused where a hand changed its configuration", async () => {
    const file = join(folder, "receipt.json");
    const receipt = makeReceipt(head, rows(3, { 2: { "policy/model.safetensors": hex("w") } }));
    writeFileSync(file, JSON.stringify(receipt));
    expect(await readReceipt(file)).toEqual(receipt);
    writeFileSync(file, JSON.stringify({ ...receipt, config: { seed: 2 } }));
    await expect(readReceipt(file)).rejects.toThrow(/its configuration is not the one that was run/);
  });

  it.each([
    ["no file", null, /cannot be read; expected a receipt, got ENOENT/],
    ["no JSON", "{", /is not JSON.*expected a receipt/],
    ["other JSON", "[]", /is not a receipt/],
    ["a digest that is none", JSON.stringify({ ...makeReceipt(head, rows(1)), steps: ["1 x y z"] }), /is not a receipt, at steps\.0/],
  ])("is one error where there is %s", async (name, text, message) => {
    const file = join(folder, `${name}.json`);
    if (text !== null) writeFileSync(file, text);
    await expect(readReceipt(file)).rejects.toThrow(message);
  });

  it("names the folder of this package in paths of files that are there, and leaves Hub ids, URLs and other paths as they are", () => {
    const settings = [
      `model.policy=${join(packageFolder, "checkpoints/quickstart/policy")}`,
      "model.referencePolicy=Qwen/Qwen2.5-3B@abc",
      "simulator.endpoint=http://127.0.0.1:6001/v1",
      "data.train=/elsewhere/train.jsonl",
      "data.corpus=not/there.jsonl",
    ];
    const config = resolveConfig(settings.map(readOverride));
    expect(
      portable({ ...config, data: { ...config.data, train: ["/elsewhere", "checkpoints/quickstart/world/train.jsonl"] } }),
    ).toMatchObject({
      data: { train: ["/elsewhere", "{package}/checkpoints/quickstart/world/train.jsonl"] },
    });
    expect(portable(config)).toEqual({ ...config, model: { ...config.model, policy: "{package}/checkpoints/quickstart/policy" } });
    expect(config.model.policy).toMatch(/checkpoints.quickstart.policy$/);
  });
});

describe("the comparison", () => {
  const weights = { "policy/model.safetensors": hex("w") };
  const begin = (): ReceiptCheck =>
    new ReceiptCheck(makeReceipt({ ...head, scores: [{ method: "zerosearch", f1: 0.5 }] }, rows(4, { 2: weights, 4: weights })));

  it("finds nothing where all is the same, at any step", () => {
    const check = begin();
    for (const step of [1, 2, 3, 4])
      expect(check.upTo(rows(step, step >= 2 ? { 2: weights, ...(step === 4 ? { 4: weights } : {}) } : {}), step)).toBeNull();
    expect(check.scores([{ method: "zerosearch", f1: 0.5 }])).toBeNull();
    expect(check.compared).toBe("4 of 4 steps, the weights of 2 saved states and the evaluation");
  });

  it("counts what was compared, not what the receipt tells of", () => {
    const check = begin();
    expect(check.compared).toBe("0 of 4 steps, the weights of 0 saved states");
    check.upTo(rows(3, { 2: weights }), 3);
    expect(check.compared).toBe("3 of 4 steps, the weights of 1 saved state");
    const blocks = new ReceiptCheck(makeReceipt(head, rows(601)));
    expect(blocks.upTo(rows(3), 3)).toBeNull();
    expect(blocks.compared).toBe("2 of 601 steps, the weights of 0 saved states");
    expect(new ReceiptCheck(makeReceipt(head, rows(1))).scores([{ f1: 1 }])).toBeNull();
  });

  it("names the first step that differs, and what of it", () => {
    const steps = rows(4).steps.map((step, i) => (i === 2 ? { ...step, rewards: digest(9).rewards, gradNorm: digest(9).gradNorm } : step));
    expect(begin().upTo({ steps, saves: { 2: weights } }, 4)).toBe("rewards, gradient norm of step 3");
  });

  it("names the file of a saved state that differs, and a state that is missing", () => {
    expect(begin().upTo(rows(2, { 2: { "policy/model.safetensors": hex("other") } }), 2)).toBe(
      "policy/model.safetensors of the state after step 2",
    );
    expect(begin().upTo(rows(2), 2)).toBe("policy/model.safetensors of the state after step 2");
  });

  it("names a row of the evaluation that differs", () => {
    expect(begin().scores([{ method: "zerosearch", f1: 0.6 }])).toMatch(/^the evaluation: .*0\.5.*0\.6/);
    expect(begin().scores([])).toMatch(/null here$/);
  });

  it("covers a last block that is not full", () => {
    const receipt = makeReceipt(head, rows(601));
    expect([receipt.blockSteps, stepsOf(receipt)]).toEqual([2, 601]);
    const steps = rows(601).steps.map((step, i) => (i === 600 ? digest(9) : step));
    expect(new ReceiptCheck(receipt).upTo({ steps, saves: {} }, 601)).toBe("ids, rewards, gradient norm of step 601");
    expect(new ReceiptCheck(receipt).upTo({ steps, saves: {} }, 600)).toBeNull();
  });

  it("compares what was folded with what is not", () => {
    const many = Object.fromEntries(Array.from({ length: 200 }, (_, step) => [step + 1, weights]));
    const folded = new ReceiptCheck(makeReceipt(head, rows(200, many)));
    expect(folded.upTo(rows(200, many), 200)).toBeNull();
    expect(
      new ReceiptCheck(makeReceipt(head, rows(200, many))).upTo(rows(200, { ...many, 150: { "policy/model.safetensors": hex("x") } }), 200),
    ).toBe("all files of the state after step 150");
  });
});
