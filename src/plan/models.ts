/** The models of a run without their weights: what their configurations say of them, on a device that only counts. */
import { realpath } from "node:fs/promises";
import { join } from "node:path";
import { isFile, lookUp } from "../hub/cache.ts";
import { readHubSettings } from "../hub/settings.ts";
import { markOf, parseHubId, type ModelKind } from "../hub/source.ts";
import { loadConfig } from "../checkpoint/hugging-face.ts";
import { adapterPairs, addedAs, readAdapterConfig } from "../checkpoint/peft-config.ts";
import type { Config } from "../config/index.ts";
import type { Device } from "../device/device.ts";
import { parameterShapes, type DecoderConfig } from "../nn/config.ts";
import { Decoder } from "../nn/decoder.ts";
import { FileError } from "../util/errors.ts";
import {
  loraTargets,
  modelRoles,
  shareWeights,
  type LocatedModel,
  type LocatedModels,
  type Role,
  type RolePlan,
  type WeightsPlan,
} from "../setup/model-roles.ts";
import type { Model } from "../setup/open-model.ts";
import type { Models } from "../setup/open-models.ts";

/** What the plan needs of a copy of weights. */
export interface PlannedWeights {
  readonly copy: WeightsPlan;
  readonly config: DecoderConfig;
  /** Of the model, without adapters. */
  readonly parameters: number;
}

/**
 * Reads what the models of a run are, each copy of weights once. Of a model config.json is needed, of an adapter adapter_config.json;
 * nothing is fetched.
 * @param simulatorPositions - the simulator's longest sequence
 * @throws FileError, ConfigError
 */
export async function readModels(config: Config, simulatorPositions: number): Promise<PlannedWeights[]> {
  const { model, simulator, lora, algorithm } = config;
  const find = async (key: string, source: string): Promise<LocatedModel> => ({ source, folder: await locate(key, source, "model") });
  const referencePolicy = algorithm.klCoef === 0 ? null : model.referencePolicy;
  const located: LocatedModels = {
    policy: await find("model.policy", model.policy),
    simulator: simulator.path === null ? null : await find("simulator.path", simulator.path),
    referencePolicy: referencePolicy === null ? null : await find("model.referencePolicy", referencePolicy),
  };
  const from = lora.from === null ? null : await locate("lora.from", lora.from, "adapter");
  const adapter = simulator.adapter === null ? null : await locate("simulator.adapter", simulator.adapter, "adapter");
  const here: Config = { ...config, lora: { ...lora, from }, simulator: { ...simulator, adapter } };
  const copies = shareWeights(modelRoles(here, located, { simulatorPositions, trains: true }));
  return Promise.all(
    copies.map(async (copy) => {
      const shape = await loadConfig(copy.folder);
      const parameters = parameterShapes(shape).reduce((sum, one) => sum + one.shape.reduce((a, b) => a * b, 1), 0);
      return { copy, config: shape, parameters };
    }),
  );
}

async function locate(key: string, source: string, kind: ModelKind): Promise<string> {
  const mark = markOf[kind];
  if (await isFile(join(source, mark))) return realpath(source);
  const id = parseHubId(source);
  const cached = id === null ? null : (await lookUp((await readHubSettings()).cache, id, kind)).folder;
  if (cached !== null && (await isFile(join(cached, mark)))) return cached;
  throw new FileError({
    where: key,
    what: `there is no ${mark} of ${source} on this machine, and a plan fetches nothing`,
    expected: id === null ? `a folder with ${mark}; a plan needs no weights` : "a folder, or what the Hub's cache has",
    hint:
      id === null
        ? undefined
        : `Run npx zerosearch download ${source}, or put its ${mark} alone into a folder and give that: ${key}=FOLDER.`,
  });
}

/** What a copy of weights is called in the table: by the roles that compute with it. */
export function weightsPart({ learns, roles }: WeightsPlan): string {
  const names = roles.map(({ role }) => (role === "reference" ? "reference policy" : role)).join(", ");
  return learns ? `${names}: weights that learn` : `${names}: frozen weights`;
}
export const adaptersPart = "LoRA adapters";

/** Opens them as `openModels` does, with contents undefined. `part` is told what is made next is for. */
export async function openHollowModels(
  config: Config,
  planned: readonly PlannedWeights[],
  device: Device,
  part: (name: string) => void,
): Promise<Models> {
  const models = new Map<Role, Model>();
  for (const { copy, config: shape } of planned) {
    part(weightsPart(copy));
    const decoder = new Decoder(shape, device, { dtype: copy.dtype, maxPositions: copy.maxPositions });
    decoder.setTrainable(copy.learns);
    part(adaptersPart);
    for (const role of copy.roles) {
      if (role.adapter !== null) await addAdapter(config, decoder, role);
      // A plan makes no text.
      const text = { tokenizer: null as never, chatTemplate: null };
      const maxPositions = Math.min(role.maxPositions, decoder.maxPositions);
      const { source, folder } = role;
      models.set(role.role, { source, folder, decoder, ...text, maxPositions, adapter: role.adapter === null ? undefined : role.role });
    }
  }
  return { policy: models.get("policy") as Model, simulator: models.get("simulator") ?? null, reference: models.get("reference") ?? null };
}

async function addAdapter({ lora }: Config, decoder: Decoder, { role, adapter }: RolePlan): Promise<void> {
  const { from = null, learns: trainable = false } = adapter ?? {};
  if (from === null) {
    const { rank, alpha } = lora;
    decoder.addAdapter(role, { rank, alpha, targets: loraTargets(lora.targets), trainable });
    return;
  }
  const config = await readAdapterConfig(from);
  decoder.addAdapter(role, { ...addedAs(config, adapterPairs(config, decoder.config)), trainable });
}
