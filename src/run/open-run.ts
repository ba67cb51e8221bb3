/** Opens what a training run needs: data, device, models, engines, and the run's name. */
import { collectionOf, paidSearches, readCosts } from "./costs.ts";
import { paidLog } from "../setup/paid-log.ts";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Method } from "../agent/methods/method.ts";
import { checkText } from "../agent/prompts.ts";
import { makeFolder, writeError, writeFileAtomic } from "../checkpoint/atomic.ts";
import type { Lock } from "../checkpoint/lock.ts";
import { buildId, type Checkpoint } from "../checkpoint/run-state.ts";
import { claimRunName, enginesUsed, packageFolder, printConfig, runConfigFile, type Config, type TrainCommand } from "../config/index.ts";
import { QuestionSampler } from "../data/question-sampler.ts";
import type { Device } from "../device/device.ts";
import { deviceKind } from "../device/devices.ts";
import { PhaseClock } from "../log/phase-clock.ts";
import { KlWeight } from "../rl/kl.ts";
import type { Question } from "../rl/trajectory.ts";
import { ConfigError } from "../util/errors.ts";
import { callOwn } from "../util/own-code.ts";
import { refuseDamagedWeights } from "../setup/check-weights.ts";
import { Closing } from "../setup/closing.ts";
import { promptSettings, simulatorPositions, trainingContext } from "../setup/open-agents.ts";
import { Engines } from "../setup/open-engines.ts";
import { locateData } from "../setup/locate-data.ts";
import { openLearner } from "../setup/open-learner.ts";
import { checkMethodFits, openMethod } from "../setup/open-method.ts";
import { openPolicy, type OpenedPolicy } from "../setup/open-policy.ts";
import { prepareDevice } from "../setup/prepare-device.ts";
import { schedules } from "./algorithm.ts";
import { hashInputs, type InputHashes } from "./inputs.ts";
import { openData, type RunData } from "./run-data.ts";
import { openReward } from "./reward.ts";
import { lockRun } from "./run-lock.ts";
import { logFolder, type Run, type StepParts } from "./run.ts";
import { checkInputs, checkMade, findState, States } from "./states.ts";

/** What a run's rollouts need, and the configuration with every Hub id at the commit that is used, and with folders in place of Hub ids. */
type RolloutParts = Pick<
  Run,
  "device" | "policy" | "simulatorModel" | "criticModel" | "reference" | "generator" | "engines" | "context" | "data"
> &
  Pick<OpenedPolicy, "pinned" | "opened">;

/** A run that is open and has done nothing: its policy is the one that it starts from. */
export interface OpenedRun {
  readonly run: Run;
  readonly states: States;
  /** The state to go on from. */
  readonly checkpoint: Checkpoint | null;
  /** @internal That no other program writes this run. */
  readonly lock: Lock;
  /** What a person should know. */
  readonly notes: readonly string[];
  /** Closes all of it. */
  readonly closing: Closing;
}

export interface OpenRunOptions extends Partial<StepParts> {
  /** Fires when the run is to stop. */
  readonly signal?: AbortSignal;
}

/** What a program does besides, or has done already. */
export interface OpeningSteps {
  /** Throws where the device that was opened cannot hold a run, before its weights are loaded; returns what its generator is made by. */
  readonly refuse?: (config: Config, questions: readonly Question[], device: Device) => Promise<Config>;
  /** The hashes of what goes in, where they are known. */
  readonly inputs?: InputHashes | undefined;
}

/**
 * Opens a run: a new one claims its name, a resumed one finds its newest state.
 * @throws ConfigError, FileError, DataError, DeviceError: whatever is wrong with what the user gave, before anything is written.
 */
export async function openRun(command: TrainCommand, options: OpenRunOptions = {}, steps: OpeningSteps = {}): Promise<OpenedRun> {
  const closing = new Closing();
  try {
    const { pinned, ...parts } = await openParts(command.config, options, closing, steps);
    const notes = [...parts.data.notes];
    const config = command.resume ? command.config : await claim(pinned);
    const lock = closing.add(await lockRun(config, options.signal, (text) => void process.stdout.write(`${text}\n`)), (one) => one.close());
    parts.engines.keepPaid(join(logFolder(config), paidLog), paidSearches(readCosts(config)));
    const checkpoint = command.resume
      ? await findState(command, { build: parts.build, device: parts.device.description }, (note) => notes.push(note))
      : null;
    const run: Run = { ...parts, config };
    if (checkpoint !== null) {
      checkMade(run, checkpoint.state, checkpoint.folder);
      checkInputs(run, checkpoint, command, (note) => notes.push(note));
    }
    return { run, states: new States(run), checkpoint, lock, notes, closing };
  } catch (error) {
    return closing.failed(error);
  }
}

/** Opens everything but a name, logs and states. All that can be wrong is wrong here, where nothing is written. */
export async function openParts(
  config: Config,
  options: OpenRunOptions,
  closing: Closing,
  { refuse, inputs }: OpeningSteps = {},
): Promise<Omit<Run, "config"> & { readonly pinned: Config }> {
  // Read at the end only.
  collectionOf(config);
  const here = await locateData(config, { signal: options.signal });
  const data = await openData(here.opened);
  const questions = new QuestionSampler(data.train, config.train.questionsPerStep, config.seed);
  const method = options.method ?? (await openMethod(config.rollout.method));
  const { opened, ...parts } = await openRollouts(here.opened, data, { ...options, method }, closing, refuse);
  await refuseDamagedWeights(parts.policy);
  const { algorithm } = config;
  return {
    ...parts,
    pinned: { ...parts.pinned, data: here.pinned.data },
    ...openLearner(config, parts, closing),
    method,
    engine: parts.context.engine,
    reward: options.reward ?? (await openReward(config.reward.kind)),
    questions,
    ...schedules(config),
    rate: { factor: 1 },
    klWeight: new KlWeight(algorithm.klCoef, { target: algorithm.klTarget, horizon: algorithm.klHorizon }),
    clock: new PhaseClock(),
    signal: options.signal ?? new AbortController().signal,
    build: await thisBuild(parts.device.kind),
    inputs: inputs ?? (await hashInputs(opened)),
  };
}

/** Compiles what the models need of the device's kernels, where that is done ahead. */
export async function prepareRun({ device, config, policy, simulatorModel, reference, criticModel }: Run): Promise<void> {
  await prepareDevice(device, config, { policy, simulator: simulatorModel, reference, criticModel }, { trains: true });
}

/** Device, models, generator and engines. */
async function openRollouts(
  config: Config,
  data: RunData,
  { method, engine, signal }: OpenRunOptions & { readonly method: Method },
  closing: Closing,
  refuse: OpeningSteps["refuse"],
): Promise<RolloutParts> {
  const { searches = true } = method;
  if (searches && engine === undefined && config.search.engine === null)
    throw new ConfigError({
      where: "search.engine",
      what: "is null, and no engine is given",
      expected: "a name or a module, or openTraining({ engine })",
      got: "null",
    });
  // What is wrong with a prompt is told before gigabytes are loaded.
  const { dialect } = method;
  if (dialect !== undefined)
    await callOwn(`method ${method.name}`, () => checkText(dialect, promptSettings(config, { chatTemplate: null })));
  const used = enginesUsed(config, "train", searches);
  const engines = await Engines.open(config, used, closing, { signal });
  const asked = [...data.train, ...data.test];
  const opened = await openPolicy(config, {
    trains: true,
    simulatorPositions: used.includes("simulated") ? simulatorPositions(config, asked) : null,
    embeds: used.includes("dense"),
    ...(refuse === undefined ? {} : { size: (located: Config, device: Device) => refuse(located, asked, device) }),
    closing,
  });
  const { policy, simulator: simulatorModel, generator } = opened;
  await engines.add(config, opened, closing, signal);
  const asks = engine === undefined ? engines.get(config.search.engine ?? "none") : engines.given(engine, config);
  const context = trainingContext(config, generator, policy, asks);
  await checkMethodFits(method, [...asked, ...data.validation], context, policy.maxPositions);
  return { ...opened, simulatorModel, engines, context, data };
}

/** Claims a name and leaves the configuration under it at once, so that a run killed before its first step can be resumed. */
async function claim(config: Config): Promise<Config> {
  for (const folder of [config.output.checkpoints, config.output.runs])
    await makeFolder(folder).catch((cause: unknown) => {
      throw writeError(folder, cause, "nothing was computed");
    });
  const named = { ...config, name: claimRunName(config.output, config.name) };
  await writeFileAtomic(join(named.output.runs, named.name, runConfigFile), printConfig(named));
  return named;
}

/** The version of this package and the hash of the kernels that compute. */
async function thisBuild(kind: string): Promise<string> {
  const { version } = JSON.parse(await readFile(join(packageFolder, "package.json"), "utf8")) as { version: string };
  return buildId(version, await deviceKind(kind).code());
}
