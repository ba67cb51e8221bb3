/** Opens search by embeddings: what makes them, and an index of them, or one that is made of a corpus at each start. */
import { createHash } from "node:crypto";
import { readdir, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import { toElements } from "../tensor/dtype.ts";
import { ConfigError, DataError, FileError } from "../util/errors.ts";
import { counted } from "../util/plural.ts";
import { checkCorpus, hashCorpus } from "./corpus-hash.ts";
import { DecoderEmbedder } from "./dense/decoder-embedder.ts";
import { passageText, formOf, type Embedder, type EmbedderAbout } from "./dense/embedder.ts";
import { EncoderEmbedder, loadTransformers } from "./dense/encoder-embedder.ts";
import { EndpointEmbedder } from "./dense/endpoint-embedder.ts";
import { DenseFile, readDenseAbout } from "./dense/file-index.ts";
import { checkEmbedder } from "./dense/format.ts";
import { PassageMatrix } from "./dense/matrix.ts";
import { DenseSearch } from "./dense.ts";
import type { EmbeddingParts, EngineContext, IdentityContext, OpenedEngine } from "./engine-kind.ts";
import { readPassages, type Passage } from "./passages.ts";
import { keyIn } from "./secret.ts";
import { serverUrl } from "./server-url.ts";
import type { DenseSettings } from "./settings.ts";

/** Passages that are embedded at once where there is no index. */
const BATCH = 256;
/** Passages from which an index is worth making. */
const MANY = 20_000;

/** @throws as `openEmbedder`, and FileError for an index that does not fit; DataError as `readPassages` */
export async function openDense(settings: DenseSettings, context: EngineContext): Promise<OpenedEngine> {
  const { embedding } = context;
  if (embedding === undefined) throw new ConfigError({ where: "dense", what: "has no device to search on" });
  const embedder = await openEmbedder(settings, context);
  try {
    const engine =
      settings.index === null
        ? await overCorpus(settings, context, embedder, embedding)
        : await overIndex(settings.index, settings, context, embedder, embedding);
    return { engine, takeCounts: () => engine.takeCounts() };
  } catch (error) {
    await embedder.close();
    throw error;
  }
}

/** What is wrong before any model is loaded. @throws as `openDense` */
export async function checkDense(settings: DenseSettings, { corpus }: Pick<EngineContext, "corpus">): Promise<void> {
  const { index, endpoint, endpointKey, encoder } = settings;
  if (endpoint !== null) endpointUrl(endpoint);
  if (endpointKey !== null) keyOf(endpointKey);
  if (encoder !== null) await loadTransformers();
  if (index === null) {
    if (corpus === null) throw nothingToSearch();
    // A row that is wrong is found when it is read; a file that is missing is told of now.
    const passages = readPassages(corpus);
    await passages.next();
    await passages.return(undefined);
    return;
  }
  const about = await readDenseAbout(index);
  if (corpus !== null) await checkCorpus(index, about, corpus);
}

/**
 * What makes the embeddings that settings name.
 * @throws ConfigError for a wrong URL or variable, a package that is not installed, and where no model is given
 */
export async function openEmbedder(
  settings: DenseSettings,
  { embedding, seed, now, say }: Pick<EngineContext, "embedding" | "seed" | "now" | "say">,
): Promise<Embedder> {
  const { encoder, endpoint, instruction, batchTokens } = settings;
  const about = await embedderAbout(settings, embedding?.model?.decoder.dtype, embedding?.model?.folder);
  if (endpoint !== null) {
    const { endpointModel, endpointKey, endpointEncoding, endpointBatch, endpointConcurrency, endpointTimeout, endpointPatience } =
      settings;
    return new EndpointEmbedder({
      ...{ about, instruction, seed, now, endpoint: endpointUrl(endpoint), model: endpointModel },
      ...{ encoding: endpointEncoding, batch: endpointBatch, timeout: endpointTimeout },
      ...{ concurrency: endpointConcurrency, patience: endpointPatience },
      key: endpointKey === null ? undefined : keyOf(endpointKey),
      onOutage: ({ message }) => say(`dense: ${message}; trying again for up to ${endpointPatience} s (dense.endpointPatience)`),
      onAnswer: ({ seconds, retries }) =>
        say(`dense: answers again, after ${Math.round(seconds)} s and ${counted(retries, "retry", "retries")}`),
    });
  }
  if (encoder !== null)
    return EncoderEmbedder.open({ encoder, dtype: settings.encoderDtype, pooling: settings.encoderPooling, about, instruction });
  const model = embedding?.model ?? null;
  if (model === null)
    throw new ConfigError({
      where: "dense.path",
      what: "is missing",
      expected: "one of dense.path, dense.encoder and dense.endpoint",
      got: "null",
    });
  return new DecoderEmbedder({ model, about, instruction, batchTokens });
}

/** What answers depend on. @throws FileError where a file cannot be read */
export async function denseIdentity(
  settings: DenseSettings,
  { corpus, modelDtype, hashFile, pathHere }: IdentityContext,
): Promise<unknown> {
  const { documents, instruction, dtype, index, path, encoder } = settings;
  const here = { ...settings, path: path === null ? null : pathHere(path), encoder: encoder === null ? null : pathHere(encoder) };
  const { weights, ...made } = await embedderAbout(here, modelDtype);
  // One model may have several names, and f32 need not be said.
  const about = { ...made, model: undefined, weights: weights === "f32" || weights === "fp32" ? undefined : weights };
  const searched = index !== null ? (await readDenseAbout(pathHere(index))).sha256 : corpus === null ? null : await hashFile(corpus);
  return { documents, instruction, dtype, embedder: about, corpus: searched };
}

/**
 * @param dtype - of the weights of the model that `path` names
 * @param folder - of that model, where it is known
 */
async function embedderAbout(settings: DenseSettings, dtype: string | undefined, folder?: string): Promise<EmbedderAbout> {
  const { path, encoder, endpoint, endpointModel, maxTokens, dimensions } = settings;
  const shared = { form: formOf(settings), maxTokens, dimensions };
  if (endpoint !== null) return { ...shared, model: endpointModel, sha256: hashText(endpointModel), pooling: "server" };
  if (encoder !== null) {
    const sha256 = await hashModel(encoder, `${encoder} ${settings.encoderDtype}`);
    return { ...shared, model: encoder, sha256, pooling: settings.encoderPooling, weights: settings.encoderDtype };
  }
  const place = folder ?? path ?? "";
  return { ...shared, model: path ?? "", sha256: await hashModel(place, place), pooling: "last", weights: dtype };
}

/** The files of a model folder that its embeddings depend on. */
const modelFiles =
  /\.(safetensors|onnx|onnx_data)$|^(config|tokenizer|tokenizer_config|special_tokens_map|model\.safetensors\.index)\.json$/;

/** SHA-256 of the files of a model's folder, ONNX files in `onnx/` too; of its name where it is no folder of this machine. */
async function hashModel(folder: string, name: string): Promise<string> {
  if (!((await stat(folder).catch(() => null))?.isDirectory() ?? false)) return hashText(name);
  const hash = createHash("sha256");
  for (const place of [folder, join(folder, "onnx")]) {
    const names = await readdir(place).catch(() => [] as string[]);
    for (const file of names.filter((one) => modelFiles.test(one)).sort())
      hash.update(`${basename(file)} ${(await hashCorpus(join(place, file))).sha256}\n`);
  }
  return hash.digest("hex");
}

function hashText(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

async function overIndex(
  file: string,
  { documents, instruction, dtype }: DenseSettings,
  { say, progress, signal }: EngineContext,
  embedder: Embedder,
  { device }: EmbeddingParts,
): Promise<DenseSearch> {
  const index = await DenseFile.open(file);
  const { about } = index;
  let matrix: PassageMatrix | null = null;
  try {
    const [its, ours] = [about.embedder.weights, embedder.about.weights];
    // A policy and an index may want different types of one decoder's weights: near enough to search, and not the same.
    const rounded = embedder.about.pooling === "last" && its !== undefined && ours !== undefined && its !== ours;
    checkEmbedder(file, about.embedder, rounded ? { ...embedder.about, weights: its } : embedder.about);
    if (rounded)
      say(
        `dense: ${file} was made with weights of ${its}, and queries are embedded with ${ours}: scores differ in their last digits; model.dtype=${its} makes them alike`,
      );
    if (about.dtype !== dtype)
      throw new FileError({
        where: file,
        what: "its embeddings are of another type",
        expected: `${dtype} (dense.dtype)`,
        got: about.dtype,
        hint: `dense.dtype=${about.dtype} searches it.`,
      });
    if (about.instruction !== instruction) say(`dense: ${file} was made for another instruction; its passages do not depend on it`);
    matrix = new PassageMatrix({ device, passages: about.passages, dimensions: about.width, dtype });
    const bar = about.passages < MANY ? undefined : progress?.({ label: `loading ${file}`, total: about.passages, unit: "passages" });
    try {
      for await (const { first, values } of index.vectors()) {
        signal?.throwIfAborted();
        matrix.write(values, first);
        bar?.update(first + values.length / about.width);
      }
    } finally {
      bar?.finish();
    }
    const parts = { embedder, matrix, documents, about, size: about.passages, width: about.width };
    return new DenseSearch({
      ...parts,
      numberOf: (id) => index.numberOf(id),
      passages: (numbers) => index.passages(numbers),
      close: () => index.close(),
    });
  } catch (error) {
    matrix?.dispose();
    index.close();
    throw error;
  }
}

/** Embeddings of a corpus, made now and held on the device. */
async function overCorpus(
  { documents, dtype }: DenseSettings,
  { corpus, say, progress, signal }: EngineContext,
  embedder: Embedder,
  { device }: EmbeddingParts,
): Promise<DenseSearch> {
  if (corpus === null) throw nothingToSearch();
  const passages: Passage[] = [];
  for await (const passage of readPassages(corpus)) {
    if (passages.push(passage) % 1024 === 0) signal?.throwIfAborted();
  }
  const size = passages.length;
  if (size === 0) throw new DataError({ where: corpus, what: "the corpus is empty", expected: "at least one passage", got: "none" });
  if (size >= MANY)
    say(`dense: ${size} passages are embedded at every start; zerosearch index ${corpus} --dense does it once (dense.index)`);
  const bar = progress?.({ label: `embedding ${corpus}`, total: size, unit: "passages" });
  let matrix: PassageMatrix | null = null;
  let [width, truncated] = [0, 0];
  try {
    for (let first = 0; first < size; first += BATCH) {
      const texts = passages.slice(first, first + BATCH).map(passageText);
      const made = await embedder.embed(texts, "passage", signal);
      width = made.vectors[0]?.length ?? 0;
      matrix ??= new PassageMatrix({ device, passages: size, dimensions: width, dtype });
      const values = new Float32Array(made.vectors.length * width);
      made.vectors.forEach((vector, i) => values.set(vector, i * width));
      matrix.write(toElements(values, dtype) as Float32Array | Uint16Array, first);
      truncated += made.truncated;
      bar?.update(Math.min(size, first + BATCH));
    }
    bar?.finish();
    if (truncated > 0)
      say(`dense: ${truncated} of ${counted(size, "passage")} cut to ${embedder.about.maxTokens} tokens (dense.maxTokens)`);
    const found = (numbers: readonly number[]): Promise<Passage[]> => Promise.resolve(numbers.map((number) => passages[number] as Passage));
    const parts = { embedder, matrix: matrix as PassageMatrix, documents, size, width, about: null };
    let byId: ReadonlyMap<string, number> | null = null;
    const numberOf = (id: string): Promise<number | null> => {
      byId ??= new Map(passages.map((passage, number) => [passage.id, number]));
      return Promise.resolve(byId.get(id) ?? null);
    };
    return new DenseSearch({ ...parts, passages: found, numberOf, close: () => undefined });
  } catch (error) {
    bar?.finish();
    matrix?.dispose();
    throw error;
  }
}

function nothingToSearch(): ConfigError {
  return new ConfigError({
    where: "data.corpus",
    what: "is missing",
    expected: "a path, or an index in dense.index: dense has nothing to search",
    got: "null",
  });
}

function endpointUrl(text: string): URL {
  const [where, expected] = ["dense.endpoint", "a base URL such as http://127.0.0.1:8000/v1"];
  const url = serverUrl(where, text, expected, "of dense.endpointKey");
  if (/\/embeddings\/*$/.test(url.pathname))
    throw new ConfigError({ where, what: "is the address of one method", expected, got: `${url.origin}${url.pathname}` });
  return url;
}

function keyOf(variable: string): string {
  const help = `Set it (export ${variable}=...), or leave dense.endpointKey out where the endpoint needs none. The key itself is written nowhere.`;
  return keyIn(variable, "dense.endpointKey", help);
}
