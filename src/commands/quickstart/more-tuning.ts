/**
 * What the wall time of reinforcement learning would have brought as more fine-tuning: the cold-started policy, tuned on good
 * trajectories for a number of tokens.
 */
import { copyFile } from "node:fs/promises";
import { join } from "node:path";
import { loadConfig } from "../../checkpoint/load-model.ts";
import { loadCountryRecords, makeCountries } from "../../data/quickstart/countries.ts";
import { inventedSource } from "../../data/quickstart/invented.ts";
import { skillOptions } from "../../data/quickstart/scripted-policy.ts";
import { makeWorld } from "../../data/quickstart/world.ts";
import type { Device } from "../../device/device.ts";
import { openTokenizer } from "../../setup/open-model.ts";
import { cachedEncoder } from "../../text/train-bpe.ts";
import { phaseExamples } from "./examples.ts";
import type { Phase, QuickstartRecipe } from "./recipe.ts";
import { tune } from "./tune.ts";

export interface MoreTuningOptions {
  readonly recipe: QuickstartRecipe;
  readonly device: Device;
  /** Model folder of the policy to start from. */
  readonly from: string;
  /** Model folder to make. */
  readonly to: string;
  readonly tokens: number;
}

/** @returns seconds it took */
export async function moreTuning({ recipe, device, from, to, tokens }: MoreTuningOptions): Promise<number> {
  const source = inventedSource(makeWorld(makeCountries(loadCountryRecords()), { seed: recipe.seed }));
  const tokenizer = await openTokenizer(from);
  const encode = cachedEncoder((text) => tokenizer.encode(text, { parseSpecialTokens: false }));
  const phase: Phase = {
    name: "policy-more",
    from: "policy-habits",
    tokens,
    learningRate: 1e-3,
    warmupUpdates: 10,
    finalShare: 0.05,
    data: { kind: "policy", options: skillOptions, singleHopFirst: 0 },
  };
  const start = performance.now();
  await tune({
    recipe,
    phase,
    device,
    from,
    to,
    config: await loadConfig(from),
    folder: `${to}.states`,
    examples: (share) => phaseExamples(phase, source, recipe.seed, encode, tokenizer.eosId, share),
  });
  for (const name of ["tokenizer.json", "tokenizer_config.json"]) await copyFile(join(from, name), join(to, name));
  return (performance.now() - start) / 1000;
}
