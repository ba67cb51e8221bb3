/** Reads models as Hugging Face folders: config.json and model.safetensors, or shards listed in model.safetensors.index.json. */
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import type { Device } from "../device/device.ts";
import { fromHuggingFace, parameterShapes, type DecoderConfig } from "../nn/config.ts";
import { Decoder, type DecoderOptions } from "../nn/decoder.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { FileError } from "../util/errors.ts";
import { exists } from "./atomic.ts";
import { CONFIG, readText, WEIGHTS, WEIGHTS_INDEX } from "./folder-files.ts";
import { clip, JsonScanner } from "./json-scanner.ts";
import { compareTensors, fillTensors, tensorsOf, type FileTensor, type FillOptions, type FoundTensors } from "./load-tensors.ts";
import { SafetensorsFile } from "./safetensors.ts";

/**
 * The text of a folder's config.json, checked to be JSON without a name twice.
 * @throws FileError
 */
export async function readConfigText(folder: string): Promise<string> {
  return readJsonText(join(folder, CONFIG), "a model's config.json");
}

/** The configuration of the model in a folder. @throws FileError, ConfigError */
export async function loadConfig(folder: string): Promise<DecoderConfig> {
  return fromHuggingFace(JSON.parse(await readConfigText(folder)), join(folder, CONFIG));
}

export interface LoadOptions {
  /** Leaves the head out, for a model whose hidden states alone are wanted: there need not be one. False unless told. */
  readonly headless?: boolean;
}

/** A configuration whose model has a head of its own only where it is wanted: without one it stands as if it were tied. */
export function withHead(config: DecoderConfig, wanted: boolean): DecoderConfig {
  return wanted ? config : { ...config, tiedEmbeddings: true };
}

/**
 * Loads a model folder onto a device. Weights of any float type are converted to `options.dtype` (f32 unless told), exactly where it
 * is wider. They are streamed: beyond their own place it takes some tens of MiB. The caller disposes of the decoder.
 * @throws FileError for a missing, truncated or malformed file, and for all tensors that are missing, unexpected or of another shape or
 * type, in one.
 * @throws ConfigError for an architecture or feature that is not supported.
 */
export async function loadDecoder(
  folder: string,
  device: Device,
  { headless = false, ...options }: DecoderOptions & LoadOptions = {},
): Promise<Decoder> {
  const config = withHead(await loadConfig(folder), !headless);
  const { files, found } = await openWeights(folder);
  try {
    // Before the device gives memory for weights that are not there.
    compareTensors(folder, found, weightShapes(config), weightRules(config));
    const decoder = new Decoder(config, device, options);
    try {
      await fillTensors(folder, found, decoder.parameters(), weightRules(config));
      return decoder;
    } catch (error) {
      decoder.dispose();
      throw error;
    }
  } finally {
    await closeAll(files);
  }
}

/**
 * Writes a folder's weights into a decoder that has the same shapes.
 * @throws FileError as `loadDecoder`; where the tensors are not those of the decoder, it is unchanged.
 */
export async function loadWeights(decoder: Decoder, folder: string): Promise<void> {
  const { files, found } = await openWeights(folder);
  try {
    await fillTensors(folder, found, decoder.parameters(), weightRules(decoder.config));
  } finally {
    await closeAll(files);
  }
}

/** The tensors that a folder with this configuration has. */
export function weightShapes(config: DecoderConfig): ReadonlyMap<string, Pick<Tensor, "shape" | "dtype">> {
  return new Map(parameterShapes(config).map(({ name, shape }) => [name, { shape, dtype: "f32" }]));
}

/** How the tensors of a folder are compared with those of its configuration. */
export function weightRules(config: DecoderConfig): FillOptions {
  return {
    // Tied checkpoints may repeat the embedding as lm_head; old ones carry RoPE's frequencies.
    ignored: (name) => (config.tiedEmbeddings && name === "lm_head.weight") || name.endsWith("rotary_emb.inv_freq"),
    hint: "config.json and weights do not fit together, or the architecture has parts that are not supported",
  };
}

/**
 * Reads a file of `saveTensors` into tensors of the same names, and returns the file's metadata.
 * @throws FileError for all tensors that are missing, unexpected or of another shape or type, in one; nothing is written then.
 */
export async function loadTensors(path: string, tensors: ReadonlyMap<string, Tensor>): Promise<Readonly<Record<string, string>>> {
  const file = await SafetensorsFile.open(path);
  try {
    await fillTensors(path, { byName: tensorsOf(file) }, tensors);
    return file.metadata;
  } finally {
    await file.close();
  }
}

/** The open weight files of a folder, and what they hold. Whoever opens them closes the files. @throws FileError */
export async function openWeights(folder: string): Promise<{ readonly files: readonly SafetensorsFile[]; readonly found: FoundTensors }> {
  const index = await readIndex(folder);
  const names = [...new Set(index?.values() ?? [WEIGHTS])].sort();
  if (index !== null) await refuseMissingShards(folder, index, names);
  const files = new Map<string, SafetensorsFile>();
  try {
    for (const name of names) files.set(name, await SafetensorsFile.open(join(folder, name)));
  } catch (error) {
    await closeAll(files.values());
    throw error;
  }
  const byName = new Map<string, FileTensor>();
  const lost = new Map<string, string>();
  for (const file of files.values()) for (const [name, found] of tensorsOf(file)) byName.set(name, found);
  // Where two shards have a tensor of one name, the index decides.
  for (const [name, shard] of index ?? []) {
    const file = files.get(shard)!;
    const entry = file.tensors.get(name);
    if (entry !== undefined) byName.set(name, { file, entry });
    else {
      byName.delete(name);
      lost.set(name, shard);
    }
  }
  return { files: [...files.values()], found: prefixed({ byName, lost }) };
}

/** Embedding models are often saved without what stands around the decoder: `layers.0...` is then `model.layers.0...`. */
function prefixed(found: FoundTensors & { readonly lost: ReadonlyMap<string, string> }): FoundTensors {
  const { byName, lost } = found;
  if (!byName.has("embed_tokens.weight") || [...byName.keys()].some((name) => name.startsWith("model."))) return found;
  const renamed = <T>(names: ReadonlyMap<string, T>): Map<string, T> =>
    new Map([...names].map(([name, value]) => [name.startsWith("lm_head.") ? name : `model.${name}`, value]));
  return { byName: renamed(byName), lost: renamed(lost) };
}

/** Tensor name to file name, from model.safetensors.index.json; null for a folder with one file, which comes first as in transformers. */
async function readIndex(folder: string): Promise<ReadonlyMap<string, string> | null> {
  if (await exists(join(folder, WEIGHTS))) return null;
  const path = join(folder, WEIGHTS_INDEX);
  if (!(await exists(path))) throw await noWeights(folder);
  const text = await readJsonText(path, "an index of weight files");
  const map = (JSON.parse(text) as { readonly weight_map?: unknown } | null)?.weight_map;
  if (typeof map !== "object" || map === null || Array.isArray(map))
    throw new FileError({ where: path, what: "weight_map is missing or wrong", expected: "an object from tensor names to file names" });
  const index = new Map<string, string>(Object.entries(map));
  for (const [tensor, file] of index)
    if (typeof file !== "string" || !/^[^/\\\0]+\.safetensors$/.test(file))
      throw new FileError({
        where: path,
        what: `weight_map names no file of this folder for "${clip(tensor)}"`,
        expected: "the plain name of a .safetensors file",
        got: clip(JSON.stringify(file)),
      });
  return index;
}

async function refuseMissingShards(folder: string, index: ReadonlyMap<string, string>, names: readonly string[]): Promise<void> {
  const missing: string[] = [];
  for (const name of names) if (!(await exists(join(folder, name)))) missing.push(name);
  if (missing.length === 0) return;
  const held = [...index.values()].filter((name) => missing.includes(name)).length;
  throw new FileError({
    where: folder,
    what: `${missing.length} of ${names.length} weight files are missing, with ${held} of ${index.size} tensors`,
    expected: missing.slice(0, 12).join(", ") + (missing.length > 12 ? ` and ${missing.length - 12} more` : ""),
    hint: `${WEIGHTS_INDEX} names them: copy or download them again`,
  });
}

/** The error of a folder without weights that can be read. */
async function noWeights(folder: string): Promise<FileError> {
  const names = (await exists(folder)) ? await readdir(folder) : [];
  const others = names.filter((name) => /\.(bin|pth?|gguf|h5|msgpack|safetensors)$/.test(name));
  return new FileError({
    where: folder,
    what: "there are no weights",
    expected: `${WEIGHTS}, or ${WEIGHTS_INDEX} with its files`,
    got: others.length === 0 ? undefined : others.slice(0, 4).join(", "),
    hint: others.length === 0 ? undefined : "convert them to safetensors first, or take a checkpoint that has them",
  });
}

/** Text of a JSON file, checked: what JSON.parse makes of it is all that it says. */
async function readJsonText(path: string, what: string): Promise<string> {
  const text = await readText(path, what);
  const scanner = new JsonScanner(text, path, "it");
  if (scanner.peek() === "{")
    scanner.object((name) => {
      if (name === "weight_map" && scanner.peek() === "{") scanner.object(() => scanner.skip());
      else scanner.skip();
    });
  else scanner.skip();
  scanner.end();
  return text;
}

export async function closeAll(files: Iterable<SafetensorsFile>): Promise<void> {
  await Promise.all([...files].map((file) => file.close()));
}
