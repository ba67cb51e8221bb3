/** The models of a run without their weights: what their configurations say of them, on a device that only counts. */
import { loadConfig, withHead } from "../checkpoint/load-model.ts";
import { adapterPairs, addedAs, readAdapterConfig } from "../checkpoint/peft-config.ts";
import type { Config } from "../config/index.ts";
import { findConfiguration } from "../hub/find-model.ts";
import { linearNames } from "../nn/block.ts";
import { parameterShapes, type DecoderConfig } from "../nn/config.ts";
import { Decoder } from "../nn/decoder.ts";
import { locateConfigModels } from "../setup/locate-models.ts";
import { copiesOf, type WeightsPlan } from "../setup/model-roles.ts";
import type { ModelReader } from "../setup/open-model.ts";
import { wordless } from "../setup/prepare-device.ts";
import type { Tokenizer } from "../text/tokenizer.ts";

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
 * `simulatorPositions` is the simulator's longest sequence; `simulates`, whether there is one: where training asks it, unless given.
 * @throws FileError, ConfigError
 */
export async function readModels(
  config: Config,
  { simulatorPositions, simulates }: { readonly simulatorPositions: number; readonly simulates?: boolean },
): Promise<PlannedWeights[]> {
  const { opened, located } = await locateConfigModels(config, simulates === undefined ? {} : { simulates }, findConfiguration);
  return Promise.all(
    copiesOf(opened, located, { simulatorPositions, trains: true }).map(async (copy) => {
      const shape = await loadConfig(copy.folder);
      const parameters = parameterShapes(shape).reduce((sum, one) => sum + one.shape.reduce((a, b) => a * b, 1), 0);
      return { copy, config: shape, parameters };
    }),
  );
}

/** What a copy of weights is called in the table: by the roles that compute with it. */
function weightsPart({ learns, roles }: WeightsPlan): string {
  const names = roles.map(({ role }) => (role === "reference" ? "reference policy" : role)).join(", ");
  return learns ? `${names}: weights that learn` : `${names}: frozen weights`;
}
const adaptersPart = "LoRA adapters";

/** Opens models with contents undefined. `book` is told what is made next is for. */
export function shapesOnly(planned: readonly PlannedWeights[], book: (part: string) => void): ModelReader {
  return {
    template: () => Promise.resolve(null),
    text: () => Promise.resolve({ tokenizer: wordless as unknown as Tokenizer, chatTemplate: null }),
    weights: (asked, device) => {
      // What a policy and its critic start from is alike.
      const { copy, config } = planned.find(({ copy: one }) => one === asked) as PlannedWeights;
      const { dtype, maxPositions, headless = false } = copy;
      book(weightsPart(copy));
      return Promise.resolve(new Decoder(withHead(config, !headless), device, { dtype, maxPositions }));
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
