/** Algorithms by name: what the presets set, what wins over them, and choices that mean nothing together. */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { packagedConfig, packageFolder, readOverride, readYaml, resolveConfig, type Config } from "../../src/config/index.ts";
import { changedKeys } from "../../src/config/print.ts";
import { savedSource } from "../../src/config/source.ts";
import type { Tree } from "../../src/config/tree.ts";
import { presetNames } from "../../src/rl/settings.ts";

const quickstart = readYaml(packagedConfig("quickstart"));
const configOf = (...settings: string[]): Config => resolveConfig([...quickstart, ...settings.map(readOverride)]);
const messageOf = (...settings: string[]): string => {
  try {
    configOf(...settings);
  } catch (error) {
    return (error as Error).message;
  }
  return "nothing is wrong";
};

describe("presets", () => {
  it("have a file each, and no file is without a name", () => {
    const files = readdirSync(join(packageFolder, "configs/algorithms")).map((name) => name.replace(".yaml", ""));
    expect(files.sort()).toEqual([...presetNames].sort());
  });

  it("grpo, which is the default, changes no default", () => {
    expect(changedKeys(configOf(), configOf("algorithm.name=grpo"))).toEqual([]);
  });

  it.each<[string, Partial<Config["algorithm"]>]>([
    ["ppo", { advantage: "gae", lambda: 1, whiten: true, documents: "skip", klIn: "reward", klEstimator: "k1", loss: "ppo_clip" }],
    ["reinforce", { advantage: "reinforce", whiten: false, loss: "ppo_clip" }],
    [
      "dapo",
      { advantage: "grpo", clipLow: 0.2, clipHigh: 0.28, klCoef: 0, dynamicSampling: 3, overlongBuffer: 0.2, aggregation: "token-mean" },
    ],
    ["dr_grpo", { advantage: "dr_grpo", aggregation: "constant", klCoef: 0 }],
    ["gspo", { loss: "gspo", aggregation: "seq-mean-token-mean", clipLow: 3e-4, clipHigh: 4e-4 }],
    ["rloo", { advantage: "rloo", loss: "reinforce", aggregation: "seq-mean-token-sum", klIn: "reward" }],
  ])("%s is what its paper says", (name, expected) => {
    expect(configOf(`algorithm.name=${name}`).algorithm).toMatchObject({ name, ...expected });
  });

  it("win over what was given before them, and lose to what stands beside them or comes later", () => {
    // A command line is one source, whatever its order.
    expect(configOf("algorithm.clipHigh=0.5", "algorithm.name=dapo").algorithm.clipHigh).toBe(0.5);
    expect(configOf("algorithm.name=dapo", "algorithm.clipHigh=0.5").algorithm.clipHigh).toBe(0.5);
    const before = savedSource({ algorithm: { clipHigh: 0.5 } }, "a file");
    expect(resolveConfig([...quickstart, before, readOverride("algorithm.name=dapo")]).algorithm.clipHigh).toBe(0.28);
    const file = savedSource({ algorithm: { clipHigh: 0.5, name: "dapo" } }, "a file");
    const { algorithm } = resolveConfig([...quickstart, file]);
    expect([algorithm.clipHigh, algorithm.dynamicSampling]).toEqual([0.5, 3]);
  });

  it("replace each other: the later one leaves nothing of the earlier", () => {
    for (const name of presetNames) {
      const [after, alone] = [configOf(`algorithm.name=${name}`, "algorithm.name=grpo"), configOf("algorithm.name=grpo")];
      // Neither says whether a KL or an entropy term is wanted, unless its paper does; these are left as they are.
      const left = ["algorithm.klCoef", "algorithm.entropyCoef"];
      expect(
        changedKeys(after, alone).filter(({ key }) => !left.includes(key)),
        name,
      ).toEqual([]);
    }
  });

  it("complete what a run of an older program has saved: its name and its few keys", () => {
    const saved = (name: string): Tree => ({
      algorithm: { name, normalizeByStd: true, clipLow: 0.2, clipHigh: 0.2, klCoef: 0, entropyCoef: 0 },
    });
    for (const [name, advantage] of [
      ["grpo", "grpo"],
      ["rloo", "rloo"],
      ["reinforce", "reinforce"],
    ] as const)
      expect(resolveConfig([...quickstart, savedSource(saved(name), "old")]).algorithm.advantage).toBe(advantage);
  });
});

describe("choices that mean nothing together", () => {
  it.each<[string[], RegExp]>([
    [["train.groupSize=1"], /train\.groupSize leaves grpo without a baseline; expected at least 2, or algorithm\.advantage=reinforce/],
    [["train.groupSize=1", "algorithm.name=rloo"], /train\.groupSize leaves rloo without a baseline/],
    [["algorithm.gamma=0.9"], /algorithm\.gamma has no say in grpo/],
    [["algorithm.name=reinforce", "algorithm.lambda=0.9"], /algorithm\.lambda has no say in reinforce/],
    [["algorithm.documents=plain"], /algorithm\.documents has no say in grpo/],
    [["algorithm.loss=gspo"], /algorithm\.aggregation gives the tokens of a rollout other weights/],
    [["algorithm.dualClip=0.5"], /algorithm\.dualClip would hold the loss of every token; expected 0, or above 1/],
    [["algorithm.dualClip=3", "algorithm.loss=cispo"], /algorithm\.dualClip has no say in the loss cispo/],
    [["algorithm.aggregationTokens=100"], /algorithm\.aggregationTokens has no say in token-mean/],
    [["algorithm.klTarget=0.1", "algorithm.klIn=reward"], /algorithm\.klTarget adapts nothing; expected 0, or algorithm\.klCoef above 0/],
    [["algorithm.klTarget=0.1", "algorithm.klCoef=0.1"], /algorithm\.klTarget is for a KL term in the reward/],
    [
      ["algorithm.name=ppo", "algorithm.dynamicSampling=2"],
      /algorithm\.dynamicSampling drops groups of equal rewards, which gae can learn from/,
    ],
    [["algorithm.overlongTokens=100"], /algorithm\.overlongTokens is never used/],
    [
      ["algorithm.klHorizon=20"],
      /algorithm\.klHorizon has no say while klCoef is fixed; expected 10000, or algorithm\.klTarget above 0, got 20/,
    ],
    [["critic.clip=0.2"], /critic\.clip has no say in grpo, which has no critic; expected 0\.5, or algorithm\.advantage=gae .*, got 0\.2/],
    [["critic.clip=0", "algorithm.name=reinforce"], /critic\.clip has no say in reinforce/],
    [["critic.coef=1"], /critic\.coef has no say in grpo/],
    [
      ["algorithm.name=ppo", "critic.coef=1"],
      /critic\.coef has no say where the critic has weights of its own; expected 0\.5, or critic\.trunk=policy/,
    ],
    [["critic.path=somewhere"], /critic\.path is never used; expected null, or algorithm\.advantage=gae/],
    [
      ["algorithm.name=ppo", "critic.path=somewhere", "critic.trunk=policy"],
      /critic\.path is never used: the value head stands on the policy/,
    ],
    [["critic.headStartSteps=2"], /critic\.headStartSteps is for a critic with weights of its own/],
    [
      ["algorithm.name=ppo", "critic.headStartSteps=24"],
      /critic\.headStartSteps leaves the policy no step; expected below train\.steps \(24\)/,
    ],
    [["algorithm.name=ppo", "critic.trunk=policy", "optimizer.learningRate=0"], /optimizer\.learningRate is 0, and a critic stands on/],
  ])("%j are refused", (settings, message) => {
    expect(messageOf(...settings)).toMatch(message);
  });

  it("are no matter where nothing is trained", () => {
    expect(resolveConfig([...quickstart, readOverride("train.groupSize=1")], "evaluate").train.groupSize).toBe(1);
  });
});
