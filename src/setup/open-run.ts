/** Opens what a training run needs: data, device, models, engines, and the run's name. */
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import type { AgentContext } from "../agent/methods/method.ts";
import { observationIds } from "../agent/rollout.ts";
import { writeError, writeFileAtomic } from "../checkpoint/atomic.ts";
import { buildId, cleanCheckpoints, type Checkpoint, type RunState } from "../checkpoint/run-state.ts";
import { claimRunName, packageFolder, printConfig, runConfigFile, type Config, type TrainCommand } from "../config/index.ts";
import { QuestionSampler } from "../data/question-sampler.ts";
import { loadWgsl } from "../device/dawn.ts";
import type { Device } from "../device/device.ts";
import type { BatchGenerator } from "../generate/scheduler.ts";
import { AdamW, decayGroups } from "../optim/adamw.ts";
import { lossScalerFor, type LossScaler } from "../optim/loss-scaler.ts";
import type { Question } from "../rl/trajectory.ts";
import type { SimulatedSearch } from "../search/simulated.ts";
import { FileError } from "../util/errors.ts";
import { Closing } from "./closing.ts";
import { openGenerator, openSimulator, simulatorPositions, trainingContext, type Simulate } from "./open-agents.ts";
import { openDevice } from "./open-device.ts";
import { openModel, type Model } from "./open-model.ts";
import { checkPromptsFit, openData, type RunData } from "./run-data.ts";
import { findState } from "./run-states.ts";
import { TrainingRun } from "./training-run.ts";

/** What `openRun` opens. */
export interface RunParts {
  readonly config: Config;
  readonly device: Device;
  readonly policy: Model;
  readonly simulatorModel: Model;
  /** Held only where the loss has a KL term. */
  readonly reference: Model | null;
  readonly generator: BatchGenerator;
  readonly simulate: Simulate;
  /** `simulate()`: noise by the curriculum. */
  readonly simulator: SimulatedSearch;
  readonly context: AgentContext;
  readonly optimizer: AdamW;
  /** The optimiser's; null in f32. */
  readonly lossScaler: LossScaler | null;
  readonly data: RunData;
  readonly questions: QuestionSampler<Question>;
  /** `buildId` of this program. */
  readonly build: string;
  /** Where a resumed run goes on. */
  readonly checkpoint: Checkpoint | null;
  /** What a person should know about that. */
  readonly notes: readonly string[];
  /** Closes all of these. */
  readonly closing: Closing;
}

/**
 * Opens a run: a new one claims its name, a resumed one finds its newest state.
 * @throws ConfigError, FileError, DataError, DeviceError: whatever is wrong with what the user gave, before anything is written.
 */
export async function openRun(command: TrainCommand): Promise<TrainingRun> {
  const closing = new Closing();
  try {
    const parts = await openParts(command.config, closing);
    const config = command.resume ? command.config : await claim(command.config);
    const notes: string[] = [];
    const now = { build: parts.build, device: parts.device.description };
    const checkpoint = command.resume ? await takeUp(command, now, (note) => notes.push(note)) : null;
    return new TrainingRun({ ...parts, config, checkpoint, notes, closing });
  } catch (error) {
    await closing.close();
    throw error;
  }
}

/** The state that a resumed run goes on from; null where it has none yet. `say` is told what a person should know. */
async function takeUp(
  { config, changed }: TrainCommand,
  now: Pick<RunState, "build" | "device">,
  say: (note: string) => void,
): Promise<Checkpoint | null> {
  for (const { key, before, after } of changed)
    say(`warning: ${key} was ${JSON.stringify(before)} when this run was started, now it is ${JSON.stringify(after)}`);
  const states = join(config.output.checkpoints, config.name);
  for (const folder of [states, join(config.output.runs, config.name)]) {
    for (const name of await cleanCheckpoints(folder))
      say(`Cleaned up ${join(folder, name)}, which a program that was killed left half written.`);
  }
  const checkpoint = await findState(states, now, say);
  say(
    checkpoint === null
      ? `Run ${config.name} has no saved state yet: it starts again.`
      : `Going on after step ${checkpoint.state.step} from ${checkpoint.folder}.`,
  );
  return checkpoint;
}

/** Opens everything but a name, logs and states. All that can be wrong is wrong here, where nothing is written. */
export async function openParts(config: Config, closing: Closing): Promise<Omit<RunParts, "config" | "checkpoint" | "notes" | "closing">> {
  const { rollout, model, simulator, algorithm, optimizer: adam, train } = config;
  const data = await openData(config);
  if (data.engine !== null) closing.add(data.engine, (engine) => engine.close());
  const sampler = new QuestionSampler(data.train, train.questionsPerStep, config.seed);
  const device = closing.add<Device>(await openDevice(config.device), (opened) => opened.destroy());
  const build = await thisBuild(device.kind);
  const open = async (path: string, maxPositions: number, trainable: boolean): Promise<Model> =>
    closing.add(await openModel(path, device, { dtype: trainable ? "f32" : model.dtype, maxPositions, trainable }), ({ decoder }) => {
      decoder.dispose();
    });
  const policy = await open(model.policy, rollout.maxContextTokens, true);
  const simulatorModel = await open(simulator.path, simulatorPositions(config, [...data.train, ...data.test]), false);
  const reference = algorithm.klCoef === 0 ? null : await open(model.referencePolicy ?? model.policy, rollout.maxContextTokens, false);
  const generator = closing.add(openGenerator(config, device, policy, simulatorModel), (opened) => opened.dispose());
  const simulate = openSimulator(config, generator, simulatorModel);
  const searchEngine = simulate();
  const context = trainingContext(config, generator, policy, searchEngine);
  checkPromptsFit(data, context.style, policy.tokenizer, Math.min(rollout.maxContextTokens, policy.decoder.maxPositions));
  // Throws where the tags alone need more.
  if (rollout.maxTurns > 0) observationIds("", policy.tokenizer, rollout.maxObservationTokens);
  const { beta1, beta2, eps, maxGradNorm, weightDecay } = adam;
  const lossScaler = lossScalerFor(device);
  const optimizer = closing.add(
    new AdamW(decayGroups(policy.decoder.parameters(), weightDecay), { beta1, beta2, eps, maxGradNorm, lossScaler }),
    (opened) => {
      opened.dispose();
    },
  );
  return {
    device,
    policy,
    simulatorModel,
    reference,
    generator,
    simulate,
    simulator: searchEngine,
    context,
    optimizer,
    lossScaler,
    data,
    questions: sampler,
    build,
  };
}

/** Claims a name and leaves the configuration under it at once, so that a run killed before its first step can be resumed. */
async function claim(config: Config): Promise<Config> {
  try {
    await mkdir(config.output.checkpoints, { recursive: true });
  } catch (cause) {
    throw writeError(config.output.checkpoints, cause, "nothing was computed");
  }
  const named = { ...config, name: claimRunName(config.output, config.name) };
  await writeFileAtomic(join(named.output.runs, named.name, runConfigFile), printConfig(named));
  return named;
}

/** The version of this package and the hash of the kernels that compute: the compiled ones of the CPU, the WGSL of a GPU. */
async function thisBuild(kind: Device["kind"]): Promise<string> {
  const { version } = JSON.parse(await readFile(join(packageFolder, "package.json"), "utf8")) as { version: string };
  if (kind === "webgpu") return buildId(version, Buffer.from([...(await loadWgsl())].flat().join("\n")));
  const kernels = ["zerosearch.wasm", "zerosearch.relaxed.wasm"].map((name) => join(packageFolder, "dist", "kernels", name));
  try {
    return buildId(version, Buffer.concat(await Promise.all(kernels.map((file) => readFile(file)))));
  } catch (cause) {
    throw new FileError({ where: kernels.join(", "), what: "is missing", hint: "run: npm run build" }, { cause });
  }
}
