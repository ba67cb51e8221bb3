/** Opens the models of a run: every copy of weights once, the roles' LoRA adapters on it, and the tokenizer that goes with it. */
import { realpath } from "node:fs/promises";
import type { Config } from "../config/index.ts";
import type { Device } from "../device/device.ts";
import type { Decoder } from "../nn/decoder.ts";
import { ConfigError } from "../util/errors.ts";
import type { Closing } from "./closing.ts";
import type { ConfigModels } from "./locate-models.ts";
import {
  addedAdapter,
  modelRoles,
  shareWeights,
  type AdapterPlan,
  type LocatedModel,
  type LocatedModels,
  type Role,
  type RoleOptions,
  type WeightsPlan,
} from "./model-roles.ts";
import { files, openWeights, type Model, type ModelReader } from "./open-model.ts";

/** The models of a run. Those that share their weights have the same decoder. */
export interface Models {
  readonly policy: Model;
  /** Null where the simulator runs behind an endpoint. */
  readonly simulator: Model | null;
  /** Held only where the loss has a KL term. */
  readonly reference: Model | null;
}

/** The models among those that were found, by role. Two names for one folder are one model. @throws FileError */
export async function locatedModels({ found }: Pick<ConfigModels, "found">, config: Config): Promise<LocatedModels> {
  const at = async (key: string, given: string | null): Promise<LocatedModel | null> => {
    const model = found.get(key);
    return model === undefined
      ? null
      : { source: model.hub?.id ?? given ?? model.folder, commit: model.hub?.commit, folder: await realpath(model.folder) };
  };
  const { model, simulator } = config;
  return {
    policy: (await at("model.policy", model.policy)) as LocatedModel,
    simulator: await at("simulator.path", simulator.path),
    referencePolicy: await at("model.referencePolicy", model.referencePolicy),
  };
}

/**
 * Opens what `modelRoles` asks for; `closing` disposes of each decoder once.
 * @throws FileError, ConfigError, ShapeError, DeviceError: a missing or damaged file, an adapter or tokenizer that does not fit, no memory.
 */
export async function openModels(
  config: Config,
  located: LocatedModels,
  options: RoleOptions,
  device: Device,
  closing: Closing,
  reader?: ModelReader,
): Promise<Models> {
  return openCopies(config, shareWeights(modelRoles(config, located, options)), device, closing, reader);
}

/** Opens copies of weights, and the roles' adapters on them. @throws as `openModels` */
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
      models.set(role, {
        ...opened,
        source,
        commit,
        folder,
        maxPositions: Math.min(maxPositions, decoder.maxPositions),
        adapter: adapter === null ? undefined : role,
      });
    }
  }
  return { policy: models.get("policy") as Model, simulator: models.get("simulator") ?? null, reference: models.get("reference") ?? null };
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
