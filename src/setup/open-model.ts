/** A model folder: weights on a device, and the tokenizer that goes with them. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { loadConfig, loadDecoder } from "../checkpoint/hugging-face.ts";
import { loadAdapter } from "../checkpoint/peft.ts";
import type { Device, Dtype } from "../device/device.ts";
import type { AdapterOptions, Decoder } from "../nn/decoder.ts";
import type { Parameter } from "../tensor/tensor.ts";
import { ChatTemplate } from "../text/chat-template.ts";
import { checkTokenizerFits, Tokenizer, type TokenizerConfigJson, type TokenizerJson } from "../text/tokenizer.ts";
import { FileError } from "../util/errors.ts";
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
  readonly weights: (copy: WeightsToOpen, device: Device) => Promise<Decoder>;
  /** Adds an adapter of that name: with the weights of a PEFT folder, or a new one. */
  readonly adapter: (decoder: Decoder, name: string, from: string | AdapterOptions) => Promise<unknown>;
}

/** Hugging Face and PEFT folders. */
export const files: ModelReader = {
  text: openText,
  weights: ({ folder, dtype, maxPositions }, device) => loadDecoder(folder, device, { dtype, maxPositions }),
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
  const json = (await readJson(join(folder, "tokenizer.json"), true)) as TokenizerJson;
  const config = ((await readJson(join(folder, "tokenizer_config.json"), false)) ?? {}) as TokenizerConfigJson;
  const template = await readText(join(folder, "chat_template.jinja"), false);
  const eosIds = (await readEosIds(join(folder, "generation_config.json"))) ?? (await readEosIds(join(folder, "config.json"))) ?? [];
  return new Tokenizer(json, template === undefined ? config : { ...config, chat_template: template }, {
    where: join(folder, "tokenizer.json"),
    eosIds,
  });
}

/** The ids under `eos_token_id`, one or a list; undefined where the file or the key is missing. */
async function readEosIds(file: string): Promise<number[] | undefined> {
  const { eos_token_id: given } = ((await readJson(file, false)) ?? {}) as { readonly eos_token_id?: unknown };
  if (given === undefined || given === null) return undefined;
  const ids: unknown[] = [given].flat();
  if (ids.every((id) => typeof id === "number" && Number.isInteger(id) && id >= 0)) return ids as number[];
  throw new FileError({
    where: file,
    what: "eos_token_id is wrong",
    expected: "a token id, or a list of them",
    got: JSON.stringify(given),
  });
}

async function readJson(file: string, required: boolean): Promise<unknown> {
  const text = await readText(file, required);
  if (text === undefined) return undefined;
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new FileError({ where: file, what: `is not JSON: ${(cause as Error).message}` }, { cause });
  }
}

/** What makes tokenizer.json of the files that older models have in its place. */
const slowTokenizerHint =
  "where there is a tokenizer.model, or vocab.json and merges.txt, transformers makes one: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)";

async function readText(file: string, required: boolean): Promise<string | undefined> {
  try {
    return await readFile(file, "utf8");
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT" && !required) return undefined;
    throw new FileError(
      {
        where: file,
        what: `cannot be read: ${(cause as Error).message}`,
        expected: "a model folder with config.json, model.safetensors and tokenizer.json",
        hint: file.endsWith("tokenizer.json") ? slowTokenizerHint : undefined,
      },
      { cause },
    );
  }
}
