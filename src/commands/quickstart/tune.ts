/** One phase of the quickstart's fine-tuning: its examples are a function of seed and phase. */
import { join } from "node:path";
import { loadWeights } from "../../checkpoint/load-model.ts";
import { saveModelFolder } from "../../checkpoint/save-model.ts";
import type { Device } from "../../device/device.ts";
import { Decoder } from "../../nn/decoder.ts";
import type { DecoderConfig } from "../../nn/config.ts";
import { AdamW, decayGroups } from "../../optim/adamw.ts";
import { lossScalerFor } from "../../optim/loss-scaler.ts";
import { cosineRate, forgetStates, tune } from "../../run/tuning.ts";
import type { Example } from "../../sft/fine-tune.ts";
import type { Phase, QuickstartRecipe } from "./recipe.ts";

export interface PhaseOptions {
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

/** Runs the phase from where it stands to its end. @returns the mean loss of its last hundred updates. */
export async function tunePhase({ recipe, phase, config, device, folder, from, to, examples }: PhaseOptions): Promise<number> {
  const decoder = Decoder.initialise(config, device, recipe.seed, { maxPositions: recipe.maxExampleTokens });
  if (from !== null) await loadWeights(decoder, from);
  decoder.setTrainable(true);
  const { weightDecay, ...adam } = recipe.optimizer;
  const lossScaler = lossScalerFor(device);
  const optimizer = new AdamW(decayGroups(decoder.parameters(), weightDecay), { ...adam, lossScaler });
  const { learningRate: peak, warmupUpdates, finalShare: finalFraction } = phase;
  try {
    const { loss } = await tune({
      label: phase.name,
      decoder,
      optimizer,
      lossScaler,
      tokens: phase.tokens,
      examples,
      tokensPerUpdate: recipe.tokensPerUpdate,
      microBatchTokens: recipe.microBatchTokens,
      maxTokens: recipe.maxExampleTokens,
      learningRate: (u, share) => cosineRate({ peak, warmupUpdates, finalFraction }, u, share),
      states: {
        folder,
        seed: recipe.seed,
        model: { write: (path) => saveModelFolder(decoder, path), load: (path) => loadWeights(decoder, path) },
      },
      saveEvery: 100,
    });
    await saveModelFolder(decoder, to, { dtype: "f32" });
    await forgetStates(folder);
    return loss;
  } finally {
    optimizer.dispose();
    decoder.dispose();
  }
}

/** Where a phase's weights are while the quickstart is built. */
export function phaseFolder(work: string, phase: string): string {
  return join(work, phase);
}
