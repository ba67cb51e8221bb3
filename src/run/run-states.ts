/**
 * What a training run saves and goes on from: what the policy has learnt (all weights as a Hugging Face folder, or a LoRA adapter as
 * PEFT's), AdamW's moments, and where the run stands.
 */
import { join } from "node:path";
import { exists } from "../checkpoint/atomic.ts";
import { ADAPTER_WEIGHTS } from "../checkpoint/folder-files.ts";
import { loadTensors, loadWeights, saveModelFolder, saveTensors } from "../checkpoint/hugging-face.ts";
import { readAdapterConfig, saveAdapter } from "../checkpoint/peft.ts";
import {
  latestCheckpoint,
  openCheckpoint,
  resumeWarnings,
  saveCheckpoint,
  stepName,
  type Checkpoint,
  type RunState,
} from "../checkpoint/run-state.ts";
import type { Config } from "../config/index.ts";
import type { AdapterShape } from "../nn/decoder.ts";
import type { AdamW } from "../optim/adamw.ts";
import type { LossScaler, LossScalerState } from "../optim/loss-scaler.ts";
import { FileError } from "../util/errors.ts";
import type { Model } from "../setup/open-model.ts";

const POLICY = "policy";
const OPTIMIZER = "optimizer.safetensors";
const LOSS_SCALE = "lossScale";
const MOMENTS = "moments";

/**
 * Writes what a policy has learnt: the whole model as a folder that transformers and this package load, or the adapter alone as a folder
 * that PEFT and this package load on top of the model that it names.
 */
export async function savePolicy(
  { decoder, adapter, folder: from, source, commit }: Model,
  folder: string,
  dtype: Config["output"]["dtype"],
): Promise<void> {
  if (adapter === undefined) await saveModelFolder(decoder, folder, { from, dtype });
  else await saveAdapter(decoder, adapter, folder, { baseModel: source, revision: commit, dtype });
}

/** Writes what was learnt, in f32, back into the policy that `savePolicy` saved. @throws FileError where it was of another kind or size. */
async function loadPolicy({ decoder, adapter }: Model, folder: string): Promise<void> {
  const file = join(folder, ADAPTER_WEIGHTS);
  const saved = (await exists(file)) ? adapterText(await readAdapterConfig(folder)) : "all weights";
  const wanted = adapter === undefined ? "all weights" : adapterText(decoder.adapterShape(adapter));
  if (saved !== wanted)
    throw new FileError({
      where: folder,
      what: `holds ${saved} of a policy, while this run trains ${wanted}`,
      hint: "Go on with the lora settings that the run was started with.",
    });
  if (adapter === undefined) await loadWeights(decoder, folder);
  else await loadTensors(file, decoder.adapterParameters(adapter));
}

/** With alpha: under another one the same numbers fit, and mean something else. */
function adapterText({ rank, alpha }: Pick<AdapterShape, "rank" | "alpha">): string {
  return `an adapter of rank ${rank} and alpha ${alpha}`;
}

/** Saves a state of the run, whole or not at all. @returns its folder. @throws FileError when the disk is full; older states stay. */
export async function saveState(
  folder: string,
  policy: Model,
  optimizer: AdamW,
  state: Omit<RunState, "version">,
  keep: number,
): Promise<string> {
  return saveCheckpoint({
    folder,
    state: { ...state, extra: { ...state.extra, [MOMENTS]: optimizer.moments } },
    keep,
    parts: [
      { name: POLICY, write: (path) => savePolicy(policy, path, "f32") },
      { name: OPTIMIZER, write: (path) => saveTensors(path, optimizer.stateTensors()) },
    ],
  });
}

/** The newest state of a run, or null. Prints what differs between the program that saved it and this one. */
export async function findState(
  folder: string,
  now: Pick<RunState, "build" | "device">,
  warn: (text: string) => void,
): Promise<Checkpoint | null> {
  const checkpoint = await latestCheckpoint(folder);
  if (checkpoint !== null) for (const warning of resumeWarnings(checkpoint.state, now)) warn(`warning: ${warning}`);
  return checkpoint;
}

/**
 * Puts policy, optimiser and loss scale back to where a state left them.
 * @throws FileError where the state's moments are of another kind than the optimiser's.
 */
export async function restoreState(checkpoint: Checkpoint, policy: Model, optimizer: AdamW, scaler: LossScaler | null): Promise<void> {
  const moments = String(checkpoint.state.extra[MOMENTS] ?? "f32");
  if (moments !== optimizer.moments)
    throw new FileError({
      where: checkpoint.folder,
      what: "its moments are of another kind",
      expected: `optimizer.moments=${optimizer.moments}`,
      got: moments,
      hint: `Go on with optimizer.moments=${moments}, or start a new run from ${join(checkpoint.folder, POLICY)}.`,
    });
  await loadPolicy(policy, checkpoint.part(POLICY));
  await loadTensors(checkpoint.part(OPTIMIZER), optimizer.stateTensors());
  optimizer.resume(checkpoint.state.updates);
  // Absent where the run was in f32 until now: the scale then starts as in a new run.
  const scale = checkpoint.state.extra[LOSS_SCALE];
  if (scale !== undefined) scaler?.resume(scale as unknown as LossScalerState);
}

/** What a state says about the loss scale, for its `extra`. */
export function lossScaleState(scaler: LossScaler | null): RunState["extra"] {
  return scaler === null ? {} : { [LOSS_SCALE]: { ...scaler.state() } };
}

/** Puts the policy of one step back. */
export async function restorePolicy(folder: string, step: number, policy: Model): Promise<void> {
  const checkpoint = await openCheckpoint(join(folder, stepName(step)));
  await loadPolicy(policy, checkpoint.part(POLICY));
}
