/** Models as Hugging Face folders: config.json and model.safetensors, or shards listed in model.safetensors.index.json. */
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Device, Dtype } from "../device/device.ts";
import { fromHuggingFace, parameterShapes, toHuggingFace, type DecoderConfig } from "../nn/config.ts";
import { Decoder, type DecoderOptions } from "../nn/decoder.ts";
import { formatShape, sameShape } from "../tensor/shape.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { ConfigError, FileError } from "../util/errors.ts";
import { exists, writeError, writeFileAtomic } from "./atomic.ts";
import { SafetensorsFile, writeSafetensors, type TensorSource } from "./safetensors.ts";

type FloatDtype = Exclude<Dtype, "u32">;

async function readJson(path: string, what: string): Promise<unknown> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (cause) {
    throw new FileError(
      { where: path, what: "cannot be read", expected: what, got: (cause as NodeJS.ErrnoException).code ?? String(cause) },
      { cause },
    );
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new FileError({ where: path, what: `not JSON: ${(cause as Error).message}`, expected: what }, { cause });
  }
}

/** The configuration of the model in a folder. @throws FileError, ConfigError */
export async function loadConfig(folder: string): Promise<DecoderConfig> {
  const path = join(folder, "config.json");
  return fromHuggingFace(await readJson(path, "a model's config.json"), path);
}

/** The open weight files of a folder, and which holds which tensor. */
interface WeightFiles {
  readonly files: readonly SafetensorsFile[];
  readonly byName: ReadonlyMap<string, SafetensorsFile>;
}

/** Tensor name to file name, from model.safetensors.index.json; null for a folder with one file. */
async function readIndex(folder: string): Promise<ReadonlyMap<string, string> | null> {
  const index = join(folder, "model.safetensors.index.json");
  if ((await exists(join(folder, "model.safetensors"))) || !(await exists(index))) return null;
  const { weight_map: map } = (await readJson(index, "an index of weight files")) as { weight_map?: unknown };
  if (typeof map !== "object" || map === null || !Object.values(map).every((file) => typeof file === "string"))
    throw new FileError({ where: index, what: "weight_map is missing or wrong", expected: "an object from tensor names to file names" });
  return new Map(Object.entries(map as Record<string, string>));
}

async function openWeights(folder: string): Promise<WeightFiles> {
  const index = await readIndex(folder);
  const opened = new Map<string, SafetensorsFile>();
  const byName = new Map<string, SafetensorsFile>();
  try {
    for (const name of new Set(index?.values() ?? ["model.safetensors"])) opened.set(name, await SafetensorsFile.open(join(folder, name)));
    for (const file of opened.values()) for (const name of file.tensors.keys()) if (index === null) byName.set(name, file);
    for (const [name, fileName] of index ?? []) {
      const file = opened.get(fileName)!;
      if (!file.tensors.has(name))
        throw new FileError({
          where: file.path,
          what: `tensor "${name}" is missing`,
          expected: "it here, as model.safetensors.index.json says",
        });
      byName.set(name, file);
    }
  } catch (error) {
    await closeAll(opened.values());
    throw error;
  }
  return { files: [...opened.values()], byName };
}

async function closeAll(files: Iterable<SafetensorsFile>): Promise<void> {
  await Promise.all([...files].map((file) => file.close()));
}

/** Writes file tensors into tensors of the same names; every name and shape must match. */
async function fillTensors(
  where: string,
  byName: ReadonlyMap<string, SafetensorsFile>,
  wanted: ReadonlyMap<string, Tensor>,
  ignored: (name: string) => boolean,
): Promise<void> {
  const list = (names: string[]): string => names.slice(0, 4).join(", ") + (names.length > 4 ? ` and ${names.length - 4} more` : "");
  const missing = [...wanted.keys()].filter((name) => !byName.has(name));
  if (missing.length > 0)
    throw new FileError({
      where,
      what: `${missing.length} of ${wanted.size} tensors are missing`,
      expected: list(missing),
      got: list([...byName.keys()].filter((name) => !wanted.has(name))) || "nothing else",
    });
  const unexpected = [...byName.keys()].filter((name) => !wanted.has(name) && !ignored(name));
  if (unexpected.length > 0)
    throw new FileError({
      where,
      what: `${unexpected.length} tensors belong to no parameter of this model: ${list(unexpected)}`,
      hint: "config.json and weights do not fit together, or the architecture has parts that are not supported",
    });
  for (const [name, tensor] of wanted) {
    const { shape } = byName.get(name)!.tensors.get(name)!;
    if (!sameShape(shape, tensor.shape))
      throw new FileError({
        where: byName.get(name)!.path,
        what: `tensor "${name}" has the wrong shape`,
        expected: formatShape(tensor.shape),
        got: formatShape(shape),
      });
  }
  for (const [name, tensor] of wanted) {
    if (tensor.dtype === "u32") throw new ConfigError({ where, what: `"${name}" does not hold floats` });
    for await (const { firstRow, data } of byName.get(name)!.rows(name, tensor.dtype)) tensor.write(data, firstRow);
  }
}

/**
 * Loads a model folder onto a device. Weights of any float type are converted to `options.dtype` (f32 unless told), exactly where it
 * is wider. The caller disposes of the decoder.
 * @throws FileError for a missing, truncated or malformed file, and for a missing, unexpected or mis-shaped tensor, by name.
 * @throws ConfigError for an architecture or feature that is not supported.
 */
export async function loadDecoder(folder: string, device: Device, options: DecoderOptions = {}): Promise<Decoder> {
  const config = await loadConfig(folder);
  const decoder = new Decoder(config, device, options);
  try {
    await loadWeights(decoder, folder);
    return decoder;
  } catch (error) {
    decoder.dispose();
    throw error;
  }
}

/** Writes a folder's weights into a decoder that has the same shapes. @throws FileError as `loadDecoder` */
export async function loadWeights(decoder: Decoder, folder: string): Promise<void> {
  const weights = await openWeights(folder);
  try {
    // Tied checkpoints may repeat the embedding as lm_head; old ones carry RoPE's frequencies.
    const ignored = (name: string): boolean =>
      (decoder.config.tiedEmbeddings && name === "lm_head.weight") || name.endsWith("rotary_emb.inv_freq");
    await fillTensors(folder, weights.byName, decoder.parameters(), ignored);
  } finally {
    await closeAll(weights.files);
  }
}

const torchDtype: Readonly<Record<FloatDtype, string>> = { f32: "float32", f16: "float16", bf16: "bfloat16" };

/**
 * Saves config.json and model.safetensors to a folder, which is made if need be; each file whole or not at all. `dtype` is that of
 * the decoder unless told. Tied heads are not written twice.
 * @throws FileError
 */
export async function saveDecoder(decoder: Decoder, folder: string, options: { readonly dtype?: FloatDtype } = {}): Promise<void> {
  const dtype = options.dtype ?? (decoder.dtype as FloatDtype);
  await makeFolder(folder);
  const names = parameterShapes(decoder.config).map(({ name }) => name);
  await saveTensors(join(folder, "model.safetensors"), new Map(names.map((name) => [name, decoder.parameters().get(name)!])), { dtype });
  const config = { ...toHuggingFace(decoder.config), torch_dtype: torchDtype[dtype] } as Record<string, unknown>;
  // transformers 5 writes the same fact as `dtype`.
  if ("dtype" in config) config["dtype"] = torchDtype[dtype];
  await writeFileAtomic(join(folder, "config.json"), `${JSON.stringify(config, null, 2)}\n`);
}

async function makeFolder(folder: string): Promise<void> {
  try {
    await mkdir(folder, { recursive: true });
  } catch (cause) {
    throw writeError(folder, cause, "nothing was written");
  }
}

/** Saves named float tensors (weights, optimiser moments, an adapter) as one safetensors file. @throws FileError */
export async function saveTensors(
  path: string,
  tensors: ReadonlyMap<string, Tensor>,
  options: { readonly dtype?: FloatDtype; readonly metadata?: Readonly<Record<string, string>> } = {},
): Promise<void> {
  const sources = [...tensors].map(([name, tensor]): TensorSource => ({
    name,
    shape: tensor.shape,
    dtype: options.dtype ?? (tensor.dtype as FloatDtype),
    sourceDtype: tensor.dtype as FloatDtype,
    read: (firstRow, rows) => tensor.device.read(tensor.storage, firstRow, rows),
  }));
  await writeSafetensors(path, sources, options.metadata);
}

/**
 * Reads a file of `saveTensors` into tensors of the same names, and returns the file's metadata.
 * @throws FileError for a missing, unexpected or mis-shaped tensor.
 */
export async function loadTensors(path: string, tensors: ReadonlyMap<string, Tensor>): Promise<Readonly<Record<string, string>>> {
  const file = await SafetensorsFile.open(path);
  try {
    await fillTensors(path, new Map([...file.tensors.keys()].map((name) => [name, file])), tensors, () => false);
    return file.metadata;
  } finally {
    await file.close();
  }
}
