/** One phase of fine-tuning, resumable: its state is saved as it goes, and its examples are a function of seed and phase. */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { loadTensors, loadWeights, saveModelFolder, saveTensors } from "../../checkpoint/hugging-face.ts";
import { latestCheckpoint, saveCheckpoint } from "../../checkpoint/run-state.ts";
import type { Device } from "../../device/device.ts";
import { Progress } from "../../log/progress.ts";
import { Decoder } from "../../nn/decoder.ts";
import type { DecoderConfig } from "../../nn/config.ts";
import { AdamW, decayGroups } from "../../optim/adamw.ts";
import { lossScalerFor, type LossScalerState } from "../../optim/loss-scaler.ts";
import { BatchStream, fineTuneStep, type Example } from "../../sft/fine-tune.ts";
import { ZeroSearchError } from "../../util/errors.ts";
import type { Phase, QuickstartRecipe } from "./recipe.ts";

export interface TuneOptions {
  readonly recipe: QuickstartRecipe;
  readonly phase: Phase;
  readonly config: DecoderConfig;
  readonly device: Device;
  /** Where the phase keeps its states while it runs. */
  readonly folder: string;
  /** Folder of the weights it starts from; null draws them from the seed. */
  readonly from: string | null;
  /** Folder it ends in: config.json and model.safetensors. */
  readonly to: string;
  /** The phase's endless stream of examples; `share` tells how much of the phase is done. */
  readonly examples: (share: () => number) => Iterator<Example>;
}

/** Updates between two saved states. */
const saveEvery = 100;

/** Learning rate at update `u` (from 0) with `share` of the phase's tokens done: linear warm-up times cosine from 1 to `finalShare`. */
function phaseLearningRate({ learningRate, warmupUpdates, finalShare }: Phase, u: number, share: number): number {
  const warm = Math.min(1, (u + 1) / Math.max(1, warmupUpdates));
  return learningRate * warm * (finalShare + (1 - finalShare) * 0.5 * (1 + Math.cos(Math.PI * Math.min(1, share))));
}

/** Runs the phase from where it stands to its end. @returns the mean loss of its last hundred updates. */
export async function tune({ recipe, phase, config, device, folder, from, to, examples }: TuneOptions): Promise<number> {
  const decoder = Decoder.initialise(config, device, recipe.seed, { maxPositions: recipe.maxExampleTokens });
  if (from !== null) await loadWeights(decoder, from);
  decoder.setTrainable(true);
  const { weightDecay, ...adam } = recipe.optimizer;
  const lossScaler = lossScalerFor(device);
  const optimizer = new AdamW(decayGroups(decoder.parameters(), weightDecay), { ...adam, lossScaler });
  let updates = 0,
    tokens = 0;
  const losses: number[] = [];
  const saved = await latestCheckpoint(folder);
  const resumeAt = saved?.state.step ?? 0;
  if (saved !== null) {
    await loadWeights(decoder, saved.part("model"));
    await loadTensors(saved.part("optimizer.safetensors"), optimizer.stateTensors());
    optimizer.resume(saved.state.updates);
    const { lossScale } = saved.state.extra;
    if (lossScale !== undefined) lossScaler?.resume(lossScale as unknown as LossScalerState);
  }
  const stream = new BatchStream(
    examples(() => tokens / phase.tokens),
    recipe.tokensPerUpdate,
    recipe.maxExampleTokens,
  );
  const progress = new Progress({ label: `${phase.name}: tokens`, total: phase.tokens, unit: "tokens", plainInterval: 10000 });
  try {
    for (; tokens < phase.tokens; updates++) {
      const batch = stream.next();
      const share = tokens / phase.tokens;
      tokens += batch.reduce((sum, { ids }) => sum + ids.length, 0);
      if (updates < resumeAt) continue;
      const stats = await fineTuneStep(decoder, optimizer, batch, {
        learningRate: phaseLearningRate(phase, updates, share),
        microBatchTokens: recipe.microBatchTokens,
      });
      if (!Number.isFinite(stats.gradNorm) && !stats.overflowed)
        throw new ZeroSearchError({
          where: `${phase.name}, update ${updates + 1}`,
          what: "the gradient norm is not finite: training has diverged",
          got: String(stats.gradNorm),
          hint: "Lower the phase's learning rate.",
        });
      losses.push(stats.loss);
      progress.update(Math.min(tokens, phase.tokens), { loss: recent(losses, 20), "grad norm": stats.gradNorm });
      if ((updates + 1) % saveEvery === 0 && tokens < phase.tokens) await save(folder, updates + 1);
    }
    progress.finish();
    await saveModelFolder(decoder, to, { dtype: "f32" });
    await rm(folder, { recursive: true, force: true });
    return recent(losses, 100);
  } finally {
    optimizer.dispose();
    decoder.dispose();
  }

  async function save(place: string, step: number): Promise<void> {
    await saveCheckpoint({
      folder: place,
      keep: 1,
      state: {
        step,
        updates: optimizer.step,
        seed: recipe.seed,
        device: device.description,
        build: "",
        best: null,
        logBytes: {},
        extra: lossScaler === null ? {} : { lossScale: { ...lossScaler.state() } },
      },
      parts: [
        { name: "model", write: (path) => saveModelFolder(decoder, path) },
        { name: "optimizer.safetensors", write: (path) => saveTensors(path, optimizer.stateTensors()) },
      ],
    });
  }
}

function recent(values: readonly number[], count: number): number {
  const last = values.slice(-count);
  return last.reduce((sum, value) => sum + value, 0) / Math.max(1, last.length);
}

/** Where a phase's weights are while the quickstart is built. */
export function phaseFolder(work: string, phase: string): string {
  return join(work, phase);
}
