/**
 * The saved states of a run: what the policy has learnt (all weights as a Hugging Face folder, or a LoRA adapter as PEFT's), AdamW's moments,
 * and where the run stands.
 */
import { cp } from "node:fs/promises";
import { basename, join } from "node:path";
import { exists, removeFolderAtomic, removeTemporary, writeFolderAtomic } from "../checkpoint/atomic.ts";
import {
  latestCheckpoint,
  listSteps,
  openCheckpoint,
  resumeWarnings,
  savedHashes,
  saveCheckpoint,
  stepName,
  type Checkpoint,
  type RunState,
} from "../checkpoint/run-state.ts";
import { loadTensors } from "../checkpoint/load-model.ts";
import { saveTensors } from "../checkpoint/save-tensors.ts";
import type { TrainCommand } from "../config/index.ts";
import type { LossScalerState } from "../optim/loss-scaler.ts";
import { ConfigError, FileError, ZeroSearchError } from "../util/errors.ts";
import { codeInputs, type InputHashes } from "./inputs.ts";
import type { Recorded, RunHistory } from "./journal.ts";
import { criticExtra, criticParts, restoreCritic, savedCritic, type CriticParts } from "./critic-files.ts";
import { loadPolicy, savePolicy } from "./policy-files.ts";
import { differingInputs, receiptFile } from "./receipt.ts";
import { logFolder, statesFolder, type Run, type StepParts } from "./run.ts";

const POLICY = "policy";
const OPTIMIZER = "optimizer.safetensors";

/** A state that was just saved. */
export interface Saved {
  readonly step: number;
  /** Whether the run saves here by itself; a state of a run that was stopped between stands in no receipt, as nobody can repeat it. */
  readonly due: boolean;
  /** SHA-256 of the policy's weights, by file. */
  readonly weights: Readonly<Record<string, string>>;
}

/** @internal What states are made of, and checked against. */
export type StatesRun = Pick<
  Run,
  | "config"
  | "device"
  | "policy"
  | "optimizer"
  | "lossScaler"
  | "klWeight"
  | "engines"
  | "build"
  | "inputs"
  | keyof CriticParts
  | keyof StepParts
>;

export class States {
  readonly folder: string;
  readonly #run: StatesRun;
  #newest: { readonly step: number; readonly folder: string } | null = null;

  /** @internal */
  constructor(run: StatesRun) {
    this.#run = run;
    this.folder = statesFolder(run.config);
  }

  /**
   * @internal Puts policy, optimiser and loss scale back to where a state left them.
   * @throws FileError where the state's moments are of another kind.
   */
  async restore(checkpoint: Checkpoint): Promise<Saved> {
    const { policy, optimizer, lossScaler, critic } = this.#run;
    const { state, folder } = checkpoint;
    if (critic !== null) savedCritic(critic, checkpoint); // its head may be one of the optimiser's tensors
    const moments = String(state.extra["moments"] ?? "f32");
    if (moments !== optimizer.moments)
      throw new FileError({
        where: folder,
        what: "its moments are of another kind",
        expected: `optimizer.moments=${optimizer.moments}`,
        got: moments,
        hint: `Go on with optimizer.moments=${moments}, or start a new run from ${join(folder, POLICY)}.`,
      });
    await loadPolicy(policy, checkpoint.part(POLICY));
    await loadTensors(checkpoint.part(OPTIMIZER), optimizer.stateTensors());
    optimizer.resume(state.updates);
    // Absent where the run was in f32 until now: the scale then starts as in a new run.
    const scale = state.extra["lossScale"];
    if (scale !== undefined) lossScaler?.resume(scale as unknown as LossScalerState);
    const coef = state.extra["klCoef"];
    if (typeof coef === "number") this.#run.klWeight.resume(coef);
    const noise = state.extra["noise"];
    if (typeof noise === "number") this.#run.engines.adaptiveNoise?.resume(noise);
    await restoreCritic(this.#run, checkpoint);
    this.#newest = { step: state.step, folder };
    return { step: state.step, due: this.due({ step: state.step, history: state }), weights: await savedWeights(folder) };
  }

  /** Whether a step is one after which the state is saved: every `saveEvery`, a new best, the last. */
  due({ step, history }: { readonly step: number; readonly history: Pick<RunHistory, "best"> }): boolean {
    const { saveEvery, steps } = this.#run.config.train;
    return step === steps || step === history.best?.step || (saveEvery > 0 && step % saveEvery === 0);
  }

  /** The newest state that is saved, its step and its folder; null where there is none. */
  get newest(): { readonly step: number; readonly folder: string } | null {
    return this.#newest;
  }

  /**
   * Saves the state after a recorded step, whole or not at all. Null where it is saved already.
   * @param place - another folder for it than the run's own
   * @throws FileError when the disk is full: older states stay. ZeroSearchError when the weights have moved on since that step.
   */
  async save(recorded: Recorded, place = this.folder): Promise<Saved | null> {
    const { step } = recorded;
    const { config, device, policy, optimizer, lossScaler, klWeight, engines, build, inputs } = this.#run;
    if (recorded.updates !== optimizer.step)
      throw new ZeroSearchError({
        where: `saving step ${step}`,
        what: "the policy has been updated since that step was recorded",
        expected: `${recorded.updates} updates`,
        got: String(optimizer.step),
        hint: "Record a step, and save what was recorded, before the next one is trained.",
      });
    if (this.#newest?.step === step) return null;
    const unwritten = place === this.folder ? {} : recorded.unwritten();
    if (place === this.folder) recorded.sync();
    const plain = (value: unknown): RunState["extra"][string] => JSON.parse(JSON.stringify(value)) as RunState["extra"][string];
    const folder = await saveCheckpoint({
      folder: place,
      keep: config.train.keepCheckpoints,
      state: {
        step,
        updates: optimizer.step,
        seed: config.seed,
        device: device.description,
        build,
        best: recorded.history.best,
        logBytes: recorded.logBytes,
        extra: {
          memory: plain(recorded.history),
          receipt: plain(recorded.receipt),
          made: plain(recorded.made),
          inputs: plain(inputs),
          moments: optimizer.moments,
          ...criticExtra(this.#run),
          ...(config.algorithm.klTarget === 0 ? {} : { klCoef: klWeight.coef }),
          ...(engines.adaptiveNoise === null ? {} : { noise: engines.adaptiveNoise.level }),
          ...(Object.keys(unwritten).length === 0 ? {} : { unwritten }),
          ...(lossScaler === null ? {} : { lossScale: { ...lossScaler.state() } }),
        },
      },
      parts: [
        { name: POLICY, write: (path) => savePolicy(policy, path, "f32") },
        { name: OPTIMIZER, write: (path) => saveTensors(path, optimizer.stateTensors()) },
        ...criticParts(this.#run),
      ],
    });
    this.#newest = { step, folder };
    if (place !== this.folder) await this.#copyBest(recorded.history.best?.step, place);
    return { step, due: this.due(recorded), weights: await savedWeights(folder) };
  }

  /** The best state goes along where the newest had to be saved elsewhere. That there is no room for it is said when it is asked for. */
  async #copyBest(step: number | undefined, place: string): Promise<void> {
    if (step === undefined) return;
    const [from, to] = [join(this.folder, stepName(step)), join(place, stepName(step))];
    if (!(await exists(from)) || (await exists(to))) return;
    await writeFolderAtomic(to, (temporary) => cp(from, temporary, { recursive: true })).catch(() => undefined);
  }

  /**
   * @internal The step whose state is the last good one before a sign of collapse in `step`: the best by validation, or the newest of at least
   * five steps before. Null where there is none.
   */
  async goodBefore(step: number, best: number | undefined): Promise<number | null> {
    const steps = await listSteps(this.folder);
    if (best !== undefined && best < step && steps.includes(best)) return best;
    return steps.filter((one) => one <= step - 5).at(-1) ?? null;
  }

  /** @internal Opens the state of a step, and deletes those after it, the newest first: a run that is killed meanwhile goes on from one of them. */
  async goBack(step: number): Promise<Checkpoint> {
    const checkpoint = await openCheckpoint(join(this.folder, stepName(step)));
    for (const later of (await listSteps(this.folder)).filter((one) => one > step).reverse())
      await removeFolderAtomic(join(this.folder, stepName(later)));
    return checkpoint;
  }

  /** @internal Whether the state of a step is here. */
  has(step: number): Promise<boolean> {
    return exists(join(this.folder, stepName(step)));
  }

  /** @internal Puts the policy of one saved step back. Nothing is trained or saved after it. */
  async restorePolicy(step: number): Promise<void> {
    await loadPolicy(this.#run.policy, (await openCheckpoint(join(this.folder, stepName(step)))).part(POLICY));
  }
}

function savedWeights(folder: string): Promise<Record<string, string>> {
  return savedHashes(folder, /^policy\/.*\.safetensors$/);
}

/**
 * @internal A run goes on with the method, the engine, the reward, the prompts and the chat template that it was trained with, not with others of the same place.
 * @throws ConfigError where a state was made with others, or their files have changed since.
 */
export function checkMade({ method, engine, reward, inputs, config }: StatesRun, { extra }: RunState, where: string): void {
  const before = (extra["made"] ?? {}) as Readonly<Record<string, string>>;
  const hashes = (extra["inputs"] ?? {}) as Readonly<Record<string, string>>;
  const now = {
    method: [method.name, "rollout.method"],
    engine: [engine.name, "search.engine"],
    reward: [reward.name, "reward.kind"],
    prompt: [undefined, "rollout.prompt"],
    "chat template": [undefined, "model.chatTemplate"],
    "simulator's prompt": [undefined, "simulator.prompt"],
  } as const;
  for (const [part, [name, key]] of Object.entries(now)) {
    const was = before[part];
    if (was !== undefined && name !== undefined && kindOf(was) !== kindOf(name))
      throw new ConfigError({
        where,
        what: `this run was trained with another ${part}`,
        expected: was,
        got: name,
        hint: `Give it as ${key}, or to openTraining({ ${part} }).`,
      });
    if (extra["inputs"] !== undefined && hashes[key] !== inputs[key])
      throw new ConfigError({
        where: key,
        what: `the file of this run's ${part} has changed since the state was saved`,
        expected: hashes[key] === undefined ? "none: it was no file" : `SHA-256 ${hashes[key]}`,
        got: inputs[key] ?? "no such file",
        hint: `Put the old file back, or start a new run from ${config.output.checkpoints}.`,
      });
  }
}

/**
 * @internal A run goes on with the data, the corpus and the models that it was trained with. What its user has asked for by another setting is no
 * surprise, and its program may change.
 * @throws ConfigError naming every file that is not the one of the saved state, unless that is allowed: then `say` is told.
 */
export function checkInputs(
  { inputs }: Pick<StatesRun, "inputs">,
  { state: { extra }, folder }: Pick<Checkpoint, "state" | "folder">,
  { changed, allowChanged = false }: Pick<TrainCommand, "changed" | "allowChanged">,
  say: (note: string) => void,
): void {
  const before = extra["inputs"] as InputHashes | undefined;
  if (before === undefined) return;
  const asked = (name: string): boolean => changed.some(({ key }) => name === key || name.startsWith(`${key}/`));
  const names = differingInputs(before, inputs).filter((name) => !codeInputs.includes(name) && !asked(name));
  if (names.length === 0) return;
  const what = `changed since the state was saved: ${names.join(", ")}`;
  if (allowChanged) say(`warning: ${what}`);
  else
    throw new ConfigError({
      where: folder,
      what,
      hint: "Put the old files back. --allow-changed goes on with the new ones; the run is then not the one that its receipt tells of.",
    });
}

/** A simulator may move from this process to an endpoint. */
function kindOf(name: string): string {
  return name.replace(/ \(endpoint\)$/, "");
}

/** The state that a resumed run goes on from; null where it has none yet. `say` is told what a person should know. */
export async function findState(
  { config, changed }: TrainCommand,
  now: Pick<RunState, "build" | "device">,
  say: (note: string) => void,
): Promise<Checkpoint | null> {
  for (const { key, before, after } of changed)
    say(`warning: ${key} was ${JSON.stringify(before)} when this run was started, now it is ${JSON.stringify(after)}`);
  const folder = statesFolder(config);
  for (const place of [folder, logFolder(config)]) {
    for (const name of await removeTemporary(place))
      say(`Cleaned up ${join(place, name)}, which a program that was killed left half written.`);
  }
  const checkpoint = await latestCheckpoint(folder);
  const receipt = join(logFolder(config), receiptFile);
  if (checkpoint === null && (await exists(receipt)))
    throw new ConfigError({
      where: folder,
      what: `there is no saved state here, and ${receipt} tells of some`,
      expected: "the folder that the run's states were saved in",
      hint: "Say where it is: output.checkpoints=FOLDER (the one that holds the folders of runs). To start again, start a new run.",
    });
  for (const key of ["model.policy", "lora.from"])
    if (checkpoint !== null && changed.some((one) => one.key === key))
      say(`note: ${key} has no say in the weights of a run that goes on: these are the saved state's.`);
  if (checkpoint !== null && checkpoint.state.step >= config.train.steps)
    say(
      `note: the run has done ${checkpoint.state.step} ${checkpoint.state.step === 1 ? "step" : "steps"}, and train.steps is ${config.train.steps}: nothing is left to train.`,
    );
  if (checkpoint !== null) for (const warning of resumeWarnings(checkpoint.state, now)) say(`warning: ${warning}`);
  say(
    checkpoint === null
      ? `Run ${basename(folder)} has no saved state yet: it starts again.`
      : `Going on after step ${checkpoint.state.step} from ${checkpoint.folder}.`,
  );
  return checkpoint;
}
