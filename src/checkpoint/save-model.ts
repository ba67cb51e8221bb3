/** Writes models as Hugging Face folders that transformers, vLLM and this package load. */
import { copyFile, readdir, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fromHuggingFace, parameterShapes, toHuggingFace, type DecoderConfig } from "../nn/config.ts";
import type { Decoder } from "../nn/decoder.ts";
import { ConfigError } from "../util/errors.ts";
import { exists, writeFolderAtomic } from "./atomic.ts";
import {
  belongsToModel,
  CONFIG,
  configWithDtype,
  copyCompanions,
  refuseForeign,
  torchDtype,
  withField,
  writeShards,
} from "./folder-files.ts";
import { readConfigText } from "./load-model.ts";
import { tensorSource, type FloatDtype } from "./save-tensors.ts";

export interface SaveModelOptions {
  /** Folder of the model that the decoder came from: its config.json, tokenizer, licence and the like are kept. May be the same folder. */
  readonly from?: string;
  /** Type of the weights in the files, that of the decoder unless told; to nearest even where it is narrower. */
  readonly dtype?: FloatDtype;
  /** Most bytes of tensors in a file, 5 GB unless told; a tensor that is larger has one of its own. */
  readonly maxShardBytes?: number;
}

/**
 * Saves a model as a folder: config.json as it was in `from`, with only what changed; weights in model.safetensors, or in shards with
 * their index; the other files of `from` byte for byte. The folder appears all at once, and one that was there is replaced at the end: its
 * README stays, and without `from` its tokenizer and the like. Tied heads are not written twice. Takes some tens of MiB of host memory.
 * @throws FileError when it cannot be written, or the folder holds what is no model's; ConfigError when `from` is another model, or for `maxShardBytes`;
 * ZeroSearchError for weights that are not finite or do not fit `dtype`. Nothing is changed then.
 */
export async function saveModelFolder(decoder: Decoder, folder: string, options: SaveModelOptions = {}): Promise<void> {
  const { from, dtype = decoder.dtype as FloatDtype, maxShardBytes } = options;
  const config =
    from === undefined
      ? newConfigText(decoder.config, dtype)
      : changedConfigText(await readConfigText(from), join(from, CONFIG), decoder.config, dtype);
  await refuseForeign(folder, (name) => belongsToModel(name) || own.test(name), "a model's files");
  const parameters = decoder.parameters();
  const sources = parameterShapes(decoder.config).map(({ name }) => tensorSource(name, parameters.get(name)!, { dtype, finite: true }));
  await writeFolderAtomic(folder, async (temporary) => {
    await writeFile(join(temporary, CONFIG), config);
    const companions = from ?? folder;
    if (await exists(companions)) await copyCompanions(companions, temporary);
    await copyOwn(folder, temporary);
    await writeShards(temporary, sources, maxShardBytes);
  });
}

/** What stands in a model's folder for that folder's sake: it stays, and is not taken from another. */
const own = /^(?:readme\.md|\.gitattributes)$/i;

async function copyOwn(folder: string, to: string): Promise<void> {
  if (!(await exists(folder))) return;
  for (const name of await readdir(folder))
    if (own.test(name) && (await stat(join(folder, name))).isFile()) await copyFile(join(folder, name), join(to, name));
}

/** A folder that differs in one of these is another model's. */
const identity = [
  "model_type",
  "hidden_size",
  "intermediate_size",
  "num_hidden_layers",
  "num_attention_heads",
  "num_key_value_heads",
  "head_dim",
];
const ropeFields = ["rope_theta", "rope_scaling"];
/** transformers warns of a factor that is no float, and Python tells 8.0 from 8. */
const floatLine = /^(\s*"\w*factor": \d+)(,?)$/gm;

/** A config.json written anew. */
function newConfigText(config: DecoderConfig, dtype: FloatDtype): string {
  const fields = toHuggingFace(config);
  fields["torch_dtype"] = torchDtype[dtype];
  // transformers 5 writes the same fact so.
  if ("dtype" in fields) fields["dtype"] = torchDtype[dtype];
  return `${JSON.stringify(fields, null, 2)}\n`.replace(floatLine, "$1.0$2");
}

/**
 * The original's text with the type of the weights, and whatever else is not so any more, put in place; all else stays as it is, to the
 * last space.
 * @param where the original's path, for errors
 * @throws ConfigError when the original is of another model
 */
function changedConfigText(text: string, where: string, config: DecoderConfig, dtype: FloatDtype): string {
  const raw = JSON.parse(text) as Readonly<Record<string, unknown>>;
  const before = ownFields(fromHuggingFace(raw, where));
  const now = ownFields(config);
  const changed = Object.keys(now).filter((field) => !same(before[field], now[field]));
  for (const field of identity)
    if (changed.includes(field))
      throw new ConfigError({
        where,
        what: `${field} is not that of the model to be saved`,
        expected: JSON.stringify(now[field]),
        got: JSON.stringify(before[field]),
        hint: "give the folder that the model was loaded from",
      });
  const values = new Map<string, unknown>();
  // transformers 5 keeps both RoPE fields in one object, and reads `rope_scaling` in its place where that says anything.
  const scaling = Object.keys(raw["rope_scaling"] ?? {});
  const rope = scaling.length > 0 && ("rope_parameters" in raw || scaling.includes("rope_theta")) ? "rope_scaling" : "rope_parameters";
  for (const field of changed) {
    if (ropeFields.includes(field) && rope in raw)
      values.set(rope, {
        ...(now["rope_scaling"] ?? { rope_type: "default" }),
        rope_theta: now["rope_theta"],
      });
    else values.set(field, now[field]);
  }
  let result = configWithDtype(text, dtype, where);
  for (const [field, value] of values) result = withField(result, field, JSON.stringify(value), where);
  if (!same(ownFields(fromHuggingFace(JSON.parse(result), where)), now))
    throw new ConfigError({ where, what: "its fields cannot be changed to those of the model to be saved", got: changed.join(", ") });
  return result;
}

/** What a decoder is made of, in Hugging Face's fields. */
function ownFields(config: DecoderConfig): Record<string, unknown> {
  return toHuggingFace({ ...config, extra: {} });
}

function same(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}
