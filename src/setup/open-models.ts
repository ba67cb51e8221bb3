/** Opens the models of a run: every copy of weights once, the roles' LoRA adapters on it, and the tokenizer that goes with it. */
import type { Config } from "../config/index.ts";
import type { Device } from "../device/device.ts";
import type { Decoder } from "../nn/decoder.ts";
import { ConfigError } from "../util/errors.ts";
import type { Closing } from "./closing.ts";
import { addedAdapter, type AdapterPlan, type Role, type WeightsPlan } from "./model-roles.ts";
import { files, openWeights, type Model, type ModelReader } from "./open-model.ts";

/** The models of a run. Those that share their weights have the same decoder. */
export interface Models {
  readonly policy: Model;
  /** Null where the simulator runs behind an endpoint. */
  readonly simulator: Model | null;
  /** Null where no model of this process makes embeddings. */
  readonly embedder: Model | null;
  /** Held only where the loss has a KL term. */
  readonly reference: Model | null;
  /** What a critic of its own stands on. */
  readonly criticModel: Model | null;
}

/**
 * Opens copies of weights, and the roles' adapters on them; `closing` disposes of each decoder once.
 * @throws FileError, ConfigError, ShapeError, DeviceError: a missing or damaged file, an adapter or tokenizer that does not fit, no memory.
 */
export async function openCopies(
  config: Config,
  copies: readonly WeightsPlan[],
  device: Device,
  closing: Closing,
  reader: ModelReader = files,
): Promise<Models> {
  const models = new Map<Role, Model>();
  for (const copy of copies) {
    const opened = await openWeights(copy, device, reader);
    const { decoder } = closing.add(opened, (one) => {
      one.decoder.dispose();
    });
    for (const { role, source, commit, folder, maxPositions, adapter } of copy.roles) {
      if (adapter !== null) await openAdapter(config, decoder, role, adapter, reader);
      const { chatTemplate: own } = config.model;
      // Others on the same weights keep the tokenizer's.
      const chatTemplate = role === "policy" && own !== null ? await reader.template(own, opened.tokenizer) : opened.chatTemplate;
      models.set(role, {
        ...opened,
        chatTemplate,
        source,
        commit,
        folder,
        maxPositions: Math.min(maxPositions, decoder.maxPositions),
        adapter: adapter === null ? undefined : role,
      });
    }
  }
  return {
    policy: models.get("policy") as Model,
    simulator: models.get("simulator") ?? null,
    embedder: models.get("embedder") ?? null,
    reference: models.get("reference") ?? null,
    criticModel: models.get("critic") ?? null,
  };
}

/** Adds the adapter of a role: read from its folder, or a new one as the configuration describes it. */
async function openAdapter(
  config: Config,
  decoder: Decoder,
  role: Role,
  { from, learns }: AdapterPlan,
  reader: ModelReader,
): Promise<void> {
  await reader.adapter(decoder, role, from ?? addedAdapter(config));
  decoder.setAdapterTrainable(role, learns);
  const { lora } = config;
  const { rank } = decoder.adapterShape(role);
  if (role === "policy" && lora.rank !== 0 && lora.rank !== rank)
    throw new ConfigError({
      where: "lora.rank",
      what: `is not the rank of ${String(from)}`,
      expected: `${rank}, or 0`,
      got: String(lora.rank),
      hint: "An adapter that is given keeps its own rank, alpha and targets.",
    });
}
