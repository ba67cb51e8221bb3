/** What a policy has learnt, as files: all weights as a Hugging Face folder, or a LoRA adapter as PEFT's. */
import { join } from "node:path";
import { exists } from "../checkpoint/atomic.ts";
import { ADAPTER_WEIGHTS } from "../checkpoint/folder-files.ts";
import { loadTensors, loadWeights } from "../checkpoint/load-model.ts";
import { saveModelFolder } from "../checkpoint/save-model.ts";
import { saveAdapter } from "../checkpoint/peft.ts";
import { readAdapterConfig } from "../checkpoint/peft-config.ts";
import type { Config } from "../config/index.ts";
import type { AdapterShape } from "../nn/decoder.ts";
import type { Model } from "../setup/open-model.ts";
import { FileError } from "../util/errors.ts";

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
export async function loadPolicy({ decoder, adapter }: Model, folder: string): Promise<void> {
  const file = join(folder, ADAPTER_WEIGHTS);
  const saved = (await exists(file)) ? adapterText(await readAdapterConfig(folder)) : "all weights";
  const wanted = adapter === undefined ? "all weights" : adapterText(decoder.adapterShape(adapter));
  if (saved !== wanted)
    throw new FileError({
      where: folder,
      what: `holds ${saved} of a policy, while this run trains ${wanted}`,
      hint: "Go on with the lora settings, and with the adapter of lora.from as it was, that the run was started with.",
    });
  if (adapter === undefined) await loadWeights(decoder, folder);
  else await loadTensors(file, decoder.adapterParameters(adapter));
}

/** With alpha: under another one the same numbers fit, and mean something else. */
function adapterText({ rank, alpha }: Pick<AdapterShape, "rank" | "alpha">): string {
  return `an adapter of rank ${rank} and alpha ${alpha}`;
}
