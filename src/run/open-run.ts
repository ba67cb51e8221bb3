/** Opens what a training run needs: data, device, models, engines, and the run's name. */
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import type { AgentContext } from "../agent/methods/method.ts";
import { methods } from "../agent/methods/index.ts";
import { checkPromptsFit } from "../agent/prompts.ts";
import { observationIds } from "../agent/rollout.ts";
import { writeError, writeFileAtomic } from "../checkpoint/atomic.ts";
import { buildId, cleanCheckpoints, type Checkpoint, type RunState } from "../checkpoint/run-state.ts";
import { claimRunName, packageFolder, printConfig, runConfigFile, type Config, type TrainCommand } from "../config/index.ts";
import { QuestionSampler } from "../data/question-sampler.ts";
import { loadWgsl } from "../device/dawn.ts";
import type { Device } from "../device/device.ts";
import type { BatchGenerator } from "../generate/scheduler.ts";
import type { Question } from "../rl/trajectory.ts";
import type { SimulatorEngine } from "../search/simulation.ts";
import { FileError } from "../util/errors.ts";
import { refuseDamagedWeights } from "../setup/check-weights.ts";
import { Closing } from "../setup/closing.ts";
import { openSimulator, simulatorPositions, trainingContext, type Simulate } from "../setup/open-agents.ts";
import { openLearner, type LearnerParts } from "../setup/open-learner.ts";
import { openEndpoint, type Endpoint } from "../setup/open-endpoint.ts";
import type { Model } from "../setup/open-model.ts";
import { openPolicy } from "../setup/open-policy.ts";
import { refuseWhatCannotFit } from "../plan/dry-run.ts";
import { hashInputs, type InputHashes } from "./inputs.ts";
import { openData, type RunData } from "./run-data.ts";
import { findState } from "./run-states.ts";
import { TrainingRun } from "./training-run.ts";

/** What a run's rollouts need. */
export interface RolloutParts {
  /** The configuration with every Hub id at the commit that is used: to save with a run. */
  readonly pinned: Config;
  /** The configuration with folders in place of Hub ids. */
  readonly opened: Config;
  readonly device: Device;
  readonly policy: Model;
  /** Null where the simulator runs behind an endpoint. */
  readonly simulatorModel: Model | null;
  /** Held only where the loss has a KL term. */
  readonly reference: Model | null;
  readonly generator: BatchGenerator;
  readonly simulate: Simulate;
  /** `simulate()`: noise by the curriculum. */
  readonly simulator: SimulatorEngine;
  /** Where the simulator runs behind one. */
  readonly endpoint: Endpoint | null;
  readonly context: AgentContext;
  readonly data: RunData;
}

/** What `openRun` opens. */
export interface RunParts extends RolloutParts, LearnerParts {
  readonly config: Config;
  readonly questions: QuestionSampler<Question>;
  /** `buildId` of this program. */
  readonly build: string;
  readonly inputs: InputHashes;
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
    const config = command.resume ? command.config : await claim(parts.pinned);
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
  const data = await openData(config);
  if (data.engine !== null) closing.add(data.engine, (engine) => engine.close());
  const questions = new QuestionSampler(data.train, config.train.questionsPerStep, config.seed);
  const parts = await openRollouts(config, data, closing);
  await refuseDamagedWeights(parts.policy);
  const build = await thisBuild(parts.device.kind);
  return { ...parts, ...openLearner(config, parts, closing), questions, build, inputs: await hashInputs(parts.opened) };
}

/** Device, models, generator and engines. */
async function openRollouts(config: Config, data: RunData, closing: Closing): Promise<RolloutParts> {
  const { rollout } = config;
  const endpoint = await openEndpoint(config);
  const asked = [...data.train, ...data.test];
  const opened = await openPolicy(config, {
    trains: true,
    simulatorPositions: simulatorPositions(config, asked),
    check: (located, device) => refuseWhatCannotFit(located, asked, device),
    closing,
  });
  const { policy, simulator: simulatorModel, generator } = opened;
  const simulate = endpoint === null ? openSimulator(config, generator, simulatorModel as Model) : endpoint.simulate;
  const simulator = simulate();
  const context = trainingContext(config, generator, policy, simulator);
  const { dialect } = methods.zerosearch;
  const limit = Math.min(rollout.maxContextTokens, policy.maxPositions);
  checkPromptsFit([...data.train, ...data.validation, ...data.test], dialect, context, limit);
  // Throws where the tags alone need more.
  if (rollout.maxTurns > 0) observationIds("", dialect, policy.tokenizer, rollout.maxObservationTokens);
  return { ...opened, simulatorModel, simulate, simulator, endpoint, context, data };
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
