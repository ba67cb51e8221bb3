/** What a training run saves and goes on from: the policy as a Hugging Face folder, AdamW's moments, and where the run stands. */
import { copyFile } from "node:fs/promises";
import { join } from "node:path";
import { loadTensors, loadWeights, saveDecoder, saveTensors } from "../checkpoint/hugging-face.ts";
import { exists } from "../checkpoint/atomic.ts";
import {
  latestCheckpoint,
  openCheckpoint,
  resumeWarnings,
  saveCheckpoint,
  stepName,
  type Checkpoint,
  type RunState,
} from "../checkpoint/run-state.ts";
import type { AdamW } from "../optim/adamw.ts";
import type { LossScaler, LossScalerState } from "../optim/loss-scaler.ts";
import { tokenizerFiles, type Model } from "./open-model.ts";

const POLICY = "policy";
const OPTIMIZER = "optimizer.safetensors";
const LOSS_SCALE = "lossScale";

/** Writes a model as a folder that any program of this package loads. */
export async function saveModel(model: Model, folder: string): Promise<void> {
  await saveDecoder(model.decoder, folder, { dtype: "f32" });
  for (const name of tokenizerFiles) {
    const source = join(model.folder, name);
    if (await exists(source)) await copyFile(source, join(folder, name));
  }
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
    state,
    keep,
    parts: [
      { name: POLICY, write: (path) => saveModel(policy, path) },
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

/** Puts policy, optimiser and loss scale back to where a state left them. */
export async function restoreState(checkpoint: Checkpoint, policy: Model, optimizer: AdamW, scaler: LossScaler | null): Promise<void> {
  await loadWeights(policy.decoder, checkpoint.part(POLICY));
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

/** Puts the policy's weights of one step back. */
export async function restorePolicy(folder: string, step: number, policy: Model): Promise<void> {
  const checkpoint = await openCheckpoint(join(folder, stepName(step)));
  await loadWeights(policy.decoder, checkpoint.part(POLICY));
}
