/** Writes models as Hugging Face folders that transformers, vLLM and this package load. */
import { copyFile, readdir, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parameterShapes } from "../nn/config.ts";
import type { Decoder } from "../nn/decoder.ts";
import { ConfigError } from "../util/errors.ts";
import { exists, writeFolderAtomic } from "./atomic.ts";
import { changedConfigText, newConfigText } from "./config-text.ts";
import { belongsToModel, CONFIG, copyCompanions, planShards, refuseForeign, shardIndex, WEIGHTS_INDEX } from "./folder-files.ts";
import { readConfigText } from "./load-model.ts";
import { sourceBytes, writeSafetensors } from "./safetensors-write.ts";
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
 * @throws FileError when it cannot be written, or the folder holds what is no model's; ConfigError when `from` is another model;
 * ZeroSearchError for weights that are not finite or do not fit `dtype`. Nothing is changed then.
 */
export async function saveModelFolder(decoder: Decoder, folder: string, options: SaveModelOptions = {}): Promise<void> {
  const { from, dtype = decoder.dtype as FloatDtype, maxShardBytes } = options;
  if (maxShardBytes !== undefined && !(maxShardBytes > 0))
    throw new ConfigError({
      where: "saveModelFolder",
      what: "maxShardBytes is wrong",
      expected: "bytes above 0",
      got: String(maxShardBytes),
    });
  const config =
    from === undefined
      ? newConfigText(decoder.config, dtype)
      : changedConfigText(await readConfigText(from), join(from, CONFIG), decoder.config, dtype);
  await refuseForeign(folder, (name) => belongsToModel(name) || own.test(name), "a model's files");
  const sources = parameterShapes(decoder.config).map(({ name }) => {
    const source = tensorSource(name, decoder.parameters().get(name)!, { dtype, finite: true });
    return { ...source, bytes: sourceBytes(source) };
  });
  await writeFolderAtomic(folder, async (temporary) => {
    await writeFile(join(temporary, CONFIG), config);
    const companions = from ?? folder;
    if (await exists(companions)) await copyCompanions(companions, temporary);
    await copyOwn(folder, temporary);
    const shards = planShards(sources, maxShardBytes);
    for (const { file, tensors } of shards) await writeSafetensors(join(temporary, file), tensors);
    if (shards.length > 1) await writeFile(join(temporary, WEIGHTS_INDEX), shardIndex(shards));
  });
}

/** As `saveModelFolder` without `from`: config.json is made from the decoder's configuration. */
export async function saveDecoder(decoder: Decoder, folder: string, options: { readonly dtype?: FloatDtype } = {}): Promise<void> {
  await saveModelFolder(decoder, folder, options);
}

/** What stands in a model's folder for that folder's sake: it stays, and is not taken from another. */
const own = /^(?:readme\.md|\.gitattributes)$/i;

async function copyOwn(folder: string, to: string): Promise<void> {
  if (!(await exists(folder))) return;
  for (const name of await readdir(folder))
    if (own.test(name) && (await stat(join(folder, name))).isFile()) await copyFile(join(folder, name), join(to, name));
}
