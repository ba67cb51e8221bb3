/** The models of a run without their weights: what their configurations say of them, on a device that only counts. */
import { realpath } from "node:fs/promises";
import { join } from "node:path";
import { isFile, lookUp } from "../hub/cache.ts";
import { readHubSettings } from "../hub/settings.ts";
import { markOf, parseHubId, type ModelKind } from "../hub/source.ts";
import { loadConfig } from "../checkpoint/hugging-face.ts";
import { adapterPairs, addedAs, readAdapterConfig } from "../checkpoint/peft-config.ts";
import { enginesUsed, type Config } from "../config/index.ts";
import { linearNames } from "../nn/block.ts";
import { parameterShapes, type DecoderConfig } from "../nn/config.ts";
import { Decoder } from "../nn/decoder.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import { FileError } from "../util/errors.ts";
import { modelRoles, shareWeights, type LocatedModel, type LocatedModels, type WeightsPlan } from "../setup/model-roles.ts";
import type { ModelReader } from "../setup/open-model.ts";

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
  const simulates = enginesUsed(config, "train").includes("simulated");
  const referencePolicy = algorithm.klCoef === 0 ? null : model.referencePolicy;
  const located: LocatedModels = {
    policy: await find("model.policy", model.policy),
    simulator: !simulates || simulator.path === null ? null : await find("simulator.path", simulator.path),
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
const adaptersPart = "LoRA adapters";

/** No text is made in a plan. */
const wordless = { eosIds: [], tokenBytes: () => new Uint8Array(0) } as unknown as Tokenizer;

/** Opens models with contents undefined. `book` is told what is made next is for. */
export function shapesOnly(planned: readonly PlannedWeights[], book: (part: string) => void): ModelReader {
  return {
    text: () => Promise.resolve({ tokenizer: wordless, chatTemplate: null }),
    weights: ({ folder, dtype, maxPositions, learns }, device) => {
      const { copy, config } = planned.find(
        ({ copy: one }) => one.folder === folder && one.dtype === dtype && one.learns === learns,
      ) as PlannedWeights;
      book(weightsPart(copy));
      return Promise.resolve(new Decoder(config, device, { dtype, maxPositions }));
    },
    adapter: async (decoder, name, from) => {
      book(adaptersPart);
      if (typeof from !== "string")
        return decoder.addAdapter(name, { rank: from.rank, alpha: from.alpha, targets: from.targets ?? linearNames });
      const config = await readAdapterConfig(from);
      return decoder.addAdapter(name, addedAs(config, adapterPairs(config, decoder.config)));
    },
  };
}
