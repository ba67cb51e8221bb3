/** One RL step of the quickstart, through the program's own step on the shipped checkpoints; the peer is the CPU device. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openTraining, packagedConfig, trainStep } from "zerosearch";
import type { Bench, Prepared } from "../bench.js";
import type { World } from "./world.js";

export function rlBenches(world: World): Bench[] {
  // The quickstart is f32 unless told.
  const { adapter, peers, precision: given } = world.options;
  const precision = given ?? "f32";
  const [questions, group] = world.sized([2, 2], [16, 8]);
  const open = async (kind: "cpu" | "webgpu"): Promise<Prepared> => {
    const folder = mkdtempSync(join(tmpdir(), "zerosearch-bench-"));
    const training = await openTraining({
      config: packagedConfig("quickstart"),
      settings: [
        `device.kind=${kind}`,
        `device.precision=${kind === "cpu" ? "f32" : precision}`,
        ...(kind === "cpu" || adapter === null ? [] : [`device.adapter=${adapter}`]),
        `output.runs=${join(folder, "runs")}`,
        `output.checkpoints=${join(folder, "checkpoints")}`,
        `train.questionsPerStep=${questions}`,
        `train.groupSize=${group}`,
        "train.saveEvery=0",
      ],
    });
    let step = 0;
    return {
      description: training.run.device.description,
      most: 1,
      async run() {
        step += 1;
        const start = performance.now();
        await trainStep(training.run, step);
        return { seconds: (performance.now() - start) / 1000 };
      },
      async close() {
        await training.close();
        rmSync(folder, { recursive: true, force: true });
      },
    };
  };
  return [
    {
      name: "rl/quickstart",
      unit: "steps/s",
      amount: 1,
      note: `trainStep in ${precision}: ${questions} questions x ${group} rollouts with the simulator, one update; later steps than the first`,
      peers: peers ? [{ name: "the CPU device", open: () => open("cpu") }] : [],
      async open() {
        await world.dropDevices();
        return open("webgpu");
      },
    },
  ];
}
