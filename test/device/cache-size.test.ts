import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { packagedConfig } from "../../src/config/index.ts";
import { openTraining } from "../../src/index.ts";
import { trainStep } from "../../src/train.ts";
import { testDevice } from "../helpers/device.ts";
import { hasQuickstart } from "../helpers/tiny-quickstart.ts";

test.runIf(hasQuickstart)(
  "the size of the caches changes nothing of a step, be it what the memory leaves or too little for two rollouts",
  async () => {
    const step = async (cacheMiB: number) => {
      const folder = mkdtempSync(join(tmpdir(), "zerosearch-cache-size-"));
      const settings = [
        `device.kind=${testDevice}`,
        `rollout.cacheMiB=${cacheMiB}`,
        `output.runs=${join(folder, "runs")}`,
        `output.checkpoints=${join(folder, "checkpoints")}`,
        ...["train.questionsPerStep=2", "train.groupSize=3", "train.saveEvery=0"],
      ];
      const training = await openTraining({ config: packagedConfig("quickstart"), settings });
      const { run } = training;
      try {
        const { inUse } = run.device.memory();
        const { scored, updates } = await trainStep(run, 1);
        const rollouts = scored.map(({ trajectory: { ids, logProbs }, reward, advantage }) => ({ ids, logProbs, reward, advantage }));
        return { inUse, result: { rollouts, updates } };
      } finally {
        await training.close();
        rmSync(folder, { recursive: true, force: true });
      }
    };
    const [all, least] = [await step(0), await step(1)];
    // 6 rows of 9 and 11 blocks against one sequence each.
    expect(all.inUse).toBeGreaterThan(least.inUse + 2 ** 20);
    expect(all.result.rollouts).toHaveLength(6);
    expect(all.result).toEqual(least.result);
  },
  300_000,
);
