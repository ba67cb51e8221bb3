/** The critic in a saved state: what it stands on, as a policy is saved, unless that is the policy; its value head; and its optimiser. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { loadTensors } from "../checkpoint/load-model.ts";
import type { Checkpoint, RunState } from "../checkpoint/run-state.ts";
import { saveTensors } from "../checkpoint/save-tensors.ts";
import type { LossScalerState } from "../optim/loss-scaler.ts";
import type { Critic } from "../setup/open-learner.ts";
import type { Model } from "../setup/open-model.ts";
import { FileError } from "../util/errors.ts";
import { loadPolicy, savePolicy } from "./policy-files.ts";

const CRITIC = "critic";
const HEAD = "value_head.safetensors";
const OPTIMIZER = "critic-optimizer.safetensors";

export interface CriticParts {
  /** Null without a critic. */
  readonly critic: Critic | null;
  /** What a critic of its own stands on. */
  readonly criticModel: Model | null;
}

/** What a state says of a critic. */
interface SavedCritic {
  readonly trunk: "own" | "policy";
  readonly updates: number;
  readonly lossScale?: LossScalerState;
}

/** The parts of a state that hold the critic. */
export function criticParts({
  critic,
  criticModel,
}: CriticParts): { readonly name: string; readonly write: (path: string) => Promise<void> }[] {
  if (critic === null) return [];
  const write = async (folder: string): Promise<void> => {
    if (criticModel !== null) await savePolicy(criticModel, folder, "f32");
    await mkdir(folder, { recursive: true });
    await saveTensors(join(folder, HEAD), critic.head.parameters());
  };
  const { own } = critic;
  return [
    { name: CRITIC, write },
    ...(own === null ? [] : [{ name: OPTIMIZER, write: (path: string) => saveTensors(path, own.optimizer.stateTensors()) }]),
  ];
}

/** What the state remembers of it besides. */
export function criticExtra({ critic }: CriticParts): RunState["extra"] {
  if (critic === null) return {};
  const { own } = critic;
  const saved = {
    trunk: own === null ? "policy" : "own",
    updates: own?.optimizer.step ?? 0,
    ...(own === null || own.lossScaler === null ? {} : { lossScale: { ...own.lossScaler.state() } }),
  };
  return { critic: saved };
}

/** What a state says of its critic. @throws FileError where that is none, or stands on other weights */
export function savedCritic({ own }: NonNullable<CriticParts["critic"]>, { state, folder }: Checkpoint): SavedCritic {
  const saved = state.extra["critic"] as unknown as SavedCritic | undefined;
  const trunk = own === null ? "policy" : "own";
  if (saved?.trunk !== trunk)
    throw new FileError({
      where: folder,
      what: saved === undefined ? "holds no critic: this run was trained without one" : "its critic stands on other weights",
      expected: saved === undefined ? "algorithm.advantage as it was" : `critic.trunk=${saved.trunk}`,
      got: saved === undefined ? "algorithm.advantage=gae" : `critic.trunk=${trunk}`,
      hint: "A run goes on as it began. Start a new one from its policy: model.policy=FOLDER.",
    });
  return saved;
}

/** Puts the critic back to where a state left it. @throws FileError where the state has none, or one of another kind. */
export async function restoreCritic({ critic, criticModel }: CriticParts, checkpoint: Checkpoint): Promise<void> {
  if (critic === null) return;
  const { own } = critic;
  const saved = savedCritic(critic, checkpoint);
  const place = checkpoint.part(CRITIC);
  if (criticModel !== null) await loadPolicy(criticModel, place);
  await loadTensors(join(place, HEAD), critic.head.parameters());
  if (own === null) return;
  await loadTensors(checkpoint.part(OPTIMIZER), own.optimizer.stateTensors());
  own.optimizer.resume(saved.updates);
  if (saved.lossScale !== undefined) own.lossScaler?.resume(saved.lossScale);
}
