/** A model folder: weights on a device, and the tokenizer that goes with them. */
import { join } from "node:path";
import { z } from "zod";
import { exists } from "../checkpoint/atomic.ts";
import { readJson, readText } from "../checkpoint/folder-files.ts";
import { loadConfig, loadDecoder } from "../checkpoint/load-model.ts";
import { loadAdapter } from "../checkpoint/peft.ts";
import type { Device, Dtype } from "../device/device.ts";
import type { AdapterOptions, Decoder } from "../nn/decoder.ts";
import type { Parameter } from "../tensor/tensor.ts";
import { ChatTemplate } from "../text/chat-template.ts";
import { checkTokenizerFits, Tokenizer, type TokenizerConfigJson, type TokenizerJson } from "../text/tokenizer.ts";
import type { WeightsPlan } from "./model-roles.ts";

/** What a model makes of text. */
export interface ModelText {
  readonly tokenizer: Tokenizer;
  /** Where the tokenizer's configuration has one. */
  readonly chatTemplate: ChatTemplate | null;
}

/** A model as one role uses it; others may use the same decoder with another adapter. */
export interface Model extends ModelText {
  /** What the user called it: a folder, or a Hub id. */
  readonly source: string;
  /** Of a Hub id. */
  readonly commit?: string | undefined;
  readonly folder: string;
  readonly decoder: Decoder;
  /** The longest sequence of this role. */
  readonly maxPositions: number;
  /** The LoRA adapter it computes with; undefined: the weights alone. */
  readonly adapter: string | undefined;
}

/** What of a policy learns: its adapter, or all weights. By their names in checkpoints and in PEFT's. */
export function learningParameters({ decoder, adapter }: Pick<Model, "decoder" | "adapter">): ReadonlyMap<string, Parameter> {
  return adapter === undefined ? decoder.parameters() : decoder.adapterParameters(adapter);
}

/** One copy of weights, to be opened. */
export type WeightsToOpen = Omit<WeightsPlan, "roles">;

/** Where models come from: files, unless told. A plan reads their shapes only. */
export interface ModelReader {
  readonly text: (folder: string) => Promise<ModelText>;
  /** A chat template in place of the tokenizer's: a Jinja file. */
  readonly template: (file: string, tokenizer: Tokenizer) => Promise<ChatTemplate | null>;
  readonly weights: (copy: WeightsToOpen, device: Device) => Promise<Decoder>;
  /** Adds an adapter of that name: with the weights of a PEFT folder, or a new one. */
  readonly adapter: (decoder: Decoder, name: string, from: string | AdapterOptions) => Promise<unknown>;
}

/** Hugging Face and PEFT folders. */
export const files: ModelReader = {
  text: openText,
  template: async (file, tokenizer) =>
    ChatTemplate.of(tokenizer, { source: await readText(file, "a chat template"), where: `model.chatTemplate=${file}` }),
  weights: ({ folder, dtype, maxPositions, headless = false }, device) => loadDecoder(folder, device, { dtype, maxPositions, headless }),
  adapter: async (decoder, name, from) => (typeof from === "string" ? loadAdapter(decoder, name, from) : decoder.addAdapter(name, from)),
};

/** Weights on a device, and what they make of text. The caller disposes of the decoder. @throws as `openModel` */
export async function openWeights(
  copy: WeightsToOpen,
  device: Device,
  reader: ModelReader = files,
): Promise<ModelText & { readonly decoder: Decoder }> {
  const text = await reader.text(copy.folder);
  const decoder = await reader.weights(copy, device);
  try {
    decoder.setTrainable(copy.learns);
    return { ...text, decoder };
  } catch (error) {
    decoder.dispose();
    throw error;
  }
}

export interface OpenModelOptions {
  readonly dtype: Dtype;
  /** The longest sequence it will see. */
  readonly maxPositions: number;
  readonly trainable: boolean;
}

/**
 * Loads a Hugging Face folder: config.json, model.safetensors, tokenizer.json, tokenizer_config.json. The caller disposes of the decoder.
 * @throws FileError, ConfigError or ShapeError: a missing or damaged file, an unknown architecture, a tokenizer that does not fit.
 */
export async function openModel(folder: string, device: Device, { dtype, maxPositions, trainable }: OpenModelOptions): Promise<Model> {
  const opened = await openWeights({ folder, dtype, maxPositions, learns: trainable }, device);
  return { ...opened, source: folder, folder, maxPositions: opened.decoder.maxPositions, adapter: undefined };
}

/** The tokenizer of a model folder, and its chat template. @throws as `openTokenizer`, and where it does not fit the model's configuration */
async function openText(folder: string): Promise<ModelText> {
  const tokenizer = await openTokenizer(folder);
  checkTokenizerFits(tokenizer, (await loadConfig(folder)).vocabulary, folder);
  return { tokenizer, chatTemplate: tokenizer.chatTemplate === undefined ? null : ChatTemplate.of(tokenizer) };
}

/**
 * Reads a folder's tokenizer. Ids that end a sequence are tokenizer_config.json's and those of generation_config.json, or, where that
 * has none, of config.json; a chat template may stand in a file of its own.
 * @throws FileError when tokenizer.json is missing or a file is not JSON, ConfigError when it is no tokenizer that is known.
 */
export async function openTokenizer(folder: string): Promise<Tokenizer> {
  const where = join(folder, "tokenizer.json");
  const json = await readJson(
    where,
    z.custom<TokenizerJson>(),
    "a model folder with config.json, model.safetensors and tokenizer.json",
    slow,
  );
  const optional = async <T>(name: string, schema: z.ZodType<T>): Promise<T | undefined> =>
    (await exists(join(folder, name))) ? readJson(join(folder, name), schema, "part of a model") : undefined;
  const config: TokenizerConfigJson = (await optional("tokenizer_config.json", z.looseObject({}).nullable())) ?? {};
  const template = join(folder, "chat_template.jinja");
  const own = (await exists(template)) ? { chat_template: await readText(template, "a chat template") } : {};
  const ends =
    (await optional("generation_config.json", endsSchema))?.eos_token_id ?? (await optional("config.json", endsSchema))?.eos_token_id;
  return new Tokenizer(json, { ...config, ...own }, { where, eosIds: [ends ?? []].flat() });
}

const endsSchema = z
  .looseObject({ eos_token_id: z.union([z.int().min(0), z.array(z.int().min(0))], "expected a token id, or a list of them").nullish() })
  .nullable();

/** What makes tokenizer.json of the files that older models have in its place. */
const slow =
  "where there is a tokenizer.model, or vocab.json and merges.txt, transformers makes one: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)";
