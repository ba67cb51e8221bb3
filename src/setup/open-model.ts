/** A model folder: weights on a device, and the tokenizer that goes with them. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { loadDecoder } from "../checkpoint/hugging-face.ts";
import type { Device, Dtype } from "../device/device.ts";
import type { Decoder } from "../nn/decoder.ts";
import { ChatTemplate } from "../text/chat-template.ts";
import { checkTokenizerFits, Tokenizer, type TokenizerConfigJson, type TokenizerJson } from "../text/tokenizer.ts";
import { FileError } from "../util/errors.ts";

export interface Model {
  readonly folder: string;
  readonly decoder: Decoder;
  readonly tokenizer: Tokenizer;
  /** Where the tokenizer's configuration has one. */
  readonly chatTemplate: ChatTemplate | null;
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
export async function openModel(folder: string, device: Device, options: OpenModelOptions): Promise<Model> {
  const tokenizer = await openTokenizer(folder);
  const decoder = await loadDecoder(folder, device, { dtype: options.dtype, maxPositions: options.maxPositions });
  try {
    checkTokenizerFits(tokenizer, decoder.config.vocabulary, folder);
    decoder.setTrainable(options.trainable);
  } catch (error) {
    decoder.dispose();
    throw error;
  }
  return { folder, decoder, tokenizer, chatTemplate: tokenizer.chatTemplate === undefined ? null : ChatTemplate.of(tokenizer) };
}

/** The files of a model folder that make its tokenizer; all but the first may be missing. */
export const tokenizerFiles = [
  "tokenizer.json",
  "tokenizer_config.json",
  "generation_config.json",
  "chat_template.jinja",
  "special_tokens_map.json",
] as const;

/**
 * Reads a folder's tokenizer. Ids that end a sequence are those of tokenizer_config.json and of generation_config.json; a chat template
 * may stand in a file of its own.
 * @throws FileError when tokenizer.json is missing or a file is not JSON, ConfigError when it is no tokenizer that is known.
 */
export async function openTokenizer(folder: string): Promise<Tokenizer> {
  const json = (await readJson(join(folder, "tokenizer.json"), true)) as TokenizerJson;
  const config = ((await readJson(join(folder, "tokenizer_config.json"), false)) ?? {}) as TokenizerConfigJson;
  const generation = ((await readJson(join(folder, "generation_config.json"), false)) ?? {}) as { readonly eos_token_id?: unknown };
  const template = await readText(join(folder, "chat_template.jinja"), false);
  const eosIds = [generation.eos_token_id].flat().filter((id) => typeof id === "number");
  return new Tokenizer(json, template === undefined ? config : { ...config, chat_template: template }, {
    where: join(folder, "tokenizer.json"),
    eosIds,
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
      },
      { cause },
    );
  }
}
