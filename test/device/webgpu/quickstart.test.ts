/** The shipped quickstart on a GPU: the first step's rollouts are those of the CPU, and a step is repeated bit for bit. */
import { describe, expect, it } from "vitest";
import { zerosearch } from "../../../src/agent/methods/zerosearch.ts";
import { groupTasks, rolloutAll } from "../../../src/agent/rollout-all.ts";
import { readTrainCommand } from "../../../src/config/index.ts";
import type { Trajectory } from "../../../src/rl/trajectory.ts";
import { tokenLogProbs } from "../../../src/rl/update.ts";
import { Closing } from "../../../src/setup/closing.ts";
import { openParts } from "../../../src/run/open-run.ts";
import type { Run } from "../../../src/run/run.ts";
import { hasQuickstart } from "../../helpers/tiny-quickstart.ts";

const questions = Number(process.env["QUICKSTART_QUESTIONS"] ?? 2);
const groupSize = Number(process.env["QUICKSTART_GROUP"] ?? 4);

interface Rollouts {
  readonly trajectories: readonly Trajectory[];
  /** Largest |sampled - recomputed| log-probability. */
  readonly mismatch: number;
}

type Parts = Pick<Run, "questions" | "context" | "policy">;

async function firstStep(device: "cpu" | "webgpu", ...settings: string[]): Promise<Rollouts> {
  const command = readTrainCommand([
    `--device=${device}`,
    `train.questionsPerStep=${questions}`,
    `train.groupSize=${groupSize}`,
    ...settings,
  ]);
  if (!("config" in command)) throw new Error("no configuration");
  const { config } = command;
  const closing = new Closing();
  try {
    const parts: Parts = await openParts(config, {}, closing);
    const tasks = groupTasks(parts.questions.step(1), groupSize, 1);
    const trajectories = await rolloutAll(tasks, zerosearch, parts.context, {});
    const recomputed = await tokenLogProbs(parts.policy.decoder, trajectories, {
      microBatchTokens: config.train.microBatchTokens,
      cacheDtype: config.model.cacheDtype,
    });
    let mismatch = 0;
    for (const trajectory of trajectories) {
      const values = recomputed.get(trajectory)!;
      const sampled = trajectory.logProbs.filter((_, i) => trajectory.lossMask[i] === 1);
      expect(values.length).toBe(sampled.length);
      sampled.forEach((value, i) => {
        mismatch = Math.max(mismatch, Math.abs(value - values[i]!));
      });
    }
    return { trajectories, mismatch };
  } finally {
    await closing.close();
  }
}

/** Share of tokens that are the same at the same place. */
function agreement(a: readonly Trajectory[], b: readonly Trajectory[]): number {
  let same = 0;
  let all = 0;
  a.forEach(({ ids }, i) => {
    const other = b[i]!.ids;
    all += Math.max(ids.length, other.length);
    ids.forEach((id, t) => {
      if (other[t] === id) same += 1;
    });
  });
  return same / all;
}

describe.skipIf(!hasQuickstart)("the quickstart's first step on webgpu", () => {
  it("samples at least 99 % of the CPU's tokens, and training recomputes the sampled log-probabilities bit for bit", async () => {
    const cpu = await firstStep("cpu");
    const gpu = await firstStep("webgpu");
    expect(cpu.mismatch).toBe(0);
    expect(gpu.mismatch).toBe(0);
    expect(agreement(cpu.trajectories, gpu.trajectories)).toBeGreaterThanOrEqual(0.99);
  }, 600_000);

  it("records and recomputes the same log-probabilities in f16 too, with a 16-bit cache", async () => {
    const { mismatch } = await firstStep("webgpu", "device.precision=f16", "model.cacheDtype=f16", "model.dtype=f16");
    expect(mismatch).toBe(0);
  }, 600_000);
});
