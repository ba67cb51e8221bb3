import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { packagedConfig } from "../../../src/config/index.ts";
import type { GeneratorCounts } from "../../../src/generate/types.ts";
import { openTraining } from "../../../src/index.ts";
import { trainStep } from "../../../src/train.ts";
import { testDevice } from "../../helpers/device.ts";
import { hasQuickstart } from "../../helpers/tiny-quickstart.ts";

test.runIf(hasQuickstart)(
  "of the quickstart's full intervals at read interval 16 at least .9 are replayed, over steps with updates in between",
  async () => {
    const folder = mkdtempSync(join(tmpdir(), "zerosearch-replays-"));
    const training = await openTraining({
      config: packagedConfig("quickstart"),
      settings: [
        `device.kind=${testDevice}`,
        "device.readInterval=16",
        `output.runs=${join(folder, "runs")}`,
        `output.checkpoints=${join(folder, "checkpoints")}`,
        "train.questionsPerStep=2",
        "train.groupSize=2",
        "train.saveEvery=0",
      ],
    });
    try {
      const all: GeneratorCounts[] = [];
      for (let step = 1; step <= 4; step++) all.push(...(await trainStep(training.run, step)).costs.counts.values());
      const intervals = all.reduce((sum, counts) => sum + counts.intervals, 0);
      const replayed = all.reduce((sum, counts) => sum + counts.replayedIntervals, 0);
      expect(intervals).toBeGreaterThan(50);
      expect(replayed / intervals).toBeGreaterThanOrEqual(0.9);
    } finally {
      await training.close();
      rmSync(folder, { recursive: true, force: true });
    }
  },
  300_000,
);
