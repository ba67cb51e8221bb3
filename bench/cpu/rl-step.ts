/**
 * One RL step of the quickstart on the CPU, through the program's own step on the shipped checkpoints; the peer does the same work in
 * PyTorch (`peers/rl_step.py`): what our last step sampled, in lengths, and its update are written to a file that it replays.
 */
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openTraining, packagedConfig, trainStep, type Sequence, type StepResult, type Training } from "zerosearch";
import type { Bench, Prepared } from "../bench.js";
import type { CpuWorld } from "./world.js";

/** One request to the simulator. */
interface Search {
  readonly turn: number;
  readonly prompt: number;
  /** Tokens that it wrote. */
  readonly tokens: number;
}

/** What the peer reads. Folders are those of the weights both sides start from. */
interface Work {
  readonly policy: string;
  readonly simulator: string;
  readonly temperature: number;
  readonly simulatorTemperature: number;
  readonly updates: number;
  readonly microBatchTokens: number;
  readonly clipLow: number;
  readonly clipHigh: number;
  readonly maxGradNorm: number;
  readonly learningRate: number;
  readonly beta1: number;
  readonly beta2: number;
  /** One for each rollout, in the order of the update. */
  readonly rollouts: readonly {
    readonly ids: readonly number[];
    readonly lossMask: readonly number[];
    readonly logProbs: readonly number[];
    readonly advantage: number;
  }[];
  readonly searches: readonly Search[];
}

export function rlBench(world: CpuWorld): Bench {
  const small = world.options.sizes === "small";
  const [questions, group] = small ? [2, 2] : [16, 8];
  // One folder for both sides, whichever closes last.
  const folder = temporaryFolder();
  const file = join(folder.path, "step.json");
  return {
    name: "rl/quickstart",
    unit: "steps/s",
    amount: 1,
    rounds: 5,
    note: `trainStep: ${questions} questions x ${group} rollouts with the simulator, one update; the peer replays our last step's lengths`,
    peers: world.peers(world.torchPeer(`step ${file}`, "rl_step.py")),
    async open(): Promise<Prepared> {
      folder.make();
      const training = await openTraining({
        config: packagedConfig("quickstart"),
        settings: [
          "device.kind=cpu",
          `output.runs=${join(folder.path, "runs")}`,
          `output.checkpoints=${join(folder.path, "checkpoints")}`,
          `train.questionsPerStep=${questions}`,
          `train.groupSize=${group}`,
          "train.saveEvery=0",
        ],
      });
      const searches = watchSearches(training);
      let step = 0;
      return {
        description: training.run.device.description,
        most: 1,
        async run() {
          step += 1;
          const start = performance.now();
          const result = await trainStep(training.run, step);
          const seconds = (performance.now() - start) / 1000;
          writeFileSync(file, JSON.stringify(workOf(training, result, searches())));
          return { seconds };
        },
        async close() {
          await training.close();
          folder.remove();
        },
      };
    },
  };
}

/** A folder of the system's, made when it is first needed. */
function temporaryFolder(): { readonly path: string; make(): void; remove(): void } {
  const path = join(tmpdir(), `zerosearch-bench-rl-${process.pid}`);
  return {
    path,
    make: () => void mkdirSync(path, { recursive: true }),
    remove: () => rmSync(path, { recursive: true, force: true }),
  };
}

/** Notes every sequence that is opened for the simulator; the function says what they were since it was last called. */
function watchSearches({ run: { generator } }: Training): () => Search[] {
  const opened: { readonly turn: number; readonly prompt: number; readonly sequence: Sequence }[] = [];
  const open = generator.open.bind(generator);
  generator.open = (options) => {
    const sequence = open(options);
    if (options.purpose === "simulatorSample") opened.push({ turn: options.turn ?? 0, prompt: options.prompt.length, sequence });
    return sequence;
  };
  return () => opened.splice(0).map(({ turn, prompt, sequence }) => ({ turn, prompt, tokens: sequence.ids.length - prompt }));
}

function workOf({ run: { config } }: Training, { scored, updates }: StepResult, searches: readonly Search[]): Work {
  const { rollout, simulator, train, algorithm, optimizer, model } = config;
  if (algorithm.klCoef !== 0 || algorithm.entropyCoef !== 0) throw new Error("the peer's loss has neither a KL nor an entropy term");
  return {
    policy: model.policy,
    simulator: simulator.path ?? "",
    temperature: rollout.temperature,
    simulatorTemperature: simulator.temperature,
    updates: train.updatesPerStep,
    microBatchTokens: train.microBatchTokens,
    clipLow: algorithm.clipLow,
    clipHigh: algorithm.clipHigh,
    maxGradNorm: optimizer.maxGradNorm,
    learningRate: updates[0]?.learningRate ?? optimizer.learningRate,
    beta1: optimizer.beta1,
    beta2: optimizer.beta2,
    rollouts: scored.map(({ trajectory: { ids, lossMask, logProbs }, advantage }) => ({
      ids,
      lossMask,
      logProbs,
      advantage: advantage as number,
    })),
    searches,
  };
}
